//! Comparing two things that were measured in turns.
//!
//! A round measures A, B, B, A or B, A, A, B; which of them, a coin has decided. Its *difference* is
//! `ln` of B's geometric mean over A's. If B is like A, the coin alone has decided the difference's
//! sign, whatever else the machine did in that time: so flipping signs gives every result that could
//! have come as well, and a test that counts them is exact.

use super::{Estimate, quantile_of_sorted};

/// The probability of a change at least as far up as the one seen, if there is none: over all ways
/// to flip the signs of the differences, the share whose signed-rank sum is as large.
///
/// Ranks instead of values: a round that the machine disturbed counts as one round, not as ten.
///
/// # Panics
/// With more than [`ROUNDS_MAX`] differences: the ways are counted one by one.
pub fn sign_flip_p(differences: &[f64]) -> f64 {
    assert!(differences.len() <= ROUNDS_MAX, "too many to try all ways");
    let ranks = ranks_doubled(differences);
    let of_positive = |(difference, rank): (&f64, &u32)| if *difference > 0.0 { *rank } else { 0 };
    let seen: u32 = differences.iter().zip(&ranks).map(of_positive).sum();
    let ways = 1_u32 << ranks.len();
    let as_large = (0..ways).filter(|flips| {
        let positive = ranks.iter().enumerate();
        let positive = positive.filter(|(at, _)| flips >> at & 1 == 1);
        positive.map(|(_, rank)| rank).sum::<u32>() >= seen
    });
    as_large.count() as f64 / f64::from(ways)
}

/// The ranks of the magnitudes, twice as large as usual so that ties have whole ones too; zeros
/// have rank 0, since they have no sign to flip.
fn ranks_doubled(differences: &[f64]) -> Vec<u32> {
    let rank = |difference: &f64| {
        if *difference == 0.0 {
            return 0;
        }
        let magnitude = difference.abs();
        let others = differences.iter().filter(|other| **other != 0.0);
        others
            .map(|other| match other.abs().total_cmp(&magnitude) {
                std::cmp::Ordering::Less => 2,
                std::cmp::Ordering::Equal => 1,
                std::cmp::Ordering::Greater => 0,
            })
            .sum::<u32>()
            + 1
    };
    differences.iter().map(rank).collect()
}

/// The ratio B ÷ A: the pseudo-median of the differences, with a bootstrap interval over rounds.
/// `None` without differences.
pub fn ratio(differences: &[f64], confidence: f64, seed: u64) -> Option<Estimate> {
    let value = pseudo_median(differences)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut resampled = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let draw: Vec<f64> = differences
            .iter()
            .map(|_| differences[random.usize(..differences.len())])
            .collect();
        resampled.extend(pseudo_median(&draw));
    }
    resampled.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some(Estimate {
        value: value.exp(),
        lower: quantile_of_sorted(&resampled, tail).exp(),
        upper: quantile_of_sorted(&resampled, 1.0 - tail).exp(),
    })
}

/// The noise floor: a ratio of up to 1 ± this is seen, with the given confidence, when A is compared
/// with A. `same` are differences between runs of the same thing. `None` without any.
pub fn noise_floor(same: &[f64], confidence: f64, seed: u64) -> Option<f64> {
    if same.is_empty() {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let flipped: Vec<f64> = same
                .iter()
                .map(|difference| {
                    if random.bool() {
                        *difference
                    } else {
                        -difference
                    }
                })
                .collect();
            pseudo_median(&flipped).map(f64::abs)
        })
        .collect();
    seen.sort_by(f64::total_cmp);
    Some(quantile_of_sorted(&seen, confidence).exp_m1())
}

/// The median of the means of all pairs (Hodges and Lehmann): nearly as exact as the mean without
/// disturbances, and nearly as calm as the median with them.
pub fn pseudo_median(values: &[f64]) -> Option<f64> {
    let mut means: Vec<f64> = values
        .iter()
        .enumerate()
        .flat_map(|(at, a)| values[at..].iter().map(move |b| a.midpoint(*b)))
        .collect();
    means.sort_by(f64::total_cmp);
    let (low, high) = (means.len().checked_sub(1)? / 2, means.len() / 2);
    Some(means[low].midpoint(means[high]))
}

