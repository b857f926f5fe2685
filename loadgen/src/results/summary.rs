//! `summary.json`: what came out.

use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::disturbance::Disturbance;
use super::failures::Failures;
use super::manifest::LoopKind;
use crate::units::{format_count, format_ns, or_dash};

/// What came out of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// How it ended: the worst of all points.
    pub completion: Completion,
    /// What the program answered to the shell.
    pub exit_code: u8,
    /// What the generator can do at most on this machine, where that was measured.
    pub ceiling: Option<Ceiling>,
    /// In the order in which they were measured.
    pub points: Vec<PointSummary>,
}

/// Whether a point was measured to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// It was.
    Complete,
    /// Somebody ended it early; what is there is partial.
    Interrupted,
    /// The server went away; what is there is partial.
    TargetLost,
    /// One of several agents went away; what is there is partial.
    AgentLost,
}

/// What one thread of the generator can offer on this machine, against a server that does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Calls per second with as many in flight as it can hold (a closed loop).
    pub pipelined_per_s: f64,
    /// The highest rate of those tried that it kept to; `None`: it was late at all of them.
    pub kept: Option<KeptRate>,
    /// What the machine takes from a thread that never sleeps; `None`: there was no CPU to try it on.
    pub stalls: Option<Stalls>,
}

/// A rate at which the generator's own lag was within the rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRate {
    /// Calls per second.
    pub per_s: f64,
    /// The lag at that rate.
    pub own_lag_p99_ns: u64,
}

/// How much of a CPU goes to others than the thread that it is for: the host, the kernel, other
/// programs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stalls {
    /// Share of its time.
    pub lost_ratio: f64,
    /// The longest at once.
    pub longest_ns: u64,
}

impl std::fmt::Display for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |per_s: f64| format_count(per_s.round() as u64);
        write!(
            f,
            "{} calls/s pipelined by one thread",
            count(self.pipelined_per_s)
        )?;
        match &self.kept {
            Some(kept) => write!(
                f,
                "; {} on schedule (p99 own lag {})",
                count(kept.per_s),
                format_ns(kept.own_lag_p99_ns as f64)
            )?,
            None => write!(f, "; late at every rate that was tried")?,
        }
        if let Some(stalls) = &self.stalls {
            write!(
                f,
                "; the machine takes {:.2} % of a busy CPU's time away, {} at most at once",
                stalls.lost_ratio * 100.0,
                format_ns(stalls.longest_ns as f64)
            )?;
        }
        Ok(())
    }
}

/// One load that was run once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointSummary {
    /// Its number, from 0, in the order of measurement.
    pub point: u32,
    /// What distinguishes it, such as `20000/s`.
    pub label: String,
    /// Seconds since the beginning of the folder's first point at which its window began.
    pub start_s: f64,
    /// Time under load before its window.
    #[serde(default)]
    pub warmup_s: f64,
    /// Length of its window. Shorter than asked for when it was ended early.
    pub window_s: f64,
    /// Open or closed loop.
    pub loop_kind: LoopKind,
    /// Whether it was measured to its end.
    pub completion: Completion,
    /// Whether the figures mean anything.
    pub validity: Validity,
    /// Whether the objective was met, if there is one.
    pub slo: Option<SloOutcome>,
    /// Scheduled calls per second of the window; in a closed loop those that were made.
    pub offered_per_s: f64,
    /// Calls answered within the window, per second, whenever they were intended.
    pub achieved_per_s: f64,
    /// What became of the calls, over all methods.
    pub counts: CallCounts,
    /// Latency over all methods.
    pub latency: Latency,
    /// Time average of the calls between their intended time and their end, seen by looking at each
    /// turn of the generator. By Little's law it is `offered_per_s` × mean response time.
    pub in_flight_mean: f64,
    /// Calls that were permitted to be in flight, over all connections. Others that are due wait, and
    /// count as in flight too.
    pub in_flight_max: u32,
    /// Where that many were.
    pub full_cap: FullCap,
    /// What took CPUs away meanwhile.
    pub disturbance: Disturbance,
    /// What the calls say of the objective that were due while no CPU stood still; in studies, and where
    /// they are enough.
    #[serde(default)]
    pub quiet: Option<Quiet>,
    /// Shards of the server, if they are known; otherwise 0.
    pub server_shards: u32,
    /// What the server's process used, if it is known which one that is.
    pub server: Option<ServerUse>,
    /// Why calls failed that did.
    #[serde(default)]
    pub failures: Failures,
    /// Each method apart.
    pub methods: Vec<MethodSummary>,
}

/// What the calls say of the objective that were due while no CPU stood still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The objective's latencies, met or not.
    pub verdict: QuietVerdict,
    /// Over what, in words with figures.
    pub text: String,
}

/// Whether latencies were within their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuietVerdict {
    /// They were, and chance is unlikely to have helped.
    Met,
    /// They were not, and chance is unlikely to be why.
    Missed,
    /// They may or may not have been.
    Unsure,
}

