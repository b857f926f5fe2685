//! What coordinator and agents say to each other.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::arrival::Arrival;
use crate::load::generator::Outcome;
use crate::load::plan::{Arrivals, Part, Plan};
use crate::load::record::Record;
use crate::load::work::Workload;
use crate::results::{CallCounts, Completion, FullCap, Kind, Pauses, Protocol};
use crate::run::args::LoadArgs;

/// One agent's part of a load. Texts are as on the command line.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Version of the coordinator's program; an agent of another one refuses.
    pub version: String,
    /// Where the server listens, seen from the agent.
    pub target: String,
    /// Whether tonic is spoken instead.
    pub is_tonic: bool,
    /// Methods and their shares.
    pub method: String,
    /// Sizes of payloads.
    pub payload: String,
    /// Times that spin and sleep take.
    pub service_time: Option<String>,
    /// Times between calls; `None` in a closed loop.
    pub arrival: Option<String>,
    /// Calls per second of the whole load.
    pub rate_per_s: f64,
    /// Callers of this part, in a closed loop.
    pub callers: u32,
    /// Connections of this part.
    pub conns: u32,
    /// Most calls in flight on each connection.
    pub depth: u32,
    /// Calls after which a connection is replaced.
    pub churn_calls: Option<u64>,
    /// Time before the measurement.
    pub warmup_ns: u64,
    /// Time that is measured.
    pub duration_ns: u64,
    /// Time after which a call has failed.
    pub timeout_ns: u64,
    /// Whether a server that can't be reached does not end the load.
    pub keeps_going: bool,
    /// Length of an interval.
    pub interval_ns: u64,
    /// Seed of the whole load.
    pub seed: u64,
    /// Number of this part, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
}

/// Who an agent is.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Version of its program.
    pub version: String,
    /// [`crate::results::Build`] as JSON.
    pub build: String,
    /// [`crate::results::Machine`] as JSON.
    pub machine: String,
    /// A CPU for each of its threads.
    pub cpus: Vec<Option<u32>>,
}

/// Lets a prepared load begin.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// Which load.
    pub lease: u64,
    /// So long after this message has come.
    pub in_ns: u64,
}

/// Asks for the next thing that has happened.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// Which load.
    pub lease: u64,
    /// How many things are known already; the agent forgets those.
    pub known: u64,
}

/// Something that has happened to a load.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub enum LoadEvent {
    /// All connections are there.
    Ready,
    /// An interval is over.
    Interval(Counts),
    /// The load is over.
    Done(Ending),
    /// There is no load: why.
    Failed(String),
}

/// How a load ended.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Time that was measured.
    pub window_ns: u64,
    /// Whether it was ended early.
    pub is_interrupted: bool,
    /// Whether it was because the server went away.
    pub is_target_lost: bool,
}

/// The [`Record`] of an interval.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The interval's end, since the beginning of the window.
    pub end_ns: u64,
    /// For each method, in the order of the workload.
    pub methods: Vec<MethodCounts>,
    /// Calls answered within the window.
    pub answered: u64,
    /// Calls in flight, summed up over time.
    pub in_flight_ns: f64,
    /// Of [`FullCap`], in its order.
    pub full_cap: [u64; 4],
    /// Pauses of the agent's threads, their time in all, and the longest.
    pub pauses: [u64; 3],
    /// Why calls failed that did.
    pub failures: Vec<Failure>,
}

/// Calls that failed alike.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Why.
    pub text: String,
    /// Whether the server said so.
    pub is_of_server: bool,
    /// How many.
    pub count: u64,
}

/// Counts and times of one method.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct MethodCounts {
    /// Scheduled, sent, unsent, ok, error, timed out, unfinished.
    pub calls: [u64; 7],
    /// For each kind of time, the filled buckets of its histogram.
    pub times: [Vec<Bucket>; Kind::ALL.len()],
}

/// Times of about the same length.
#[ringcall::message]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The longest of them.
    pub ns: u64,
    /// How many.
    pub count: u64,
}

