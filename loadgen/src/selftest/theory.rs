//! What a stall does to latencies where it can be calculated; queues are in [`crate::analysis::queueing`].

/// Share of the response times above `x_s` when a server stood still for `stall_s` in a window of
/// `window_s`, being busy for a share of `busy_ratio` otherwise: (D−x) ÷ ((1−ρ)T).
///
/// Calls that come during the stall wait for its rest and for those before them; the queue is gone
/// when the server has caught up, after D ÷ (1−ρ). Up to then the wait falls linearly.
pub fn stall_exceedance(x_s: f64, stall_s: f64, busy_ratio: f64, window_s: f64) -> f64 {
    ((stall_s - x_s) / ((1.0 - busy_ratio) * window_s)).max(0.0)
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
    }
}
