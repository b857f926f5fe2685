//! How long a search still takes.

use std::time::Duration;

use super::conduct::Step;
use super::search::Phase;
use crate::units::{format_rate, several};

/// What the estimate is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eta {
    /// Of each load.
    pub(super) warmup: Duration,
    /// Of the longest loads.
    pub(super) duration: Duration,
    /// Loads that come after the search.
    pub(super) curve_loads: usize,
}

impl Eta {
    /// Says what begins, and about how long everything still takes.
    pub(super) fn tell(&self, step: &Step<'_>) {
        if let Some(line) = self.line(step) {
            eprintln!("{line}");
        }
    }

    fn line(&self, step: &Step<'_>) -> Option<String> {
        let Step::Begin {
            number,
            left,
            rate_per_s,
            phase,
        } = step
        else {
            return None;
        };
        let rate = format_rate(*rate_per_s);
        let loads_left: u32 = left.iter().map(|(_, loads)| loads).sum();
        Some(format!(
            "load {number} of about {}, about {} left: {}, {rate} calls/s",
            number + loads_left.max(1) as usize - 1 + self.curve_loads,
            several(self.left(left).as_secs().max(1) as usize, "second"),
            phase.name()
        ))
    }

    fn left(&self, left: &[(Phase, u32); 4]) -> Duration {
        let load = |ratio| self.warmup + self.duration.mul_f64(ratio);
        let search = left.iter().map(|(phase, loads)| {
            // About half of the loads on the way fail, and failures are repeated.
            let repeated = match phase {
                Phase::Ramp | Phase::Bisect => REPEATED,
                Phase::Confirm | Phase::Bracket => 1.0,
            };
            load(phase.time_ratio()).mul_f64(f64::from(*loads) * repeated)
        });
        let curve = load(super::commands::CURVE_TIME_RATIO) * self.curve_loads as u32;
        search.sum::<Duration>() + curve
    }
}

const REPEATED: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_loads_and_seconds() {
        let eta = Eta {
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            curve_loads: 10,
        };
        let left = [
            (Phase::Ramp, 0),
            (Phase::Bisect, 2),
            (Phase::Confirm, 2),
            (Phase::Bracket, 0),
        ];
        let step = Step::Begin {
            number: 5,
            left,
            rate_per_s: 12_345.0,
            phase: Phase::Bisect,
        };
        // 2 × 1.5 × 4 s, 2 × 11 s, and ten loads of 4 s.
        let expected = "load 5 of about 18, about 74 seconds left: bisect, 12.3 k calls/s";
        assert_eq!(eta.line(&step).as_deref(), Some(expected));
    }
}