/// What an agent does for a coordinator; one load at a time.
#[ringcall::service(name = "loadgen.agent.v1")]
pub trait Agent {
    /// Who it is.
    #[idempotent]
    async fn describe() -> Description;
    /// Connects to the server. Returns the lease, which names this load from now on.
    async fn prepare(assignment: Assignment) -> u64;
    /// Begins.
    async fn begin(begin: Begin);
    /// The next thing that has happened, or nothing yet. Renews the lease.
    async fn next(poll: Poll) -> Option<LoadEvent>;
    /// Ends the load early.
    async fn stop(lease: u64);
}

impl Assignment {
    /// One part of a plan, whose texts are in `args`.
    pub(super) fn of(args: &LoadArgs, plan: &Plan, part: Part) -> Self {
        let (arrival, rate_per_s, callers) = match &plan.arrivals {
            Arrivals::Open {
                arrival,
                rate_per_s,
            } => (Some(arrival.to_string()), *rate_per_s, 0),
            Arrivals::Closed { callers } => (None, 0.0, part.share(*callers)),
        };
        let ns = |time: Duration| time.as_nanos() as u64;
        Self {
            version: VERSION.into(),
            target: plan.address.clone(),
            is_tonic: plan.protocol == Protocol::Tonic,
            method: args.method.clone(),
            payload: args.payload.clone(),
            service_time: args.service_time.clone(),
            arrival,
            rate_per_s,
            callers: callers as u32,
            conns: part.share(plan.conns).max(1) as u32,
            depth: plan.depth as u32,
            churn_calls: plan.churn_calls,
            warmup_ns: ns(plan.warmup),
            duration_ns: ns(plan.duration),
            timeout_ns: ns(plan.timeout),
            keeps_going: plan.keeps_going,
            interval_ns: ns(plan.interval),
            seed: plan.seed,
            part: part.number as u32,
            parts: part.of as u32,
        }
    }

    /// The plan that it stands for, on these CPUs.
    ///
    /// # Errors
    /// What is wrong with it, in words for the coordinator's user.
    pub(super) fn plan(&self, cpus: &[Option<usize>]) -> Result<Plan, String> {
        if self.version != VERSION {
            return Err(format!(
                "the agent is loadgen {VERSION}, the coordinator {}; use the same on all hosts",
                self.version
            ));
        }
        let arrivals = match self.arrival.as_deref() {
            None => Arrivals::Closed {
                callers: self.callers as usize,
            },
            // Other hosts have other files, which are none of the coordinator's business.
            Some(arrival) if arrival.starts_with("trace") => {
                return Err("agents take no traces".into());
            }
            Some(arrival) => Arrivals::Open {
                arrival: arrival.parse::<Arrival>()?,
                rate_per_s: self.rate_per_s,
            },
        };
        let is_within = |value: u64, max: u64| (1..=max).contains(&value);
        let times = [self.duration_ns, self.timeout_ns, self.interval_ns];
        let is_sound = self.part < self.parts
            && is_within(self.parts.into(), AGENTS_MAX as u64)
            && is_within(self.conns.into(), 10_000)
            && is_within(self.depth.into(), 1024)
            && self.churn_calls != Some(0)
            && self.warmup_ns <= TIME_NS_MAX
            && times.iter().all(|&time_ns| is_within(time_ns, TIME_NS_MAX))
            && (self.arrival.is_none() || (0.1..=1e8).contains(&self.rate_per_s));
        if !is_sound {
            return Err(format!("the assignment is out of bounds: {self:?}"));
        }
        let workload = Workload::parse(&self.method, &self.payload, self.service_time.as_deref())?;
        let plan = Plan {
            protocol: if self.is_tonic {
                Protocol::Tonic
            } else {
                Protocol::Ringcall
            },
            address: self.target.clone(),
            workload,
            arrivals,
            conns: (self.conns as usize).max(cpus.len()),
            depth: self.depth as usize,
            churn_calls: self.churn_calls,
            warmup: Duration::from_nanos(self.warmup_ns),
            duration: Duration::from_nanos(self.duration_ns),
            timeout: Duration::from_nanos(self.timeout_ns),
            keeps_going: self.keeps_going,
            interval: Duration::from_nanos(self.interval_ns),
            cpus: cpus.to_vec(),
            seed: self.seed,
            server_pid: None,
            part: Part {
                number: self.part as usize,
                of: self.parts as usize,
            },
            // Slices stay with who makes the calls.
            limits_ns: Vec::new(),
        };
        plan.check()?;
        Ok(plan)
    }
}

