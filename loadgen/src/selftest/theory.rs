//! What must come out where it can be calculated.

/// Share of the response times above `x_s` when a server stood still for `stall_s` in a window of
/// `window_s`, being busy for a share of `busy_ratio` otherwise: (D−x) ÷ ((1−ρ)T).
///
/// Calls that come during the stall wait for its rest and for those before them; the queue is gone
/// when the server has caught up, after D ÷ (1−ρ). Up to then the wait falls linearly.
pub fn stall_exceedance(x_s: f64, stall_s: f64, busy_ratio: f64, window_s: f64) -> f64 {
    ((stall_s - x_s) / ((1.0 - busy_ratio) * window_s)).max(0.0)
}

/// Mean time in a queue with one server, Poisson arrivals and constant service times (M/D/1).
pub fn md1_mean_s(rate_per_s: f64, service_s: f64) -> f64 {
    let busy_ratio = rate_per_s * service_s;
    service_s + busy_ratio * service_s / (2.0 * (1.0 - busy_ratio))
}

/// Mean time in a queue with one server, Poisson arrivals and exponential service times (M/M/1).
pub fn mm1_mean_s(rate_per_s: f64, service_s: f64) -> f64 {
    service_s / (1.0 - rate_per_s * service_s)
}

/// The time that a share of the calls does not exceed in an M/M/1 queue: it is exponential.
pub fn mm1_quantile_s(quantile: f64, rate_per_s: f64, service_s: f64) -> f64 {
    -(1.0 - quantile).ln() * mm1_mean_s(rate_per_s, service_s)
}

/// Mean time in a queue with one server, Poisson arrivals and service times of this mean and variance
/// (M/G/1, by Pollaczek and Khinchine).
pub fn mg1_mean_s(rate_per_s: f64, service_s: f64, variance_s2: f64) -> f64 {
    let busy_ratio = rate_per_s * service_s;
    let second_moment = service_s * service_s + variance_s2;
    service_s + rate_per_s * second_moment / (2.0 * (1.0 - busy_ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(value: f64, expected: f64) {
        assert!(
            (value / expected - 1.0).abs() < 0.005,
            "{value} is not {expected}"
        );
    }

    #[test]
    fn the_formulas_give_the_textbook_figures() {
        assert_near(stall_exceedance(0.52, 1.0, 0.2, 60.0), 0.01);
        assert_near(stall_exceedance(0.952, 1.0, 0.2, 60.0), 0.001);
        assert_near(md1_mean_s(4000.0, 200e-6), 600e-6);
        assert_near(mm1_mean_s(4000.0, 200e-6), 1e-3);
        assert_near(mm1_quantile_s(0.99, 4000.0, 200e-6), 4.605e-3);
        assert_near(mm1_quantile_s(0.999, 4000.0, 200e-6), 6.908e-3);
    }

    #[test]
    fn the_general_queue_contains_the_special_ones() {
        let (rate_per_s, service_s) = (4000.0, 200e-6);
        let fixed = mg1_mean_s(rate_per_s, service_s, 0.0);
        assert!((fixed / md1_mean_s(rate_per_s, service_s) - 1.0).abs() < 1e-9);
        let random = mg1_mean_s(rate_per_s, service_s, service_s * service_s);
        assert!((random / mm1_mean_s(rate_per_s, service_s) - 1.0).abs() < 1e-9);
    }
}
