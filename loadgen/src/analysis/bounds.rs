//! How far a measured quantile can be trusted.

use std::borrow::Borrow;

use hdrhistogram::Histogram;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Estimate;

/// A quantile of response times and its two-sided bounds, in nanoseconds.
///
/// `intervals` are the histograms of equally long pieces of the run, in order. Response times that
/// follow each other resemble each other (they wait in the same queue), so a run tells less than
/// its number of calls suggests. The bounds are order statistics: the quantiles at `q ± t·s`, where
/// `s` is the standard error of the share of calls under the quantile, from how much that share
/// differs between pieces of the run, and at least what independent calls would have.
///
/// `None` when fewer than [`TAIL_CALLS_MIN`] calls are slower than the quantile.
pub fn quantile_bounds(
    intervals: &[impl Borrow<Histogram<u64>>],
    quantile: f64,
    confidence: f64,
) -> Option<Estimate> {
    assert!(quantile > 0.0 && quantile < 1.0 && confidence > 0.0 && confidence < 1.0);
    let mut pooled = intervals.first()?.borrow().clone();
    for interval in &intervals[1..] {
        // Both have the same bounds, or grow.
        pooled.auto(true);
        pooled.add(interval.borrow()).ok()?;
    }
    if !is_reportable(pooled.len(), quantile) {
        return None;
    }
    let value_ns = pooled.value_at_quantile(quantile);
    let (error, freedom) = rank_error(intervals, value_ns, quantile);
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let reach = student.inverse_cdf(0.5 + confidence / 2.0) * error;
    let at = |rank: f64| pooled.value_at_quantile(rank.clamp(0.0, 1.0)) as f64;
    Some(Estimate {
        value: value_ns as f64,
        lower: at(quantile - reach),
        upper: at(quantile + reach),
    })
}

/// Whether so many calls suffice to state a quantile.
pub fn is_reportable(calls: u64, quantile: f64) -> bool {
    // The tolerance is for the rounding of 1 - 0.999.
    calls as f64 * (1.0 - quantile) >= TAIL_CALLS_MIN - 1e-6
}

/// The share of the calls that have some property, and its two-sided bounds. `pieces` are those of the
/// run, in order; the errors are those of [`quantile_bounds`]. `None` without calls.
pub fn share_bounds(pieces: &[Piece], confidence: f64) -> Option<Estimate> {
    let calls: f64 = pieces.iter().map(|piece| piece.calls).sum();
    if calls <= 0.0 {
        return None;
    }
    let share = pieces.iter().map(|piece| piece.having).sum::<f64>() / calls;
    let (error, freedom) = share_error(pieces, share);
    let student = StudentsT::new(0.0, 1.0, freedom.max(1.0)).ok()?;
    let reach = student.inverse_cdf(0.5 + confidence / 2.0) * error;
    // Of independent calls none of which has it, so many may have had it by chance.
    let chance = -((1.0 - confidence) / 2.0).ln() / calls;
    Some(Estimate {
        value: share,
        lower: (share - reach).max(0.0),
        upper: (share + reach).max(chance).min(1.0),
    })
}

/// A piece of a run: its calls, and how many of them have some property.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Piece {
    /// All of them.
    pub calls: f64,
    /// Those that have it.
    pub having: f64,
}

/// The standard error of the share of calls up to `value_ns`, and its degrees of freedom.
fn rank_error(
    intervals: &[impl Borrow<Histogram<u64>>],
    value_ns: u64,
    quantile: f64,
) -> (f64, f64) {
    let piece = |times: &Histogram<u64>| Piece {
        calls: times.len() as f64,
        having: times.count_between(0, value_ns) as f64,
    };
    let pieces: Vec<Piece> = intervals
        .iter()
        .map(|times| piece(times.borrow()))
        .collect();
    share_error(&pieces, quantile)
}

/// The standard error of a share that was expected, and its degrees of freedom: from how much pieces of
/// the run differ, and at least what independent calls have.
fn share_error(pieces: &[Piece], expected: f64) -> (f64, f64) {
    let blocks = blocks(pieces);
    let calls: f64 = blocks.iter().map(|block| block.calls).sum();
    let independent = (expected * (1.0 - expected) / calls).sqrt();
    let count = blocks.len() as f64;
    if blocks.len() < BLOCKS_MIN {
        return (independent, calls - 1.0);
    }
    let share = blocks.iter().map(|block| block.having).sum::<f64>() / calls;
    let squares = blocks.iter().map(|block| {
        let residual = block.having - share * block.calls;
        residual * residual
    });
    let clustered = (squares.sum::<f64>() * count / (count - 1.0)).sqrt() / calls;
    (clustered.max(independent), count - 1.0)
}