/// Corrects several tests of one comparison (Holm), so that all of them together raise a false alarm
/// no more often than one would.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, at) in order.into_iter().enumerate() {
        largest = largest.max(p_values[at] * (p_values.len() - rank) as f64);
        corrected[at] = largest.min(1.0);
    }
    corrected
}

/// Most rounds of a comparison: all 2^20 ways to flip their signs are tried.
pub const ROUNDS_MAX: usize = 20;
const RESAMPLES: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise with a long tail upwards, as latencies have it.
    fn noise(random: &mut fastrand::Rng) -> f64 {
        -(1.0 - random.f64()).ln() * 0.01
    }

    /// Differences of rounds in which B costs a share more.
    fn differences(random: &mut fastrand::Rng, rounds: usize, cost: f64) -> Vec<f64> {
        let mut mean_of_two = || noise(random).midpoint(noise(random));
        (0..rounds)
            .map(|_| mean_of_two() + cost.ln_1p() - mean_of_two())
            .collect()
    }

    #[test]
    fn the_test_counts_all_ways() {
        assert_eq!(sign_flip_p(&[0.1, 0.2, 0.3, 0.4, 0.5]), 1.0 / 32.0);
        assert_eq!(sign_flip_p(&[-0.1, -0.2]), 1.0);
        // Of four ways, +2 and +1 +2 are as large as the one seen.
        assert_eq!(sign_flip_p(&[-0.1, 0.2]), 0.5);
        // One more way when the smallest is down: the next as large is all up.
        assert_eq!(sign_flip_p(&[-0.1, 0.2, 0.3, 0.4, 0.5]), 2.0 / 32.0);
        assert_eq!(sign_flip_p(&[0.0, 0.0, 0.0]), 1.0);
        assert_eq!(sign_flip_p(&[]), 1.0);
        assert_eq!(ranks_doubled(&[0.2, -0.2, 0.0, 0.5]), [3, 3, 0, 6]);
    }

    #[test]
    fn the_same_against_itself_raises_no_more_alarms_than_the_level() {
        let mut random = fastrand::Rng::with_seed(1);
        let comparisons = 4000;
        let alarms = (0..comparisons)
            .filter(|_| sign_flip_p(&differences(&mut random, 8, 0.0)) <= 0.05)
            .count() as f64;
        let expected = 0.05 * f64::from(comparisons);
        assert!(alarms <= expected + 3.0 * expected.sqrt(), "{alarms}");
        // A test that never fires would pass the line above.
        assert!(alarms >= 0.5 * expected, "{alarms}");
    }

    #[test]
    fn an_added_cost_of_three_percent_is_found() {
        let mut random = fastrand::Rng::with_seed(2);
        let found = (0..200)
            .filter(|_| sign_flip_p(&differences(&mut random, 8, 0.03)) <= 0.05)
            .count();
        assert!(found >= 190, "{found}");
    }

    #[test]
    fn the_interval_holds_the_ratio_and_disturbed_rounds_move_it_little() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut differences = differences(&mut random, 12, 0.1);
        let calm = ratio(&differences, 0.95, 1).unwrap();
        assert!(calm.lower < 1.1 && 1.1 < calm.upper && calm.upper - calm.lower < 0.03);
        differences[3] += 3.0;
        let disturbed = ratio(&differences, 0.95, 1).unwrap();
        assert!((disturbed.value / calm.value - 1.0).abs() < 0.01);
        assert_eq!(ratio(&[], 0.95, 1), None);
    }

    #[test]
    fn the_noise_floor_is_what_noise_shows() {
        let mut random = fastrand::Rng::with_seed(4);
        let floor = noise_floor(&differences(&mut random, 10, 0.0), 0.95, 1).unwrap();
        // Means of two exponential deviations of 1 % differ by 1 %; of ten rounds, by a third.
        assert!((0.003..0.012).contains(&floor), "{floor}");
        let above = (0..500).filter(|_| {
            let seen = pseudo_median(&differences(&mut random, 10, 0.0)).unwrap();
            seen.abs() > floor.ln_1p()
        });
        assert!((3..=100).contains(&above.count()));
        assert_eq!(noise_floor(&[], 0.95, 1), None);
    }

    #[test]
    fn several_tests_are_corrected() {
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let corrected = holm(&[0.01, 0.04, 0.03]);
        assert!(close(&corrected, &[0.03, 0.06, 0.06]), "{corrected:?}");
        assert!(close(&holm(&[0.9, 0.8]), &[1.0, 1.0]));
    }
}
