//! How far arrivals are from what they are said to be.

/// Kolmogorov's and Smirnov's distance between values and the exponential distribution of mean 1.
/// Sorts the values.
pub fn kolmogorov_smirnov_exponential(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let distances = values.iter().enumerate().map(|(rank, value)| {
        let expected = -(-value).exp_m1();
        let (below, above) = (rank as f64 / count, (rank + 1) as f64 / count);
        (expected - below).max(above - expected)
    });
    distances.fold(0.0, f64::max)
}

/// The distance that so many values of the right distribution exceed once in a thousand times.
pub fn kolmogorov_smirnov_limit(count: usize) -> f64 {
    // Two-sided, level 0.001, by the limiting distribution: √(−ln(0.001 ÷ 2) ÷ 2).
    let at_level: f64 = (-(0.001_f64 / 2.0).ln() / 2.0).sqrt();
    at_level / (count as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_of_the_definition() {
        // One value at the median: half of the distribution lies on either side of the step.
        let mut one = [std::f64::consts::LN_2];
        assert!((kolmogorov_smirnov_exponential(&mut one) - 0.5).abs() < 1e-12);
        // Far out, the whole of it lies before.
        assert!(kolmogorov_smirnov_exponential(&mut [50.0]) > 0.999);
        assert!((kolmogorov_smirnov_limit(1) - 1.949).abs() < 0.001);
    }
}
