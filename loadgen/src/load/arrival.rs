//! When calls arrive: how the times between them are distributed, or as they were recorded.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand_distr::{Distribution, Exp1, Gamma};
use rand_xoshiro::Xoshiro256PlusPlus;

/// How the times between calls are distributed.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// All alike.
    Uniform,
    /// Exponentially: independent users.
    Poisson,
    /// By a gamma distribution with this coefficient of variation: 1 is Poisson, above it bursts.
    Gamma {
        /// Standard deviation ÷ mean.
        cv: f64,
    },
    /// As recorded: times since the beginning, in nanoseconds, ascending.
    Trace(Arc<[u64]>),
}

impl FromStr for Arrival {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(cv) = text.strip_prefix("gamma:") {
            let cv = cv.parse().ok().filter(|cv| (0.01..=100.0).contains(cv));
            return cv.map(|cv| Self::Gamma { cv }).ok_or_else(|| {
                "gamma takes a coefficient of variation from 0.01 to 100, such as gamma:2".into()
            });
        }
        if let Some(path) = text.strip_prefix("trace:") {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("can't read the trace {path}: {error}"))?;
            return parse_trace(&text).map(|times_ns| Self::Trace(times_ns.into()));
        }
        match text {
            "uniform" => Ok(Self::Uniform),
            "poisson" => Ok(Self::Poisson),
            _ => Err(
                "use uniform, poisson, gamma:CV, or trace:FILE (a time in seconds on each line)"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Poisson => f.write_str("poisson"),
            Self::Gamma { cv } => write!(f, "gamma:{cv}"),
            Self::Trace(_) => f.write_str("trace"),
        }
    }
}

/// Reads times in seconds, one on each line, that never go back.
fn parse_trace(text: &str) -> Result<Vec<u64>, String> {
    let mut times_ns = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at_s: Option<f64> = line.parse().ok();
        let at_ns = at_s
            .filter(|at_s| (0.0..=TRACE_S_MAX).contains(at_s))
            .map(|at_s| (at_s * 1e9) as u64)
            .filter(|at_ns| times_ns.last().is_none_or(|last| last <= at_ns))
            .ok_or_else(|| {
                format!(
                    "line {} of the trace, `{line}`, is no time in seconds at or after the one before",
                    number + 1
                )
            })?;
        times_ns.push(at_ns);
    }
    if times_ns.is_empty() {
        return Err("the trace is empty; put a time in seconds on each line".into());
    }
    Ok(times_ns)
}

/// The times of a whole stream in nanoseconds since its beginning, without end unless it is a trace.
pub(super) enum Times {
    Gaps {
        random: Xoshiro256PlusPlus,
        gap: Gap,
        mean_ns: f64,
        at_ns: f64,
    },
    Trace {
        times_ns: Arc<[u64]>,
        next: usize,
    },
}

/// The time between two calls, in units of its mean.
pub(super) enum Gap {
    Constant,
    Exponential,
    Gamma(Gamma<f64>),
}

impl Times {
    pub(super) fn new(arrival: &Arrival, rate_per_s: f64, random: Xoshiro256PlusPlus) -> Self {
        let gap = match arrival {
            Arrival::Uniform => Gap::Constant,
            Arrival::Poisson => Gap::Exponential,
            Arrival::Gamma { cv } => {
                let shape = 1.0 / (cv * cv);
                Gap::Gamma(Gamma::new(shape, 1.0 / shape).expect("cv is positive and finite"))
            }
            Arrival::Trace(times_ns) => {
                let times_ns = Arc::clone(times_ns);
                return Self::Trace { times_ns, next: 0 };
            }
        };
        Self::Gaps {
            random,
            gap,
            mean_ns: 1e9 / rate_per_s,
            at_ns: 0.0,
        }
    }
}

impl Iterator for Times {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Trace { times_ns, next } => {
                let at_ns = times_ns.get(*next).copied();
                *next += 1;
                at_ns
            }
            Self::Gaps {
                random,
                gap,
                mean_ns,
                at_ns,
            } => {
                let gap: f64 = match gap {
                    Gap::Constant => 1.0,
                    Gap::Exponential => Exp1.sample(random),
                    Gap::Gamma(gamma) => gamma.sample(random),
                };
                *at_ns += gap * *mean_ns;
                Some(*at_ns as u64)
            }
        }
    }
}

/// A year: longer traces are in another unit.
const TRACE_S_MAX: f64 = 366.0 * 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read_and_judged() {
        assert_eq!(
            parse_trace("# s\n0\n0.5\n\n0.5\n2\n"),
            Ok(vec![0, 500_000_000, 500_000_000, 2_000_000_000])
        );
        for wrong in ["", "1\n0.5", "x", "-1", "nan"] {
            assert!(parse_trace(wrong).is_err(), "{wrong}");
        }
    }
}
