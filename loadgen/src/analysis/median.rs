//! The middle of a few repeated runs, and how sure it is.

/// The median of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The middle value, or the mean of the middle two.
    pub value: f64,
    /// Where the true median lies with 95 % confidence; of fewer than [`RUNS_FOR_CONFIDENCE`] values
    /// the lowest and the highest; of a single one nothing.
    pub interval: Option<(f64, f64)>,
}

/// Fewer runs give no 95 %: the true median lies outside of five runs in one case of sixteen.
pub const RUNS_FOR_CONFIDENCE: usize = 6;

impl Median {
    /// Of any number of values; `None` for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some(Self {
            value: sorted[low].midpoint(sorted[high]),
            interval: (sorted.len() > 1).then(|| confidence_95(&sorted)),
        })
    }
}

/// Bounds of the median, whatever the distribution: how many values lie below the true median is
/// binomial, so the bounds are two of the values.
fn confidence_95(sorted: &[f64]) -> (f64, f64) {
    const Z_95: f64 = 1.96;
    let count = sorted.len() as f64;
    let rank = ((count - Z_95 * count.sqrt()) / 2.0).floor().max(1.0) as usize;
    (sorted[rank - 1], sorted[sorted.len() - rank])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the numbers from 1.
    fn of_runs(count: usize) -> Median {
        Median::of((1..=count).map(|run| run as f64)).unwrap()
    }

    #[test]
    fn the_middle_has_an_interval() {
        let odd = Median::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.value, odd.interval), (2.0, Some((1.0, 3.0))));
        assert_eq!(Median::of([4.0, 1.0]).unwrap().value, 2.5);
        assert_eq!(Median::of([4.0]).unwrap().interval, None);
        assert_eq!(Median::of([]), None);
    }

    #[test]
    fn confidence_narrows_with_the_number_of_runs() {
        assert_eq!(of_runs(5).interval, Some((1.0, 5.0)));
        assert_eq!(of_runs(11).interval, Some((2.0, 10.0)));
        assert_eq!(of_runs(21).interval, Some((6.0, 16.0)));
    }

    /// The true median lies below the lower bound when fewer values than its rank are below the
    /// median: each is with probability ½. The same holds for the upper bound.
    #[test]
    fn six_runs_and_more_give_95_percent() {
        let outside = |count: usize| {
            // A single run is its own bound.
            let lowest = of_runs(count).interval.map_or(1.0, |(low, _)| low);
            let mut exactly = 0.5_f64.powi(count as i32);
            let mut fewer = 0.0;
            for number in 0..lowest as usize {
                fewer += exactly;
                exactly *= (count - number) as f64 / (number + 1) as f64;
            }
            2.0 * fewer
        };
        assert!((RUNS_FOR_CONFIDENCE..200).all(|count| outside(count) <= 0.05));
        assert!((1..RUNS_FOR_CONFIDENCE).all(|count| outside(count) > 0.05));
    }
}
