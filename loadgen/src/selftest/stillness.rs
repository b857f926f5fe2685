//! How often the machine takes a CPU away from a thread that never sleeps.

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::target::placement::pin;

/// What a thread that only reads the clock has seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Stillness {
    /// Share of the time between readings that were further apart than [`GAP_NS_MIN`].
    pub(super) lost_ratio: f64,
    /// The longest time between two readings.
    pub(super) longest_ns: u64,
    /// 99 % of the calls that are due at any time would be sent within this, if sending took no time.
    pub(super) lag_p99_ns: f64,
}

/// Reads the clock on a CPU for some time, while another is as busy: a host that has fewer CPUs than
/// it lends out shows only then.
pub(super) fn look(cpu: usize, busy_cpu: usize, time: Duration) -> Stillness {
    let watch = move |cpu| {
        // Unpinned it sees at least what the scheduler does.
        pin(&[cpu]).ok();
        gaps(time)
    };
    let gaps_ns = thread::scope(|scope| {
        scope.spawn(move || watch(busy_cpu));
        scope.spawn(move || watch(cpu)).join().unwrap_or_default()
    });
    judge(&gaps_ns, time.as_nanos() as f64)
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

fn judge(gaps_ns: &[u64], time_ns: f64) -> Stillness {
    let lost_ns: u64 = gaps_ns.iter().sum();
    // Of the calls due within a gap, those of its first part wait longer than a given time.
    let late_ratio = |lag_ns: f64| {
        let late = gaps_ns
            .iter()
            .map(|&gap_ns| (gap_ns as f64 - lag_ns).max(0.0));
        late.sum::<f64>() / time_ns
    };
    let longest_ns = gaps_ns.iter().copied().max().unwrap_or(0);
    let (mut low_ns, mut high_ns) = (0.0, longest_ns as f64);
    for _ in 0..HALVINGS {
        let middle_ns = (low_ns + high_ns) / 2.0;
        if late_ratio(middle_ns) > 0.01 {
            low_ns = middle_ns;
        } else {
            high_ns = middle_ns;
        }
    }
    Stillness {
        lost_ratio: lost_ns as f64 / time_ns,
        longest_ns,
        lag_p99_ns: high_ns,
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
        let seen = judge(&[20_000_000], 1e9);
        assert!((seen.lag_p99_ns - 10e6).abs() < 1.0, "{seen:?}");
        assert!((seen.lost_ratio - 0.02).abs() < 1e-9);
        assert!(judge(&[], 1e9).lag_p99_ns < 1.0);
    }
}
