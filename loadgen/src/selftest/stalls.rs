//! How often the machine takes a CPU away from a thread that never sleeps.

use std::thread;
use std::time::{Duration, Instant};

use super::theory::stall_exceedance;
use crate::results::Stalls;
use crate::target::placement::pin;

/// What a thread that only reads the clock has seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ObservedStalls {
    /// Times between readings that were further apart than [`GAP_NS_MIN`].
    gaps_ns: Vec<u64>,
    time_ns: f64,
}

impl ObservedStalls {
    pub(super) fn stalls(&self) -> Stalls {
        Stalls {
            lost_ratio: self.gaps_ns.iter().sum::<u64>() as f64 / self.time_ns,
            longest_ns: self.gaps_ns.iter().copied().max().unwrap_or(0),
        }
    }

    /// The p99 own lag of a generator without fault, that is busy for this share of the time, if it
    /// stands still like that.
    pub(super) fn lag_p99_ns(&self, busy_ratio: f64) -> f64 {
        // Calls that come due in a stall wait for its rest, and those after it until the generator has
        // caught up.
        let late_ratio = |lag_ns: f64| {
            let late = self
                .gaps_ns
                .iter()
                .map(|&gap_ns| stall_exceedance(lag_ns, gap_ns as f64, busy_ratio, self.time_ns));
            late.sum::<f64>()
        };
        let (mut low_ns, mut high_ns) = (0.0, self.stalls().longest_ns as f64);
        for _ in 0..HALVINGS {
            let middle_ns = (low_ns + high_ns) / 2.0;
            if late_ratio(middle_ns) > 0.01 {
                low_ns = middle_ns;
            } else {
                high_ns = middle_ns;
            }
        }
        high_ns
    }
}

/// Reads the clock on a CPU for some time, while another is as busy: a host that has fewer CPUs than
/// it lends out shows only then.
pub(super) fn look(cpu: usize, busy_cpu: usize, time: Duration) -> ObservedStalls {
    let watch = move |cpu| {
        // Unpinned it sees at least what the scheduler does.
        pin(&[cpu]).ok();
        gaps(time)
    };
    let gaps_ns = thread::scope(|scope| {
        scope.spawn(move || watch(busy_cpu));
        scope.spawn(move || watch(cpu)).join().unwrap_or_default()
    });
    ObservedStalls {
        gaps_ns,
        time_ns: time.as_nanos() as f64,
    }
}

fn gaps(time: Duration) -> Vec<u64> {
    let start = Instant::now();
    let (mut last_ns, mut gaps_ns) = (0, Vec::new());
    loop {
        let now_ns = start.elapsed().as_nanos() as u64;
        if now_ns - last_ns > GAP_NS_MIN {
            gaps_ns.push(now_ns - last_ns);
        }
        last_ns = now_ns;
        if u128::from(now_ns) > time.as_nanos() {
            return gaps_ns;
        }
    }
}

/// Reading the clock takes a fraction of this.
const GAP_NS_MIN: u64 = 2_000;
/// An hour, halved so often, is less than a nanosecond.
const HALVINGS: u32 = 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_gap_makes_its_share_of_the_calls_late() {
        // 20 ms in a second: 2 % of the calls are due in it, half of them in its first 10 ms.
        let seen = |gaps_ns| ObservedStalls {
            gaps_ns,
            time_ns: 1e9,
        };
        let one = seen(vec![20_000_000]);
        assert!((one.lag_p99_ns(0.0) - 10e6).abs() < 1.0, "{one:?}");
        assert!((one.stalls().lost_ratio - 0.02).abs() < 1e-9);
        // A generator that is busy for half of the time needs as long again to catch up.
        assert!((one.lag_p99_ns(0.5) - 15e6).abs() < 1.0, "{one:?}");
        assert!(seen(vec![]).lag_p99_ns(0.5) < 1.0);
    }
}
