//! The Universal Scalability Law: X(N) = λN / (1 + σ(N−1) + κN(N−1)).
//!
//! λ is the rate of one shard, σ the share of work that only one can do at a time (contention), κ
//! the cost of agreeing with each other shard (crosstalk). Shards that share nothing have σ = κ = 0.

use super::{Estimate, quantile_of_sorted};

/// A measured throughput.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Number of shards: N.
    pub shards: f64,
    /// Calls per second of all of them: X.
    pub rate_per_s: f64,
}

/// The law's three parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Calls per second of one shard.
    pub lambda_per_s: f64,
    /// Contention.
    pub sigma: f64,
    /// Crosstalk.
    pub kappa: f64,
}

/// The law, fitted to measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The best fit.
    pub parameters: Parameters,
    /// Measured ÷ fitted − 1 for each point, in the order of the points.
    pub residuals: Vec<f64>,
    /// Fits to resampled data; empty when the points are too few to know their noise.
    resampled: Vec<Parameters>,
}

impl Parameters {
    /// Calls per second of so many shards.
    pub fn rate_per_s(&self, shards: f64) -> f64 {
        let others = shards - 1.0;
        self.lambda_per_s * shards / (1.0 + self.sigma * others + self.kappa * shards * others)
    }

    /// The number of shards beyond which more of them carry less; `None` if there is none.
    pub fn shards_at_peak(&self) -> Option<f64> {
        (self.kappa > 0.0 && self.sigma < 1.0).then(|| ((1.0 - self.sigma) / self.kappa).sqrt())
    }
}

impl Fit {
    /// Fits the law by least squares of relative errors, with σ and κ not below zero. κ is left at
    /// zero with two different numbers of shards. `None` with fewer, or without throughput.
    pub fn new(points: &[Point], seed: u64) -> Option<Self> {
        let distinct = distinct_shards(points);
        if distinct < 2 || points.iter().any(|point| point.rate_per_s <= 0.0) {
            return None;
        }
        let has_kappa = distinct > 2;
        let parameters = fit(points, has_kappa)?;
        let residual = |point: &Point| point.rate_per_s / parameters.rate_per_s(point.shards) - 1.0;
        let residuals: Vec<f64> = points.iter().map(residual).collect();
        let resampled = resample(points, parameters, &residuals, has_kappa, seed);
        Some(Self {
            parameters,
            residuals,
            resampled,
        })
    }

    /// Where the throughput of so many shards lies with the given confidence.
    pub fn band(&self, shards: f64, confidence: f64) -> Option<Estimate> {
        self.estimate(confidence, |parameters| parameters.rate_per_s(shards))
    }

    /// σ with its interval.
    pub fn sigma(&self, confidence: f64) -> Option<Estimate> {
        self.estimate(confidence, |parameters| parameters.sigma)
    }

    /// κ with its interval.
    pub fn kappa(&self, confidence: f64) -> Option<Estimate> {
        self.estimate(confidence, |parameters| parameters.kappa)
    }

    fn estimate(&self, confidence: f64, of: impl Fn(&Parameters) -> f64) -> Option<Estimate> {
        if self.resampled.is_empty() {
            return None;
        }
        let mut values: Vec<f64> = self.resampled.iter().map(&of).collect();
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - confidence) / 2.0;
        Some(Estimate {
            value: of(&self.parameters),
            lower: quantile_of_sorted(&values, tail),
            upper: quantile_of_sorted(&values, 1.0 - tail),
        })
    }
}

fn distinct_shards(points: &[Point]) -> usize {
    let mut shards: Vec<f64> = points.iter().map(|point| point.shards).collect();
    shards.sort_by(f64::total_cmp);
    shards.dedup();
    shards.len()
}

