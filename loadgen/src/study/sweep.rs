//! Loads along an axis, in shuffled order: a machine that warms up, or is busier for a while, must
//! not look like an effect of the rate.

use serde::{Deserialize, Serialize};

use super::Load;
use crate::units::{parse_rate, several};

/// What differs between the loads of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Calls per second.
    Rate,
    /// Connections × calls in flight on each, in a closed loop.
    Grid,
    /// The server's shards, in a closed loop.
    Shards,
}

/// Values along an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Calls per second.
    Rates(Vec<f64>),
    /// Connections and depths, each with each.
    Grid {
        /// Connections.
        conns: Vec<u32>,
        /// Calls in flight on each.
        depths: Vec<u32>,
    },
    /// Numbers of shards.
    Shards(Vec<u32>),
}

impl Plan {
    /// What differs between the loads.
    pub fn axis(&self) -> Axis {
        match self {
            Self::Rates(_) => Axis::Rate,
            Self::Grid { .. } => Axis::Grid,
            Self::Shards(_) => Axis::Shards,
        }
    }

    /// The loads, each as often as `repeats` says, in an order that the seed decides. All loads come
    /// once before any comes twice. `calls_min` is for each load at a rate.
    pub fn loads(&self, repeats: u32, calls_min: f64, seed: u64) -> Vec<Load> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut loads = Vec::new();
        for _ in 0..repeats {
            let mut once = self.once(calls_min);
            random.shuffle(&mut once);
            loads.append(&mut once);
        }
        for (number, load) in loads.iter_mut().enumerate() {
            load.seed = seed + number as u64;
        }
        loads
    }

    fn once(&self, calls_min: f64) -> Vec<Load> {
        match self {
            Self::Rates(rates) => rates
                .iter()
                .map(|rate| Load {
                    calls_min,
                    ..Load::at_rate(*rate, 0)
                })
                .collect(),
            Self::Grid { conns, depths } => {
                let pairs = conns
                    .iter()
                    .flat_map(|conns| depths.iter().map(move |depth| (*conns, *depth)));
                pairs
                    .map(|(conns, depth)| Load {
                        conns: Some(conns),
                        depth: Some(depth),
                        ..Load::closed(format!("{conns}×{depth}"), 0)
                    })
                    .collect()
            }
            Self::Shards(counts) => counts
                .iter()
                .map(|shards| Load {
                    shards: Some(*shards),
                    ..Load::closed(several(*shards as usize, "shard"), 0)
                })
                .collect(),
        }
    }
}

/// Rates of a sweep as on the command line: `10000,20000,50k`, or `10k..200k` for
/// [`STEPS`] rates in equal proportions.
///
/// # Errors
/// In words for the user.
pub fn parse_rates(text: &str) -> Result<Vec<f64>, String> {
    let Some((low, high)) = text.split_once("..") else {
        return text.split(',').map(parse_rate).collect();
    };
    let (low, high) = (parse_rate(low)?, parse_rate(high)?);
    if low >= high {
        return Err(format!("`{text}` ends below its beginning"));
    }
    let ratio = (high / low).powf(1.0 / (STEPS - 1) as f64);
    Ok((0..STEPS)
        .map(|step| (low * ratio.powi(step as i32)).round())
        .collect())
}

/// Rates for a range, and for a curve.
pub const STEPS: usize = 10;
/// Where a curve is looked at, as shares of a rate that matters: mostly near it, and a little beyond.
pub const CURVE: [f64; STEPS] = [0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_shuffled_and_none_is_left_out() {
        let rates: Vec<f64> = (1..=12).map(|step| f64::from(step) * 1e3).collect();
        let loads = Plan::Rates(rates.clone()).loads(2, 5.0, 42);
        let of = |range: std::ops::Range<usize>| -> Vec<f64> {
            loads[range]
                .iter()
                .filter_map(|load| load.rate_per_s)
                .collect()
        };
        for round in [of(0..12), of(12..24)] {
            assert_ne!(round, rates, "not shuffled");
            let mut sorted = round;
            sorted.sort_by(f64::total_cmp);
            assert_eq!(sorted, rates);
        }
        assert_ne!(of(0..12), of(12..24));
        let seeds: std::collections::BTreeSet<_> = loads.iter().map(|load| load.seed).collect();
        assert_eq!(seeds.len(), 24);
        assert_eq!(Plan::Rates(rates).loads(2, 5.0, 42), loads);
    }

    #[test]
    fn a_grid_has_every_pair() {
        let plan = Plan::Grid {
            conns: vec![1, 8],
            depths: vec![1, 4, 16],
        };
        let loads = plan.loads(1, 0.0, 1);
        let mut pairs: Vec<_> = loads.iter().map(|load| (load.conns, load.depth)).collect();
        pairs.sort();
        pairs.dedup();
        assert_eq!(pairs.len(), 6);
        assert!(loads.iter().all(|load| load.rate_per_s.is_none()));
        assert_eq!(plan.axis(), Axis::Grid);
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(parse_rates("1000, 20k,1.5M").unwrap(), [1e3, 20e3, 1.5e6]);
        let range = parse_rates("1k..512k").unwrap();
        assert_eq!((range.len(), range[0], range[9]), (10, 1e3, 512e3));
        assert_eq!(range[1], 2e3);
        for wrong in [
            "", "0", "-5", "x", "5K", "10k..1k", "nan", "inf", "1,,2", "1e300", "101M",
        ] {
            assert!(parse_rates(wrong).is_err(), "{wrong}");
        }
    }
}
