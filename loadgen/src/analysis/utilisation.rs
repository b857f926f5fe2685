//! The utilisation law: the CPUs in use are the calls per second times the CPU time of a call.

/// A load and what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Calls per second that were answered.
    pub rate_per_s: f64,
    /// CPUs that the server used in the mean: CPU seconds in a second.
    pub cpus: f64,
}

/// CPU seconds of a call, by least squares through the origin, so that busy points count most: a
/// server that waits spinning also uses CPU time for nothing, and does so least when it is busy.
/// `None` without load.
pub fn cpu_s_per_call(points: &[Point]) -> Option<f64> {
    let products: f64 = points
        .iter()
        .map(|point| point.rate_per_s * point.cpus)
        .sum();
    let squares: f64 = points.iter().map(|point| point.rate_per_s.powi(2)).sum();
    (squares > 0.0).then(|| products / squares)
}

/// Calls per second at which so many CPUs are fully busy.
pub fn ceiling_per_s(cpu_s_per_call: f64, cpus: f64) -> f64 {
    cpus / cpu_s_per_call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_call_is_found() {
        let point = |rate_per_s: f64| Point {
            rate_per_s,
            cpus: rate_per_s * 8e-6,
        };
        let points: Vec<_> = [10e3, 50e3, 100e3].map(point).into();
        let cost_s = cpu_s_per_call(&points).unwrap();
        assert!((cost_s - 8e-6).abs() < 1e-12);
        assert!((ceiling_per_s(cost_s, 1.0) - 125e3).abs() < 1.0);
        assert_eq!(cpu_s_per_call(&[]), None);
    }

    #[test]
    fn an_idle_server_that_spins_counts_little() {
        let points = [(1e3, 0.5), (50e3, 0.5), (100e3, 0.9)];
        let points = points.map(|(rate_per_s, cpus)| Point { rate_per_s, cpus });
        let cost_s = cpu_s_per_call(&points).unwrap();
        assert!((9e-6..9.5e-6).contains(&cost_s), "{cost_s}");
    }
}
