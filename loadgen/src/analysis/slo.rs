//! Service level objectives: `p99<500us,err<0.01%`.

use std::fmt;
use std::str::FromStr;

use crate::units::format_ns;

/// What a service promises: all of its objectives at once.
///
/// Written as objectives with commas between them, each a metric, `<` or `<=`, and a limit:
///
/// | metric | limit |
/// |---|---|
/// | `p50`, `p99`, `p99.9` …, `mean`, `max` (of the response time) | a time: `ns`, `us` or `µs`, `ms`, `s` |
/// | `err` (share of calls that were not answered well) | `0.01%` or `0.0001` |
///
/// ```
/// use loadgen::analysis::slo::Slo;
/// let slo: Slo = "p99<500us,err<0.01%".parse().unwrap();
/// assert_eq!(slo.to_string(), "p99<500us,err<0.01%");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    objectives: Vec<Objective>,
}

/// One promise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// What is limited.
    pub metric: Metric,
    /// The limit: nanoseconds, or a share from 0 to 1 for [`Metric::ErrorShare`].
    pub limit: f64,
    /// Whether the limit itself is still good: `<=`.
    pub is_inclusive: bool,
}

/// What an objective limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A quantile of the response time, from 0 to 1 without both.
    Quantile(f64),
    /// The mean response time.
    Mean,
    /// The longest response time.
    Max,
    /// The share of calls that ended with an error, a time-out or not at all.
    ErrorShare,
}

/// Whether an objective was met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The objective.
    pub objective: Objective,
    /// What was measured, in the unit of the limit; `None` when too few calls were measured to say.
    pub measured: Option<f64>,
}

impl Slo {
    /// The objectives, in the order in which they were written; at least one.
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// Compares with what was measured. `measure` gives nanoseconds or a share, or `None` for what
    /// can't be said.
    pub fn judge(&self, measure: impl Fn(Metric) -> Option<f64>) -> Vec<Finding> {
        let finding = |&objective: &Objective| Finding {
            objective,
            measured: measure(objective.metric),
        };
        self.objectives.iter().map(finding).collect()
    }

    /// For each limit of a latency, in order, the response time in nanoseconds from which on a call is
    /// slow. None for an objective on the mean, which single calls don't violate.
    pub fn slow_from_ns(&self) -> Vec<u64> {
        let latencies = self.latencies().map(|objective| {
            let limit_ns = objective.limit.max(0.0);
            if objective.is_inclusive {
                limit_ns as u64 + 1
            } else {
                limit_ns.ceil() as u64
            }
        });
        latencies.collect()
    }

    /// The objectives that limit the response times of single calls.
    pub fn latencies(&self) -> impl Iterator<Item = &Objective> {
        let is_latency =
            |objective: &&Objective| matches!(objective.metric, Metric::Quantile(_) | Metric::Max);
        self.objectives.iter().filter(is_latency)
    }

    /// The first objective on a quantile: the one that a search looks at and plots show.
    pub fn leading_quantile(&self) -> Option<(f64, f64)> {
        self.objectives
            .iter()
            .find_map(|objective| match objective.metric {
                Metric::Quantile(quantile) => Some((quantile, objective.limit)),
                _ => None,
            })
    }
}

impl Finding {
    /// Whether the objective was met. What can't be said was not met.
    pub fn is_met(&self) -> bool {
        self.measured.is_some_and(|measured| {
            measured < self.objective.limit
                || (self.objective.is_inclusive && measured == self.objective.limit)
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_met() { "met" } else { "violated" };
        match self.measured {
            Some(measured) => {
                let measured = match self.objective.metric {
                    Metric::ErrorShare => format!("{:.4} %", measured * 100.0),
                    _ => format_ns(measured),
                };
                write!(f, "{} {verdict}: {measured}", self.objective)
            }
            None => write!(
                f,
                "{} not shown: too few calls were measured",
                self.objective
            ),
        }
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let objectives = text.split(',').map(|part| part.trim().parse());
        let objectives = objectives.collect::<Result<Vec<Objective>, String>>()?;
        for (at, objective) in objectives.iter().enumerate() {
            if objectives[..at]
                .iter()
                .any(|other| other.metric == objective.metric)
            {
                return Err(format!("{} is limited twice", objective.metric));
            }
        }
        Ok(Self { objectives })
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (metric, limit) = text
            .split_once('<')
            .ok_or_else(|| format!("`{text}` has no `<`: write it like p99<500us or err<0.01%"))?;
        let (limit, is_inclusive) = match limit.strip_prefix('=') {
            Some(limit) => (limit, true),
            None => (limit, false),
        };
        let metric = parse_metric(metric.trim())?;
        let limit = limit.trim();
        let value = match metric {
            Metric::ErrorShare => parse_share(limit),
            _ => parse_time_ns(limit),
        };
        // None at all, which only `<=` can ask for.
        let none = metric == Metric::ErrorShare && is_inclusive && is_zero(limit);
        let value = value.or(none.then_some(0.0));
        let limit = value.ok_or_else(|| match metric {
            Metric::ErrorShare => {
                format!(
                    "`{limit}` is no share: use one like 0.01% or 0.0001; for none at all, err<=0"
                )
            }
            _ => format!("`{limit}` is no time: use one like 500us, 2ms or 1.5s"),
        })?;
        Ok(Self {
            metric,
            limit,
            is_inclusive,
        })
    }
}

fn parse_metric(text: &str) -> Result<Metric, String> {
    match text {
        "mean" => return Ok(Metric::Mean),
        "max" => return Ok(Metric::Max),
        "err" => return Ok(Metric::ErrorShare),
        _ => (),
    }
    let percent = text
        .strip_prefix('p')
        .and_then(|digits| digits.parse::<f64>().ok());
    let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0);
    // Rounded, so that p99.9 is the same number as 0.999.
    let quantile = percent.map(|percent| (percent * 1e8).round() / 1e10);
    quantile.map(Metric::Quantile).ok_or_else(|| {
        format!("`{text}` is no metric: use a percentile like p99 or p99.9, mean, max, or err")
    })
}

/// A time with its unit, in nanoseconds.
fn parse_time_ns(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = &text[digits.len()..];
    let (_, ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    positive(digits).map(|number| number * ns)
}

fn parse_share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => positive(percent)? / 100.0,
        None => positive(text)?,
    };
    (share <= 1.0).then_some(share)
}