/// Joins neighbours into few long blocks, which resemble each other less than many short ones.
fn blocks(pieces: &[Piece]) -> Vec<Piece> {
    let per_block = pieces.len().div_ceil(BLOCKS_MAX).max(1);
    let joined = pieces.chunks(per_block).map(|chunk| Piece {
        calls: chunk.iter().map(|piece| piece.calls).sum(),
        having: chunk.iter().map(|piece| piece.having).sum(),
    });
    joined.filter(|block| block.calls > 0.0).collect()
}

/// A quantile is stated only when at least so many calls were slower.
pub const TAIL_CALLS_MIN: f64 = 100.0;
/// With fewer blocks their differences say nothing.
const BLOCKS_MIN: usize = 6;
const BLOCKS_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(times_ns: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for time_ns in times_ns {
            histogram.record(time_ns).unwrap();
        }
        histogram
    }

    /// Exponential times with a mean of 1 ms, which is multiplied by a factor of the interval.
    fn intervals(random: &mut fastrand::Rng, factors: &[f64], calls: usize) -> Vec<Histogram<u64>> {
        let interval = |factor: &f64| {
            let times = (0..calls).map(|_| (-(1.0 - random.f64()).ln() * 1e6 * factor) as u64 + 1);
            histogram(times)
        };
        factors.iter().map(interval).collect()
    }

    #[test]
    fn bounds_hold_the_truth_as_often_as_they_say() {
        let truth_ns = 100f64.ln() * 1e6;
        let mut random = fastrand::Rng::with_seed(3);
        let rounds = 300;
        let holds = (0..rounds).filter(|_| {
            let intervals = intervals(&mut random, &[1.0; 12], 1000);
            let bounds = quantile_bounds(&intervals, 0.99, 0.9).unwrap();
            assert!(bounds.lower <= bounds.value && bounds.value <= bounds.upper);
            // The histogram has three digits.
            bounds.lower <= truth_ns * 1.001 && truth_ns <= bounds.upper * 1.001
        });
        let share = holds.count() as f64 / f64::from(rounds);
        assert!((0.86..=0.98).contains(&share), "{share}");
    }

    #[test]
    fn waves_in_the_run_widen_the_bounds() {
        let mut random = fastrand::Rng::with_seed(4);
        let even = intervals(&mut random, &[1.0; 12], 2000);
        let waves: Vec<_> = (0..12)
            .map(|at| if at % 4 < 2 { 0.5 } else { 1.5 })
            .collect();
        let waves = intervals(&mut random, &waves, 2000);
        let width = |intervals: &[Histogram<u64>]| {
            let bounds = quantile_bounds(intervals, 0.99, 0.95).unwrap();
            (bounds.upper - bounds.lower) / bounds.value
        };
        assert!(width(&waves) > 2.0 * width(&even));
    }

    #[test]
    fn one_interval_counts_its_calls_as_independent() {
        let one = intervals(&mut fastrand::Rng::with_seed(5), &[1.0], 20_000);
        let bounds = quantile_bounds(&one, 0.5, 0.95).unwrap();
        // 1.96 √(¼ / 20000) of rank, over the density ½ per ms at the median.
        let expected_ns = 0.00693 / 0.5 * 1e6;
        let reach_ns = (bounds.upper - bounds.lower) / 2.0;
        assert!((reach_ns / expected_ns - 1.0).abs() < 0.3, "{reach_ns}");
    }

    #[test]
    fn few_calls_have_no_tail() {
        let few = intervals(&mut fastrand::Rng::with_seed(6), &[1.0; 4], 2499);
        assert_eq!(quantile_bounds(&few, 0.99, 0.95), None);
        assert_eq!(quantile_bounds(&few[..0], 0.5, 0.95), None);
        assert!(is_reportable(10_000, 0.99) && !is_reportable(9_999, 0.99));
        assert!(is_reportable(100_000, 0.999) && !is_reportable(99_999, 0.999));
    }

    #[test]
    fn shares_are_bounded_by_chance_and_by_how_pieces_differ() {
        let pieces = |having: fn(usize) -> f64| -> Vec<Piece> {
            let piece = |at| Piece {
                calls: 1000.0,
                having: having(at),
            };
            (0..48).map(piece).collect()
        };
        let even = share_bounds(&pieces(|_| 10.0), 0.95).unwrap();
        assert_eq!(even.value, 0.01);
        assert!((even.upper - even.lower) < 0.002, "{even:?}");
        // The same share, all of it in a twelfth of the run.
        let uneven = share_bounds(&pieces(|at| if at < 4 { 120.0 } else { 0.0 }), 0.95).unwrap();
        assert_eq!(uneven.value, 0.01);
        assert!(uneven.upper > 0.02, "{uneven:?}");
        let none = share_bounds(&pieces(|_| 0.0), 0.95).unwrap();
        assert!(none.upper > 5e-5 && none.upper < 1e-4, "{none:?}");
        assert_eq!(share_bounds(&[], 0.95), None);
    }
}