/// Written as N ÷ X = 1/λ + σ/λ (N−1) + κ/λ N(N−1), the law is linear in its three coefficients.
/// Of the fits with and without each of σ and κ, the best one that is not negative is the answer:
/// with two bounds, trying all four is as good as any solver.
fn fit(points: &[Point], has_kappa: bool) -> Option<Parameters> {
    let with_kappa: &[bool] = if has_kappa { &[true, false] } else { &[false] };
    let mut best: Option<(f64, Parameters)> = None;
    for (&kappa, sigma) in with_kappa
        .iter()
        .flat_map(|kappa| [(kappa, true), (kappa, false)])
    {
        let Some([a, b, c]) = least_squares(points, [true, sigma, kappa]) else {
            continue;
        };
        if a <= 0.0 || b < 0.0 || c < 0.0 {
            continue;
        }
        let parameters = Parameters {
            lambda_per_s: 1.0 / a,
            sigma: b / a,
            kappa: c / a,
        };
        let error = squared_error(points, [a, b, c]);
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, parameters));
        }
    }
    best.map(|(_, parameters)| parameters)
}

/// A point's row of the linear form, divided by its N ÷ X so that errors are relative.
fn row(point: &Point) -> [f64; 3] {
    let (shards, others) = (point.shards, point.shards - 1.0);
    let weight = point.rate_per_s / shards;
    [weight, weight * others, weight * shards * others]
}

fn squared_error(points: &[Point], coefficients: [f64; 3]) -> f64 {
    let error = |point: &Point| {
        let fitted: f64 = row(point)
            .iter()
            .zip(coefficients)
            .map(|(x, c)| x * c)
            .sum();
        (fitted - 1.0).powi(2)
    };
    points.iter().map(error).sum()
}

/// The coefficients in use that minimise the error; the others are zero. `None` when the points
/// don't determine them.
fn least_squares(points: &[Point], is_used: [bool; 3]) -> Option<[f64; 3]> {
    let used: Vec<usize> = (0..3).filter(|at| is_used[*at]).collect();
    // Columns differ by many orders of magnitude; scaled, they can be compared with zero.
    let scale: Vec<f64> = used
        .iter()
        .map(|at| {
            points
                .iter()
                .map(|point| row(point)[*at].powi(2))
                .sum::<f64>()
                .sqrt()
        })
        .collect();
    if scale.contains(&0.0) {
        return None;
    }
    let count = used.len();
    let mut matrix = vec![vec![0.0; count + 1]; count];
    for point in points {
        let row = row(point);
        for (i, at) in used.iter().enumerate() {
            let x = row[*at] / scale[i];
            for (j, other) in used.iter().enumerate() {
                matrix[i][j] += x * row[*other] / scale[j];
            }
            matrix[i][count] += x;
        }
    }
    let solution = solve(matrix)?;
    let mut coefficients = [0.0; 3];
    for ((at, value), scale) in used.iter().zip(solution).zip(scale) {
        coefficients[*at] = value / scale;
    }
    Some(coefficients)
}

/// Gauss and Jordan, with the largest pivot; the last column is the right-hand side.
fn solve(mut matrix: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let count = matrix.len();
    for column in 0..count {
        let pivot = (column..count).max_by(|a, b| {
            matrix[*a][column]
                .abs()
                .total_cmp(&matrix[*b][column].abs())
        })?;
        matrix.swap(column, pivot);
        let pivot_row = matrix[column].clone();
        if pivot_row[column].abs() < SINGULAR {
            return None;
        }
        for (at, row) in matrix.iter_mut().enumerate() {
            if at != column {
                let factor = row[column] / pivot_row[column];
                for (x, p) in row.iter_mut().zip(&pivot_row) {
                    *x -= factor * p;
                }
            }
        }
    }
    Some(
        (0..count)
            .map(|at| matrix[at][count] / matrix[at][at])
            .collect(),
    )
}

/// Fits to what the fitted law would have shown with the residuals dealt anew.
fn resample(
    points: &[Point],
    parameters: Parameters,
    residuals: &[f64],
    has_kappa: bool,
    seed: u64,
) -> Vec<Parameters> {
    let fitted = if has_kappa { 3 } else { 2 };
    if points.len() <= fitted {
        return Vec::new();
    }
    // A fit comes closer to its points than the truth does.
    let spread = (points.len() as f64 / (points.len() - fitted) as f64).sqrt();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut draw = || {
        let dealt = points.iter().map(|point| Point {
            rate_per_s: parameters.rate_per_s(point.shards)
                * (1.0 + spread * residuals[random.usize(..residuals.len())]),
            ..*point
        });
        dealt.collect::<Vec<_>>()
    };
    (0..RESAMPLES)
        .filter_map(|_| fit(&draw(), has_kappa))
        .collect()
}

