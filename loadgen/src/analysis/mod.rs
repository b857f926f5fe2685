//! What measurements mean: statistics, models and objectives.
//!
//! Everything here is a pure function of its arguments; what is random takes a seed. Times are in
//! nanoseconds unless a name says otherwise, rates in calls per second.

pub mod slo;
