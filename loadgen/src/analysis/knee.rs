//! Where a latency curve bends.

/// A point of a latency curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Calls per second.
    pub rate_per_s: f64,
    /// The quantile that is looked at.
    pub latency_ns: f64,
}

/// The point with the most calls per second of latency: Kleinrock's *power*, rate ÷ latency.
///
/// Below the knee more load costs little latency, above it more latency than it carries load. Unlike
/// methods that look for the strongest bend in the picture, the answer does not depend on how far
/// the sweep has gone. `None` without points, or when the knee is at the last of them: then the
/// sweep ended before the bend.
pub fn knee(points: &[Point]) -> Option<Point> {
    let power = |point: &Point| point.rate_per_s / point.latency_ns;
    let knee = points.iter().max_by(|a, b| power(a).total_cmp(&power(b)))?;
    let is_last = points
        .iter()
        .all(|point| point.rate_per_s <= knee.rate_per_s);
    (!is_last).then_some(*knee)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(rates: impl Iterator<Item = u32>, latency_ns: impl Fn(f64) -> f64) -> Vec<Point> {
        let point = |rate: u32| Point {
            rate_per_s: f64::from(rate),
            latency_ns: latency_ns(f64::from(rate)),
        };
        rates.map(point).collect()
    }

    #[test]
    fn one_queue_bends_at_half_its_capacity() {
        // x (μ - x) is largest at μ / 2.
        let mm1 = |rate: f64| 4.6e9 / (5000.0 - rate);
        for last in [30, 40, 49] {
            let points = curve((1..=last).map(|step| step * 100), mm1);
            assert_eq!(knee(&points).unwrap().rate_per_s, 2500.0);
        }
    }

    #[test]
    fn a_curve_without_a_bend_has_no_knee() {
        assert_eq!(knee(&curve((1..=9).map(|step| step * 10), |_| 50e3)), None);
        assert_eq!(knee(&[]), None);
    }
}
