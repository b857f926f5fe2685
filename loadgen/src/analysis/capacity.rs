//! From a measured rate to a number of instances.

/// What the planner asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Calls per second that all users together make at the busiest time, today.
    pub peak_per_s: f64,
    /// By how much that will grow in the time that is planned for: 1.5 is half as much again.
    pub growth: f64,
    /// Instances that may be lost, or be out for an update, without harm.
    pub spare: u32,
}

/// What one instance is trusted with: the measured rate less a share that is kept free.
pub fn rated_per_s(slo_rate_per_s: f64, headroom: f64) -> f64 {
    assert!((0.0..1.0).contains(&headroom), "headroom is a share");
    slo_rate_per_s * (1.0 - headroom)
}

/// Instances for a demand: ⌈peak × growth ÷ rated⌉ + spare; `None` if one instance carries nothing.
pub fn instances(demand: Demand, rated_per_s: f64) -> Option<u64> {
    let needed = demand.peak_per_s * demand.growth / rated_per_s;
    if !needed.is_finite() || needed < 0.0 {
        return None;
    }
    // Without this, the rounding of 0.3 / 0.1 would cost an instance.
    let whole = (needed * (1.0 - 1e-9)).ceil() as u64;
    Some(whole + u64::from(demand.spare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_rounded_up_and_spares_added() {
        let demand = |peak_per_s, growth, spare| Demand {
            peak_per_s,
            growth,
            spare,
        };
        assert_eq!(instances(demand(100e3, 1.5, 1), 70e3), Some(4));
        assert_eq!(instances(demand(0.3, 1.0, 0), 0.1), Some(3));
        assert_eq!(instances(demand(0.31, 1.0, 2), 0.1), Some(6));
        assert_eq!(instances(demand(0.0, 1.0, 2), 0.1), Some(2));
        assert_eq!(instances(demand(1.0, 1.0, 2), 0.0), None);
    }

    #[test]
    fn headroom_stays_free() {
        assert_eq!(rated_per_s(100e3, 0.25), 75e3);
        assert_eq!(rated_per_s(100e3, 0.0), 100e3);
    }
}
