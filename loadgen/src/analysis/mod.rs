//! What measurements mean: statistics, models and objectives.
//!
//! Everything here is a pure function of its arguments; what is random takes a seed. Times are in
//! nanoseconds unless a name says otherwise, rates in calls per second.

pub mod bounds;
pub mod capacity;
pub mod knee;
pub mod median;
pub mod paired;
pub mod queueing;
pub mod slo;
pub mod usl;
pub mod utilisation;

/// An estimate, and where the truth lies with the confidence that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
}

/// The element of an ascending slice below which a share of it lies.
fn quantile_of_sorted(sorted: &[f64], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
