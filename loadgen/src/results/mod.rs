//! The result folder: what a measurement leaves behind, and what reports are made from.
//!
//! `results/<UTC>-<commit>-<name>/` holds one or several *points*. A point is one load that was run
//! once: a run has one, a sweep has one per rate. Everything about a point carries its number.
//!
//! | File | Holds | Type |
//! |---|---|---|
//! | `manifest.json` | what was asked for, and of which machine and build | [`Manifest`] |
//! | `summary.json` | what came out, with verdicts | [`Summary`] |
//! | `points.csv` | one row per point | [`PointRow`] |
//! | `timeseries.csv` | one row per point and interval | [`IntervalRow`] |
//! | `errors.csv` | calls that failed alike, by interval; only if some did | [`ErrorRow`] |
//! | `server.csv` | the server's process, per point and interval | [`ServerRow`] |
//! | `shards.csv` | the server's shards, per point | [`ShardRow`] |
//! | `latency.hlog` | histograms per interval, point, method and kind (HdrHistogram log, V2) | [`HistogramKey`] |
//! | `*.hgrm` | percentiles per point and kind, for the usual plotters | [`hgrm`] |
//!
//! Units stand at the end of names: `_ns` nanoseconds, `_s` seconds, `_us` microseconds, `_per_s` per
//! second, `_ratio` from 0 to 1. Times of latency are whole nanoseconds everywhere. No file holds a
//! host's name, a user's, or a path.
//!
//! A point counts only calls whose *intended* time lies in the measured window; warm-up is in none of
//! the files. These always hold, and [`CallCounts::check`] checks them:
//!
//! - scheduled = sent + unsent, and sent = ok + error + timeout + unfinished;
//! - the response histogram has ok + timeout + unfinished + unsent values (the last three are
//!   censored: they had waited at least that long), the service histogram the same without the
//!   unsent, the histograms of room wait and own lag one value for each call that was sent. Failed calls are in the counts
//!   alone: a server that refuses at once must not look fast.

mod disturbance;
mod failures;
mod folder;
pub mod hgrm;
mod histograms;
mod manifest;
mod summary;
mod tables;

pub use self::disturbance::{Disturbance, Pauses};
pub use self::failures::{FailureCount, Failures};
pub use self::folder::{FolderError, ResultReader, ResultWriter, folder_name, wall_clock};
pub use self::histograms::{HistogramKey, IntervalHistogram, Kind, TOTAL};
pub use self::manifest::{
    AgentInfo, Build, Isolation, LimitPair, LoadSettings, LoopKind, Machine, Manifest, MethodShare,
    Pinning, Protocol, Uring,
};
pub use self::summary::{
    CallCounts, Ceiling, Completion, FullCap, KeptRate, Latency, MethodSummary, PERCENTILES,
    Percentile, PointSummary, Quiet, QuietVerdict, ServerUse, SloCheck, SloOutcome, Spread, Stalls,
    Summary, Validity, is_reportable,
};
pub use self::tables::{ErrorRow, IntervalRow, PointRow, ServerRow, ShardRow};

/// Version of the files' shape. In version 3 what was the send lag is told apart: waiting for room, and the
/// generator's own lag.
pub const SCHEMA_VERSION: u32 = 3;
/// The oldest version that is still read; readers refuse those before it, and those that come after
/// [`SCHEMA_VERSION`].
pub const SCHEMA_VERSION_MIN: u32 = 3;