impl Counts {
    pub(super) fn of(record: &Record, end: Duration) -> Self {
        let buckets = |times: &Histogram<u64>| {
            let filled = times.iter_recorded().map(|step| Bucket {
                ns: step.value_iterated_to(),
                count: step.count_since_last_iteration(),
            });
            filled.collect::<Vec<_>>()
        };
        let methods = record.methods.iter().map(|tally| {
            let counts = tally.counts;
            MethodCounts {
                calls: [
                    counts.scheduled,
                    counts.sent,
                    counts.unsent,
                    counts.ok,
                    counts.error,
                    counts.timeout,
                    counts.unfinished,
                ],
                times: Kind::ALL.map(|kind| buckets(tally.times.of(kind))),
            }
        });
        Self {
            end_ns: end.as_nanos() as u64,
            methods: methods.collect(),
            answered: record.answered,
            in_flight_ns: record.in_flight_ns,
            full_cap: [
                record.full_cap.full_ns,
                record.full_cap.stalled_ns,
                record.full_cap.unanswered_ns_max,
                record.full_cap.waited,
            ],
            pauses: [
                record.disturbance.generator.count,
                record.disturbance.generator.total_ns,
                record.disturbance.generator.longest_ns,
            ],
            failures: record
                .failures
                .iter()
                .map(|failure| Failure {
                    text: failure.text.clone(),
                    is_of_server: failure.is_of_server,
                    count: failure.count,
                })
                .collect(),
        }
    }

    /// The record of so many methods that it stands for.
    ///
    /// # Errors
    /// When it can't be one.
    pub(super) fn record(&self, methods: usize) -> Result<Record, String> {
        if self.methods.len() != methods {
            return Err(format!(
                "it counts {} methods of {methods}",
                self.methods.len()
            ));
        }
        if !self.in_flight_ns.is_finite() || self.in_flight_ns < 0.0 {
            return Err(format!("{} ns in flight", self.in_flight_ns));
        }
        let mut record = Record::new(methods);
        for (tally, counts) in record.methods.iter_mut().zip(&self.methods) {
            let [scheduled, sent, unsent, ok, error, timeout, unfinished] = counts.calls;
            if counts.calls.iter().any(|&count| count > CALLS_MAX) {
                return Err(format!(
                    "it has more calls than there can be: {:?}",
                    counts.calls
                ));
            }
            tally.counts = CallCounts {
                scheduled,
                sent,
                unsent,
                ok,
                error,
                timeout,
                unfinished,
            };
            for (kind, buckets) in Kind::ALL.into_iter().zip(&counts.times) {
                for bucket in buckets {
                    if bucket.count > CALLS_MAX {
                        return Err(format!("{} calls took {} ns", bucket.count, bucket.ns));
                    }
                    tally.times.record_many(kind, bucket.ns, bucket.count);
                }
            }
        }
        record.answered = self.answered.min(CALLS_MAX);
        record.in_flight_ns = self.in_flight_ns;
        let [full_ns, stalled_ns, unanswered_ns_max, waited] =
            self.full_cap.map(|value| value.min(CALLS_MAX));
        record.full_cap = FullCap {
            full_ns,
            stalled_ns,
            unanswered_ns_max,
            waited,
        };
        let [count, total_ns, longest_ns] = self.pauses.map(|value| value.min(CALLS_MAX));
        record.disturbance.generator = Pauses {
            count,
            total_ns,
            longest_ns,
        };
        for failure in &self.failures {
            let count = failure.count.min(CALLS_MAX);
            record
                .failures
                .add(&failure.text, failure.is_of_server, count);
        }
        Ok(record)
    }
}

