//! The tables: `points.csv`, `timeseries.csv`, `errors.csv`, `server.csv`, `shards.csv`. Empty cells are unknown.

use serde::{Deserialize, Serialize};

use super::manifest::{LoopKind, Protocol};

/// A row of `points.csv`: one point, flat, for spreadsheets and plots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointRow {
    /// Its number, as everywhere.
    pub point: u32,
    /// What distinguishes it.
    pub label: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Open or closed loop.
    pub loop_kind: LoopKind,
    /// The server's shards.
    pub shards: Option<u32>,
    /// Connections.
    pub conns: u32,
    /// Most calls in flight on each.
    pub depth: u32,
    /// Threads of the generator.
    pub threads: u32,
    /// Length of the window.
    pub window_s: f64,
    /// Scheduled calls per second.
    pub offered_per_s: f64,
    /// Answered calls per second.
    pub achieved_per_s: f64,
    /// Whether the figures mean anything.
    pub is_valid: bool,
    /// Why not, separated by `; `.
    pub invalid_reasons: String,
    /// Whether the objective was met.
    pub is_slo_met: Option<bool>,
    /// Median response time. Percentiles are empty where too few values lie beyond them.
    pub p50_ns: Option<u64>,
    /// 90 % do not exceed it.
    pub p90_ns: Option<u64>,
    /// 99 %.
    pub p99_ns: Option<u64>,
    /// 99.9 %.
    pub p999_ns: Option<u64>,
    /// Longest response time.
    pub max_ns: u64,
    /// Mean response time.
    pub mean_ns: f64,
    /// Lower end of the 95 % confidence interval of `p50_ns`, where one was calculated.
    pub p50_low_ns: Option<u64>,
    /// Its upper end.
    pub p50_high_ns: Option<u64>,
    /// The same for `p99_ns`.
    pub p99_low_ns: Option<u64>,
    /// Its upper end.
    pub p99_high_ns: Option<u64>,
    /// The same for `p999_ns`.
    pub p999_low_ns: Option<u64>,
    /// Its upper end.
    pub p999_high_ns: Option<u64>,
    /// 99 % of the service times do not exceed it.
    pub service_p99_ns: Option<u64>,
    /// 99 % of the room waits do not exceed it.
    pub room_wait_p99_ns: Option<u64>,
    /// 99 % of the generator's own lags do not exceed it.
    pub own_lag_p99_ns: Option<u64>,
    /// Calls that were due.
    pub scheduled: u64,
    /// Calls that went out.
    pub sent: u64,
    /// Calls that were answered.
    pub ok: u64,
    /// Calls that failed.
    pub error: u64,
    /// Calls given up.
    pub timeout: u64,
    /// Calls without an answer at the end.
    pub unfinished: u64,
    /// Mean number in flight.
    pub in_flight_mean: f64,
    /// CPU time of the server per answered call.
    pub server_cpu_us_per_call: Option<f64>,
    /// CPUs that the server kept busy.
    pub server_cpus_busy: Option<f64>,
}

/// A row of `timeseries.csv`: one interval of a point.
///
/// Sent calls and answers are counted where they happened, so the sums over a point are near those
/// in the counts but not equal to them. After the window, while calls in flight are awaited, there
/// may be further rows: they hold answers of calls that were due within the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    /// The point.
    pub point: u32,
    /// Number of the interval, from 0.
    pub interval: u32,
    /// Its beginning, since that of the point's window.
    pub start_s: f64,
    /// Its length.
    pub length_s: f64,
    /// Calls sent in it that were due within the window.
    pub sent: u64,
    /// Calls answered in it, whenever they were due.
    pub answered: u64,
    /// Answers to calls that were due within the window.
    pub ok: u64,
    /// Calls that failed.
    pub error: u64,
    /// Calls given up.
    pub timeout: u64,
    /// Time average of calls between their intended time and their end.
    pub in_flight_mean: f64,
    /// Median response time of the calls that ended in it; empty where too few did.
    pub p50_ns: Option<u64>,
    /// 99 % do not exceed it.
    pub p99_ns: Option<u64>,
    /// 99.9 %.
    pub p999_ns: Option<u64>,
    /// The longest.
    pub max_ns: u64,
    /// 99 % of the room waits do not exceed it.
    pub room_wait_p99_ns: Option<u64>,
    /// 99 % of the generator's own lags do not exceed it.
    pub own_lag_p99_ns: Option<u64>,
    /// The longest own lag.
    pub own_lag_max_ns: u64,
}

/// A row of `errors.csv`: calls of one interval that failed alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorRow {
    /// The point.
    pub point: u32,
    /// The interval's number.
    pub interval: u32,
    /// Its beginning, since that of the point's window.
    pub start_s: f64,
    /// Whether the server said so. Otherwise the generator's own client did.
    pub is_of_server: bool,
    /// How many.
    pub count: u64,
    /// Why.
    pub text: String,
}

/// A row of `server.csv`: the server's process in one interval of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerRow {
    /// The point.
    pub point: u32,
    /// The interval's beginning, since that of the point's window.
    pub start_s: f64,
    /// Its length.
    pub length_s: f64,
    /// CPU time, in its own code and in the kernel, to the nanosecond.
    pub cpu_ns: u64,
    /// CPU time in its own code. The kernel tells it in steps of 10 ms.
    pub cpu_user_s: f64,
    /// CPU time in the kernel, in the same steps.
    pub cpu_system_s: f64,
    /// Context switches because it waited.
    pub voluntary_switches: u64,
    /// Context switches because its CPU was wanted for something else.
    pub involuntary_switches: u64,
    /// Resident memory at the end of the interval.
    pub rss_bytes: u64,
    /// Threads at the end of the interval.
    pub threads: u64,
}

/// A row of `shards.csv`: one shard of the server over a point, warm-up included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// The point.
    pub point: u32,
    /// The shard's number.
    pub shard: u32,
    /// The CPU that it is pinned to.
    pub cpu: Option<u32>,
    /// Its connections at the end.
    pub connections: u64,
    /// Requests that it was given.
    pub requests: u64,
    /// Messages read where they were received.
    pub in_place: u64,
    /// Messages that had to be copied first.
    pub copied: u64,
    /// Large messages received into a buffer of their own.
    pub direct: u64,
}
