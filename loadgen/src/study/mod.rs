//! Studies: many loads with a question in mind.
//!
//! A study decides which load comes next from what the loads before it have shown. The decisions
//! are pure ([`search`], [`sweep`], [`compare`]) and know a load only as a [`Probe`]: a load in, a
//! measured point out. So they are tested against simulated servers, whose truth is known.

pub mod args;
pub mod commands;
pub mod compare;
pub mod conduct;
mod eta;
pub mod judge;
mod live;
pub mod record;
pub mod search;
#[cfg(test)]
pub(crate) mod simulated;
pub mod sweep;

use hdrhistogram::Histogram;

use crate::analysis::bounds::TAIL_CALLS_MIN;
use crate::results::PointSummary;
use crate::units::format_per_s;

/// What differs between the loads of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What distinguishes it, for people.
    pub label: String,
    /// Calls per second; `None`: a closed loop, in which each caller waits for its answer.
    pub rate_per_s: Option<f64>,
    /// Connections, if not those of the command line.
    pub conns: Option<u32>,
    /// Most calls in flight on each, if not that of the command line.
    pub depth: Option<u32>,
    /// The server's shards, if not those of the command line.
    pub shards: Option<u32>,
    /// Which of two targets.
    pub side: Side,
    /// Its length, as a share of the usual.
    pub time_ratio: f64,
    /// At least so many calls are wanted, even if that takes longer than usual.
    pub calls_min: f64,
    /// Seed of its schedule.
    pub seed: u64,
}

/// Which of two targets a load goes to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Side {
    /// The only one, or the one that the other is compared with.
    #[default]
    A,
    /// The other.
    B,
}

/// What a load has shown.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The point as it stands in the result folder.
    pub point: PointSummary,
    /// Response times of all methods, for each interval of the window in order.
    pub responses_ns: Vec<Histogram<u64>>,
}

/// Runs loads.
pub trait Probe {
    /// Why a load could not be run at all.
    type Error;

    /// Runs a load to its end, and keeps what it has shown.
    ///
    /// # Errors
    /// When nothing was measured.
    fn probe(&mut self, load: &Load) -> Result<Probed, Self::Error>;
}

impl Load {
    /// A load at a rate.
    pub fn at_rate(rate_per_s: f64, seed: u64) -> Self {
        Self {
            label: format!("{}/s", format_per_s(rate_per_s)),
            rate_per_s: Some(rate_per_s),
            conns: None,
            depth: None,
            shards: None,
            side: Side::A,
            time_ratio: 1.0,
            calls_min: 0.0,
            seed,
        }
    }

    /// A closed loop.
    pub fn closed(label: String, seed: u64) -> Self {
        Self {
            label,
            rate_per_s: None,
            ..Self::at_rate(0.0, seed)
        }
    }
}

/// Calls that state a quantile, with some to spare: arrivals are random, and their number too.
pub fn calls_for(quantile: f64) -> f64 {
    TAIL_CALLS_MIN / (1.0 - quantile) * CALLS_SPARE
}

const CALLS_SPARE: f64 = 1.2;