impl Ending {
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self {
            window_ns: outcome.window.as_nanos() as u64,
            is_interrupted: outcome.completion == Completion::Interrupted,
            is_target_lost: outcome.completion == Completion::TargetLost,
        }
    }

    /// The same as one of the ways that results know.
    pub(super) fn completion(&self) -> Completion {
        match (self.is_target_lost, self.is_interrupted) {
            (true, _) => Completion::TargetLost,
            (false, true) => Completion::Interrupted,
            (false, false) => Completion::Complete,
        }
    }
}

/// Of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Agents of one load.
pub(super) const AGENTS_MAX: usize = 256;
/// A day.
const TIME_NS_MAX: u64 = 86_400 * 1_000_000_000;
/// More calls than any interval has, and few enough that sums don't overflow.
const CALLS_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        Assignment {
            version: VERSION.into(),
            target: "tcp://127.0.0.1:1".into(),
            is_tonic: false,
            method: "echo=0.5,add=0.5".into(),
            payload: "fixed:64".into(),
            service_time: None,
            arrival: Some("poisson".into()),
            rate_per_s: 1000.0,
            callers: 0,
            conns: 2,
            depth: 8,
            churn_calls: None,
            warmup_ns: 0,
            duration_ns: 1_000_000_000,
            timeout_ns: 1_000_000_000,
            keeps_going: true,
            interval_ns: 100_000_000,
            seed: 1,
            part: 1,
            parts: 2,
        }
    }

    #[test]
    fn an_order_becomes_a_plan() {
        let plan = assignment().plan(&[None]).unwrap();
        assert_eq!((plan.part, plan.conns), (Part { number: 1, of: 2 }, 2));
        assert_eq!(plan.duration, Duration::from_secs(1));
    }

    #[test]
    fn assignments_that_make_no_sense_are_refused() {
        type Spoil = fn(&mut Assignment);
        let wrong: [(&str, Spoil); 11] = [
            ("version", |assignment| assignment.version = "0.0.0".into()),
            ("part", |assignment| assignment.part = 2),
            ("parts", |assignment| assignment.parts = u32::MAX),
            ("conns", |assignment| assignment.conns = 0),
            ("depth", |assignment| assignment.depth = 1 << 20),
            ("rate", |assignment| assignment.rate_per_s = f64::NAN),
            ("high rate", |assignment| assignment.rate_per_s = 1e9),
            ("duration", |assignment| assignment.duration_ns = u64::MAX),
            ("interval", |assignment| assignment.interval_ns = 1),
            ("method", |assignment| assignment.method = "what".into()),
            ("trace", |assignment| {
                assignment.arrival = Some("trace:/etc/passwd".into())
            }),
        ];
        for (what, spoil) in wrong {
            let mut assignment = assignment();
            spoil(&mut assignment);
            let why = assignment.plan(&[None]).expect_err(what);
            assert!(!why.contains("passwd"), "{why}");
        }
    }

    #[test]
    fn a_record_arrives_as_it_was() {
        let mut record = Record::new(2);
        record.methods[1].counts.ok = 3;
        for ns in [1, 1500, 1_234_567_890] {
            record.methods[1].times.record_many(Kind::Response, ns, 2);
        }
        record.answered = 3;
        let arrived = Counts::of(&record, Duration::ZERO).record(2).unwrap();
        assert_eq!(arrived.methods[1].counts, record.methods[1].counts);
        let times = |record: &Record| record.methods[1].times.of(Kind::Response).clone();
        assert_eq!(times(&arrived), times(&record));
        assert_eq!(arrived.answered, 3);
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let counts = Counts::of(&Record::new(1), Duration::ZERO);
        assert!(counts.record(2).is_err());
        let mut odd = counts.clone();
        odd.in_flight_ns = f64::NAN;
        assert!(odd.record(1).is_err());
        let mut many = counts.clone();
        many.methods[0].calls[0] = u64::MAX;
        assert!(many.record(1).is_err());
        let mut full = counts;
        let count = u64::MAX;
        full.methods[0].times[0].push(Bucket { ns: 1, count });
        assert!(full.record(1).is_err());
    }
}
