//! How long a study still takes.

use std::time::Duration;

use super::conduct::Step;
use super::live::LONGER_MAX;
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
    /// Calls that each load wants at least; one at a low rate takes longer for them.
    pub(super) calls_min: f64,
}

/// Says which of the loads of a study begins, and about how long it and those after it take.
pub(super) fn tell_load(number: usize, labels: &[(String, Duration)]) {
    eprintln!("{}", load_line(number, labels));
}

fn load_line(number: usize, labels: &[(String, Duration)]) -> String {
    let left: Duration = labels[number - 1..].iter().map(|(_, time)| *time).sum();
    format!(
        "load {number} of {}, about {} left: {}",
        labels.len(),
        several(left.as_secs().max(1) as usize, "second"),
        labels[number - 1].0
    )
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
            time_left_s,
        } = step
        else {
            return None;
        };
        let rate = format_rate(*rate_per_s);
        let loads_left: u32 = left.iter().map(|(_, loads)| loads).sum();
        Some(format!(
            "load {number} of about {}, about {} left: {}, {rate} calls/s",
            number + loads_left.max(1) as usize - 1 + self.curve_loads,
            several(
                self.left(left, *rate_per_s, *time_left_s).as_secs().max(1) as usize,
                "second"
            ),
            phase.name()
        ))
    }

    /// All further loads are taken to be at about the same rate.
    fn left(&self, left: &[(Phase, u32); 4], rate_per_s: f64, time_left_s: f64) -> Duration {
        let for_calls = Duration::from_secs_f64(self.calls_min / rate_per_s);
        let for_calls = for_calls.min(self.duration * LONGER_MAX);
        let load = |ratio| self.warmup + self.duration.mul_f64(ratio).max(for_calls);
        let search = left.iter().map(|(phase, loads)| {
            // About half of the loads on the way fail, and failures are repeated; so are candidates that
            // longer loads refuse.
            let repeated = match phase {
                Phase::Ramp | Phase::Bisect | Phase::Confirm => REPEATED,
                Phase::Bracket => 1.0,
            };
            load(phase.time_ratio()).mul_f64(f64::from(*loads) * repeated)
        });
        let curve_load = self.warmup + self.duration.mul_f64(super::commands::CURVE_TIME_RATIO);
        let curve = curve_load * self.curve_loads as u32;
        let search: Duration = search.sum();
        // Whatever happens, it takes no longer than that and the load under way.
        let last = self.warmup + self.duration;
        let at_most = Duration::try_from_secs_f64(time_left_s.max(0.0)).unwrap_or(Duration::MAX);
        search.min(at_most.saturating_add(last)) + curve
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
            calls_min: 12_000.0,
        };
        let left = [
            (Phase::Ramp, 0),
            (Phase::Bisect, 2),
            (Phase::Confirm, 2),
            (Phase::Bracket, 0),
        ];
        let step_at = |rate_per_s| Step::Begin {
            number: 5,
            left,
            rate_per_s,
            phase: Phase::Bisect,
            time_left_s: f64::INFINITY,
        };
        let step = step_at(12_345.0);
        // 2 × 1.5 × 4 s, 2 × 1.5 × 11 s, and ten loads of 4 s.
        let expected = "load 5 of about 18, about 85 seconds left: bisect, 12.3 k calls/s";
        assert_eq!(eta.line(&step).as_deref(), Some(expected));
        // Each load takes 60 s for its calls: 3 × 61 s, 3 × 61 s, and as much as the ten of 4 s.
        let slow = eta.line(&step_at(200.0)).unwrap();
        assert!(slow.contains("about 406 seconds left"), "{slow}");
        // Its time is nearly up: 5 s, a load of 11 s, ten of 4 s.
        let Step::Begin { left, .. } = step else {
            unreachable!("it was made above");
        };
        let step = Step::Begin {
            number: 5,
            left,
            rate_per_s: 12_345.0,
            phase: Phase::Bisect,
            time_left_s: 5.0,
        };
        let short = eta.line(&step).unwrap();
        assert!(short.contains("about 56 seconds left"), "{short}");
    }

    #[test]
    fn the_loads_of_a_sweep_are_counted_down() {
        let seconds = Duration::from_secs;
        let labels = [
            ("one".to_owned(), seconds(5)),
            ("two".to_owned(), seconds(7)),
        ];
        assert_eq!(
            load_line(1, &labels),
            "load 1 of 2, about 12 seconds left: one"
        );
        assert_eq!(
            load_line(2, &labels),
            "load 2 of 2, about 7 seconds left: two"
        );
    }
}