fn is_zero(text: &str) -> bool {
    let text = text.strip_suffix('%').unwrap_or(text);
    text.trim().parse() == Ok(0.0)
}

fn positive(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    (number > 0.0 && number.is_finite()).then_some(number)
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, objective) in self.objectives.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator}{objective}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = if self.is_inclusive { "<=" } else { "<" };
        let limit = Limit(self.metric, self.limit);
        write!(f, "{}{relation}{limit}", self.metric)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(quantile) => write!(f, "p{}", tidy(quantile * 100.0)),
            Self::Mean => f.write_str("mean"),
            Self::Max => f.write_str("max"),
            Self::ErrorShare => f.write_str("err"),
        }
    }
}

/// A value of a metric, in a unit that suits it.
struct Limit(Metric, f64);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(metric, value) = *self;
        if metric == Metric::ErrorShare {
            return write!(f, "{}%", tidy(value * 100.0));
        }
        let largest = UNITS.iter().rev().find(|(_, ns)| value >= *ns);
        let (unit, ns) = largest.unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", tidy(value / ns))
    }
}

/// Without the noise of binary fractions.
fn tidy(number: f64) -> f64 {
    (number * 1e8).round() / 1e8
}

/// Units of time, ascending; of several names the last is the one that is written. There are two
/// letters that look like a micro sign.
const UNITS: [(&str, f64); 6] = [
    ("ns", 1.0),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("us", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn slo(text: &str) -> Slo {
        text.parse().unwrap()
    }

    #[test]
    fn objectives_are_read() {
        let slo = slo("p99.9 <= 1.5ms, err<0.01%,mean<200us,max<1s");
        let limit = |at: usize| (slo.objectives[at].metric, slo.objectives[at].limit);
        assert_eq!(limit(0), (Metric::Quantile(0.999), 1.5e6));
        assert_eq!(limit(1), (Metric::ErrorShare, 0.0001));
        assert_eq!(limit(2), (Metric::Mean, 200e3));
        assert_eq!(limit(3), (Metric::Max, 1e9));
        assert!(slo.objectives[0].is_inclusive && !slo.objectives[1].is_inclusive);
        assert_eq!(slo.leading_quantile(), Some((0.999, 1.5e6)));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for text in [
            "p99<500us,err<0.01%",
            "p50<=20us",
            "p99.99<1.25ms,mean<1s,max<2s",
            "err<100%",
            "err<=0%",
        ] {
            assert_eq!(slo(text).to_string(), text);
        }
        assert_eq!(slo("p99<500µs"), slo("p99 < 0.5ms"));
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, words) in [
            ("", "no `<`"),
            ("p99", "no `<`"),
            ("p99>5ms", "no `<`"),
            ("p99<5", "is no time"),
            ("p99<-5ms", "is no time"),
            ("p99<5min", "is no time"),
            ("p99<nans", "is no time"),
            ("p100<5ms", "is no metric"),
            ("p0<5ms", "is no metric"),
            ("q99<5ms", "is no metric"),
            ("err<0%", "is no share"),
            ("err<101%", "is no share"),
            ("err<1ms", "is no share"),
            ("p99<5ms,p99.0<6ms", "p99 is limited twice"),
            ("p99<5ms,", "no `<`"),
        ] {
            let error = text.parse::<Slo>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn objectives_are_judged() {
        let slo = slo("p99<500us,p50<=20us,p99.9<1ms,err<1%");
        let findings = slo.judge(|metric| match metric {
            Metric::Quantile(0.999) => None,
            Metric::Quantile(0.99) => Some(500e3),
            Metric::Quantile(_) => Some(20e3),
            _ => Some(0.0),
        });
        let met: Vec<_> = findings.iter().map(Finding::is_met).collect();
        assert_eq!(met, [false, true, false, true]);
        assert_eq!(findings[0].to_string(), "p99<500us violated: 500 µs");
        assert!(
            findings[2]
                .to_string()
                .ends_with("too few calls were measured")
        );
        assert_eq!(findings[3].to_string(), "err<1% met: 0.0000 %");
    }
}