/// One method of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodSummary {
    /// Its name.
    pub method: String,
    /// What became of its calls.
    pub counts: CallCounts,
    /// Latency.
    pub latency: Latency,
}

/// Whether a measurement measured what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// Whether it did.
    pub is_valid: bool,
    /// Why not, each a sentence with figures.
    pub reasons: Vec<String>,
    /// Delays for which the server is not to blame: the generator was late, or fewer calls were permitted to
    /// be in flight than would have been answered quickly. Response times include them, so a load that met
    /// its objective in spite of them is valid; otherwise they stand among the reasons too.
    pub lags: Vec<String>,
    /// Whether one of them is the generator's own.
    #[serde(default)]
    pub is_late: bool,
    /// Whether calls could not be sent because the server was overloaded: it was busy, slow or stood still
    /// while as many as permitted were in flight.
    pub is_overloaded: bool,
    /// What a reader of the figures should know all the same.
    pub notes: Vec<String>,
}

impl Validity {
    /// Why it did not, the generator's own lag left aside.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        let is_lag = |reason: &&String| self.lags.contains(reason);
        self.reasons.iter().filter(move |reason| !is_lag(reason))
    }
}

/// Whether the objective was met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SloOutcome {
    /// Whether all parts were.
    pub is_met: bool,
    /// Its parts.
    pub checks: Vec<SloCheck>,
}

/// One part of an objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SloCheck {
    /// As on the command line: `p99<500us`.
    pub objective: String,
    /// What was measured; `None`: too few calls to say. A latency in nanoseconds, or a ratio.
    pub measured: Option<f64>,
    /// What it must stay below, in the same unit.
    pub bound: f64,
    /// Whether it did. Too few calls to say is not.
    pub is_met: bool,
}

impl SloCheck {
    /// Whether it was measured and did not.
    pub fn is_violated(&self) -> bool {
        self.measured.is_some() && !self.is_met
    }

    /// What came out, for people.
    pub fn verdict(&self) -> &'static str {
        match (self.measured, self.is_met) {
            (None, _) => "undecided",
            (Some(_), true) => "met",
            (Some(_), false) => "VIOLATED",
        }
    }

    /// Whether it limits the share of calls that fail.
    pub fn is_of_errors(&self) -> bool {
        self.objective.starts_with("err")
    }
}

/// What became of the calls of the measured window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// Calls that were due.
    pub scheduled: u64,
    /// Calls that went out.
    pub sent: u64,
    /// Calls that never went out: as many as permitted were in flight until the end.
    pub unsent: u64,
    /// Calls that were answered.
    pub ok: u64,
    /// Calls that failed.
    pub error: u64,
    /// Calls given up after the time-out.
    pub timeout: u64,
    /// Calls without an answer when the measurement ended.
    pub unfinished: u64,
}

impl CallCounts {
    /// What is wrong with them, and with the histograms' counts; empty when they balance.
    pub fn check(&self, latency: &Latency) -> Vec<String> {
        let censored = self.timeout + self.unfinished;
        let equations = [
            (
                "scheduled = sent + unsent",
                self.scheduled,
                self.sent + self.unsent,
            ),
            (
                "sent = ok + error + timeout + unfinished",
                self.sent,
                self.ok + self.error + censored,
            ),
            (
                "response times = ok + timeout + unfinished + unsent",
                latency.response.count,
                self.ok + censored + self.unsent,
            ),
            (
                "service times = ok + timeout + unfinished",
                latency.service.count,
                self.ok + censored,
            ),
            ("room waits = sent", latency.room_wait.count, self.sent),
            ("own lags = sent", latency.own_lag.count, self.sent),
        ];
        let wrong = equations
            .into_iter()
            .filter(|(_, left, right)| left != right);
        wrong
            .map(|(equation, left, right)| {
                format!("the counts do not balance: {equation} does not hold: {left} and {right}")
            })
            .collect()
    }

    /// Share of the calls that went out and failed or had no answer in time; `None` without calls. Those
    /// that were cut off before either are not counted.
    pub fn error_ratio(&self) -> Option<f64> {
        let ended = self.sent.saturating_sub(self.unfinished);
        (ended > 0).then(|| self.failed() as f64 / ended as f64)
    }

    /// Calls that failed or had no answer in time.
    pub fn failed(&self) -> u64 {
        self.error + self.timeout
    }
}

impl AddAssign for CallCounts {
    fn add_assign(&mut self, other: Self) {
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.ok += other.ok;
        self.error += other.error;
        self.timeout += other.timeout;
        self.unfinished += other.unfinished;
    }
}

/// Where as many calls as permitted were in flight, so that others that were due had to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullCap {
    /// Time in which as many calls as permitted were in flight, summed up over the generator's threads.
    pub full_ns: u64,
    /// The part of it in which the server answered nothing for 10 ms at least, and then until it
    /// had caught up.
    pub stalled_ns: u64,
    /// The longest time in which the server answered nothing.
    pub unanswered_ns_max: u64,
    /// Calls that were due and waited for room.
    pub waited: u64,
}