const RESAMPLES: usize = 1000;
/// Scaled columns whose pivot is smaller than this depend on each other.
const SINGULAR: f64 = 1e-10;

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: Parameters = Parameters {
        lambda_per_s: 150e3,
        sigma: 0.05,
        kappa: 0.002,
    };

    fn points(planted: Parameters, shards: &[u32], noise: f64, seed: u64) -> Vec<Point> {
        let mut random = fastrand::Rng::with_seed(seed);
        let point = |shards: &u32| {
            let shards = f64::from(*shards);
            let rate_per_s =
                planted.rate_per_s(shards) * (1.0 + noise * (2.0 * random.f64() - 1.0));
            Point { shards, rate_per_s }
        };
        shards.iter().map(point).collect()
    }

    fn is_close(value: f64, planted: f64, tolerance: f64) -> bool {
        (value / planted - 1.0).abs() < tolerance
    }

    #[test]
    fn without_noise_the_parameters_are_exact() {
        let fit = Fit::new(&points(PLANTED, &[1, 2, 4, 8, 16, 32], 0.0, 0), 1).unwrap();
        let Parameters {
            lambda_per_s,
            sigma,
            kappa,
        } = fit.parameters;
        assert!(is_close(lambda_per_s, PLANTED.lambda_per_s, 1e-6));
        assert!(is_close(sigma, PLANTED.sigma, 1e-6) && is_close(kappa, PLANTED.kappa, 1e-6));
        assert!(fit.residuals.iter().all(|residual| residual.abs() < 1e-6));
        let peak = fit.parameters.shards_at_peak().unwrap();
        assert!(is_close(peak, (0.95_f64 / 0.002).sqrt(), 1e-6));
    }

    #[test]
    fn planted_parameters_are_recovered_from_noisy_data() {
        let shards: Vec<u32> = [1, 2, 4, 8, 12, 16, 24, 32].repeat(3);
        let mut held = [0; 3];
        let rounds = 30;
        for seed in 0..rounds {
            let fit = Fit::new(&points(PLANTED, &shards, 0.03, seed), seed).unwrap();
            assert!(
                is_close(fit.parameters.sigma, PLANTED.sigma, 0.3),
                "{fit:?}"
            );
            assert!(
                is_close(fit.parameters.kappa, PLANTED.kappa, 0.3),
                "{fit:?}"
            );
            let holds = |estimate: Option<Estimate>, truth: f64| {
                let estimate = estimate.unwrap();
                u32::from(estimate.lower <= truth && truth <= estimate.upper)
            };
            held[0] += holds(fit.sigma(0.95), PLANTED.sigma);
            held[1] += holds(fit.kappa(0.95), PLANTED.kappa);
            held[2] += holds(fit.band(20.0, 0.95), PLANTED.rate_per_s(20.0));
        }
        assert!(held.iter().all(|held| *held >= 25), "{held:?}");
    }

    #[test]
    fn shards_that_share_nothing_have_no_negative_contention() {
        let linear = Parameters {
            sigma: 0.0,
            kappa: 0.0,
            ..PLANTED
        };
        for seed in 0..20 {
            let fit = Fit::new(&points(linear, &[1, 2, 3, 4, 6, 8], 0.02, seed), 1).unwrap();
            let Parameters { sigma, kappa, .. } = fit.parameters;
            assert!(
                (0.0..0.03).contains(&sigma) && (0.0..0.01).contains(&kappa),
                "{fit:?}"
            );
        }
    }

    #[test]
    fn little_data_gives_no_more_than_it_holds() {
        let fit = |shards: &[u32]| Fit::new(&points(PLANTED, shards, 0.0, 0), 1);
        assert_eq!(fit(&[]), None);
        assert_eq!(fit(&[1, 1, 1]), None);
        let two = fit(&[1, 2]).unwrap();
        assert_eq!(two.parameters.kappa, 0.0);
        assert_eq!(two.band(2.0, 0.95), None);
        assert!(fit(&[1, 1, 2, 2]).unwrap().band(2.0, 0.95).is_some());
    }
}
