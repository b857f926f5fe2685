//! When calls are due, fixed before any answer is seen.

use std::time::Duration;

/// Times of a Poisson process since its start, ascending without end: the gaps between them are
/// independent and exponentially distributed.
#[derive(Debug)]
pub(super) struct Poisson {
    random: fastrand::Rng,
    mean_gap_ns: f64,
    at_ns: f64,
}

impl Poisson {
    pub(super) fn new(per_second: f64, seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            mean_gap_ns: 1e9 / per_second,
            at_ns: 0.0,
        }
    }
}

impl Iterator for Poisson {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // `f64` gives [0, 1), of which the logarithm must not see the 0.
        self.at_ns -= (1.0 - self.random.f64()).ln() * self.mean_gap_ns;
        Some(Duration::from_nanos(self.at_ns as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gaps in units of their mean, sorted.
    fn gaps(count: usize) -> Vec<f64> {
        let times: Vec<_> = Poisson::new(1e6, 7).take(count + 1).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let mut gaps: Vec<_> = gaps.map(|gap| gap.as_secs_f64() * 1e6).collect();
        gaps.sort_by(f64::total_cmp);
        gaps
    }

    #[test]
    fn gaps_are_exponential() {
        let gaps = gaps(20_000);
        let count = gaps.len() as f64;
        // Kolmogorov and Smirnov: the largest distance from the distribution, at the 0.1 % level.
        let distance = gaps.iter().enumerate().map(|(rank, gap)| {
            let expected = 1.0 - (-gap).exp();
            (expected - rank as f64 / count).abs()
        });
        let largest = distance.fold(0.0, f64::max);
        assert!(largest < 1.95 / count.sqrt(), "{largest}");
    }

    #[test]
    fn a_seed_fixes_the_times() {
        let times = |seed| Poisson::new(1000.0, seed).take(100).collect::<Vec<_>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