impl AddAssign for FullCap {
    fn add_assign(&mut self, other: Self) {
        self.full_ns += other.full_ns;
        self.stalled_ns += other.stalled_ns;
        self.unanswered_ns_max = self.unanswered_ns_max.max(other.unanswered_ns_max);
        self.waited += other.waited;
    }
}

/// The times of calls. In a closed loop nothing was intended: response is service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// From the intended time to the answer.
    pub response: Spread,
    /// From the actual sending to the answer.
    pub service: Spread,
    /// From the intended time until there was room in flight for it.
    pub room_wait: Spread,
    /// From then, or from the intended time if there was room, to the actual sending.
    pub own_lag: Spread,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of values.
    pub count: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Smallest.
    pub min_ns: u64,
    /// Largest.
    pub max_ns: u64,
    /// Those of [`PERCENTILES`] that enough values lie beyond, ascending.
    pub percentiles: Vec<Percentile>,
}

/// A percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// Which, from 0 to 100.
    pub percentile: f64,
    /// The time that this share of all values does not exceed.
    pub ns: u64,
}

/// The percentiles that are reported.
pub const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999];

/// So many values must lie beyond a percentile for it to be reported.
const BEYOND_MIN: f64 = 100.0;

impl Spread {
    /// A percentile as people read it; a dash where too few values lie beyond it.
    pub fn show(&self, percentile: f64) -> String {
        or_dash(self.percentile_ns(percentile), |ns| format_ns(ns as f64))
    }

    /// The highest percentile that may be told.
    pub fn highest(&self) -> Option<Percentile> {
        self.percentiles.last().copied()
    }

    /// The spread of a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ns_at = |percentile| Percentile {
            percentile,
            ns: histogram.value_at_percentile(percentile),
        };
        let count = histogram.len();
        Self {
            count,
            mean_ns: histogram.mean(),
            min_ns: histogram.min(),
            max_ns: histogram.max(),
            percentiles: PERCENTILES
                .into_iter()
                .filter(|&percentile| is_reportable(count, percentile))
                .map(ns_at)
                .collect(),
        }
    }

    /// A percentile, if it is reported.
    pub fn percentile_ns(&self, percentile: f64) -> Option<u64> {
        let found = self
            .percentiles
            .iter()
            .find(|known| known.percentile == percentile);
        found.map(|known| known.ns)
    }
}

/// Whether a percentile of so many values says more than chance: n·(1−p) ≥ 100.
pub fn is_reportable(count: u64, percentile: f64) -> bool {
    // 1 − 0.9 is a little less than 0.1 in binary.
    count as f64 * (100.0 - percentile) / 100.0 >= BEYOND_MIN - 1e-6
}

/// What the server's process used in the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerUse {
    /// CPU time in its own code and in the kernel, for each call answered in the window.
    pub cpu_us_per_call: f64,
    /// CPU time ÷ window: 1 is one CPU.
    pub cpus_busy: f64,
    /// Share of that time in the kernel.
    pub system_ratio: f64,
    /// Context switches per second, wanted or not.
    pub context_switches_per_s: f64,
    /// Largest resident memory seen.
    pub rss_bytes_max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_a_hundred_values_beyond_it() {
        assert!(is_reportable(1000, 90.0) && !is_reportable(999, 90.0));
        assert!(is_reportable(10_000, 99.0) && !is_reportable(9_999, 99.0));
        assert!(is_reportable(100_000, 99.9) && !is_reportable(99_999, 99.9));
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record_n(1000, 9_999).unwrap();
        assert_eq!(Spread::of(&histogram).percentile_ns(99.0), None);
        histogram.record(1000).unwrap();
        assert_eq!(Spread::of(&histogram).percentile_ns(99.0), Some(1000));
    }

    #[test]
    fn counts_that_do_not_balance_are_found_out() {
        let spread = |count| Spread {
            count,
            ..Spread::default()
        };
        let latency = Latency {
            response: spread(9),
            service: spread(7),
            room_wait: spread(8),
            own_lag: spread(8),
        };
        let counts = CallCounts {
            scheduled: 10,
            sent: 8,
            unsent: 2,
            ok: 4,
            error: 1,
            timeout: 2,
            unfinished: 1,
        };
        assert_eq!(counts.check(&latency), [""; 0]);
        for break_it in [
            |counts: &mut CallCounts| counts.scheduled += 1,
            |counts: &mut CallCounts| counts.ok += 1,
            |counts: &mut CallCounts| counts.error -= 1,
            |counts: &mut CallCounts| counts.unsent -= 1,
        ] {
            let mut broken = counts;
            break_it(&mut broken);
            assert!(!broken.check(&latency).is_empty(), "{broken:?}");
        }
        let lost = Latency {
            own_lag: spread(7),
            ..latency
        };
        assert_eq!(counts.check(&lost).len(), 1);
    }
}
