//! Whether a load measured what it says, and who is to blame where it did not.

use std::time::Duration;

use super::point::latency;
use crate::analysis::slo::{Metric, Objective};
use crate::load::generator::Outcome;
use crate::load::record::Tally;
use crate::results::{
    Completion, FullCap, Kind, Latency, Quiet, QuietVerdict, SloOutcome, Validity,
};
use crate::units::{format_count, format_ns, percent, several};

/// What must be known of a load beside what it has brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Threads that made the calls.
    pub(crate) threads: usize,
    /// Calls that were permitted to be in flight.
    pub(crate) in_flight_max: u32,
    /// Shards of the server, as far as they are known.
    pub(crate) server_shards: u32,
    /// Time under load before the window.
    pub(crate) warmup: Duration,
    /// CPUs that the server used, if they are known.
    pub(crate) server_cpus_busy: Option<f64>,
    /// What the objective has come to, if there is one.
    pub(crate) slo: Option<&'a SloOutcome>,
    /// What it has come to in the quiet, if that may decide.
    pub(crate) quiet: Option<&'a Quiet>,
}

impl Context<'_> {
    /// Rule 3 of measurement: what makes a result worthless. It holds for the whole, and for each of
    /// several generators.
    pub(crate) fn validity(&self, outcome: &Outcome) -> Validity {
        // Only a latency that is within its limit says that the delays did no harm.
        let is_met = self
            .slo
            .is_some_and(|slo| slo.is_met && slo.checks.iter().any(|check| !check.is_of_errors()));
        // What was quiet says nothing of calls that failed.
        let checks = self.slo.iter().flat_map(|slo| &slo.checks);
        let has_no_errors = checks
            .filter(|check| check.is_of_errors())
            .all(|check| check.is_met);
        let quiet = self.quiet.filter(|_| has_no_errors);
        let is_met_in_quiet = quiet.is_some_and(|quiet| quiet.verdict == QuietVerdict::Met);
        let total = outcome.record.total();
        let whole = Observed {
            total: &total,
            latency: &latency(&total.times),
            full_cap: outcome.record.full_cap,
            window_ns: outcome.window.as_nanos() as f64 * self.threads as f64,
            in_flight_max: self.in_flight_max,
            // Of all threads, as the other times are.
            paused_ns: outcome.record.disturbance.generator.total_ns * self.threads as u64,
        };
        let overload = self.overload(&whole);
        let mut reasons = whole.faults(overload);
        let mut lags = whole.delays(overload);
        let mut is_late = whole.lateness().is_some();
        for (number, part_record) in (1..).zip(&outcome.parts) {
            let total = part_record.total();
            let part = Observed {
                total: &total,
                latency: &latency(&total.times),
                full_cap: part_record.full_cap,
                window_ns: whole.window_ns / outcome.parts.len() as f64,
                in_flight_max: self.in_flight_max / outcome.parts.len() as u32,
                paused_ns: part_record.disturbance.generator.total_ns,
            };
            is_late |= part.lateness().is_some();
            let name = |fault: String| format!("agent {number}: {fault}");
            reasons.extend(part.faults(overload).into_iter().map(name));
            lags.extend(part.delays(overload).into_iter().map(name));
        }
        let note = |usual| outcome.note.as_deref().unwrap_or(usual);
        match outcome.completion {
            Completion::Complete => reasons.extend(outcome.note.clone()),
            Completion::Interrupted => {
                reasons.push(format!(
                    "{}: the window is partial",
                    note("it was ended early")
                ));
            }
            Completion::TargetLost => {
                reasons.push("the server went away: the window is partial".into());
            }
            Completion::AgentLost => {
                reasons.push(format!(
                    "{}: what is there is partial",
                    note("an agent was lost")
                ));
            }
        }
        let mut notes: Vec<String> = whole.full_cap_note().into_iter().collect();
        let disturbance = &outcome.record.disturbance;
        notes.extend(disturbance.note(outcome.window.as_secs_f64()));
        notes.extend(self.short_warmup(&whole));
        if is_met {
            let in_spite = |lag| format!("{lag}; the objective was met in spite of it");
            notes.extend(lags.iter().map(in_spite));
        } else if is_met_in_quiet {
            let in_quiet = |lag| {
                format!(
                    "{lag}; the objective's latencies were met in spite of it while no CPU stood still"
                )
            };
            notes.extend(lags.iter().map(in_quiet));
        } else {
            reasons.extend(lags.iter().cloned());
        }
        let is_cut = whole.sent_ratio() < SENT_RATIO_MIN;
        Validity {
            is_valid: reasons.is_empty(),
            reasons,
            lags,
            is_late,
            is_overloaded: is_cut && overload == Overload::Server,
            notes,
        }
    }

    /// That the window began before the first answers came.
    fn short_warmup(&self, whole: &Observed<'_>) -> Option<String> {
        let response_ns = whole.total.times.of(Kind::Response).value_at_quantile(0.5);
        (response_ns as f64 > self.warmup.as_nanos() as f64).then(|| {
            format!(
                "the warm-up of {} is shorter than the median response time of {}: fewer answers came in the window than \
                 later; a longer --warmup shows the rate as it stays",
                format_ns(self.warmup.as_nanos() as f64),
                format_ns(response_ns as f64)
            )
        })
    }

    fn overload(&self, whole: &Observed<'_>) -> Overload {
        let FullCap {
            full_ns,
            stalled_ns,
            ..
        } = whole.full_cap;
        if full_ns as f64 <= whole.window_ns * FULL_RATIO_MAX {
            return Overload::Generator;
        }
        let shards = f64::from(self.server_shards.max(1));
        let is_busy = self
            .server_cpus_busy
            .map(|busy| busy >= shards * BUSY_RATIO_MIN);
        let is_slow = self
            .is_slow(whole)
            .unwrap_or_else(|| is_busy.is_none() && !whole.is_quick());
        if is_busy == Some(true) || stalled_ns * 2 > full_ns {
            Overload::Server
        } else if whole.is_generator_busy() || whole.paused_ns > full_ns {
            Overload::Generator
        } else if is_slow {
            Overload::Server
        } else {
            Overload::Cap
        }
    }

    /// Whether what was answered took longer than the objective permits, waiting left aside; `None`
    /// without an objective of latency.
    fn is_slow(&self, whole: &Observed<'_>) -> Option<bool> {
        let checks = self.slo.iter().flat_map(|slo| &slo.checks);
        let objectives = checks.filter_map(|check| check.objective.parse::<Objective>().ok());
        let service = whole.total.times.of(Kind::Service);
        let slow = objectives.filter_map(|objective| {
            let measured_ns = match objective.metric {
                Metric::Quantile(quantile) => service.value_at_quantile(quantile) as f64,
                Metric::Mean => service.mean(),
                Metric::Max => service.max() as f64,
                Metric::ErrorShare => return None,
            };
            Some(measured_ns > objective.limit)
        });
        slow.reduce(|one, other| one || other)
    }
}

/// Whose fault it is that calls could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overload {
    /// The server's: it was busy, slow, or stood still while as many as permitted were in flight.
    Server,
    /// The permission's: the server answered quickly.
    Cap,
    /// The generator's: fewer were in flight than permitted.
    Generator,
}

/// What is judged: all of a load, or one agent's part.
struct Observed<'a> {
    total: &'a Tally,
    latency: &'a Latency,
    full_cap: FullCap,
    /// That of all threads together.
    window_ns: f64,
    /// Time in which the generator's threads stood still.
    paused_ns: u64,
    in_flight_max: u32,
}

impl Observed<'_> {
    fn sent_ratio(&self) -> f64 {
        let counts = &self.total.counts;
        counts.sent as f64 / counts.scheduled.max(1) as f64
    }

    /// These decide even where there are too few values to report them.
    fn p99_ns(&self, kind: Kind) -> u64 {
        self.total.times.of(kind).value_at_quantile(0.99)
    }

    /// Whether answers come soon, where no objective says what that is.
    fn is_quick(&self) -> bool {
        self.p99_ns(Kind::Service) as f64 <= QUICK_NS
    }

    fn raise_depth(&self) -> &'static str {
        if self.is_quick() {
            RAISE_DEPTH
        } else {
            RAISE_DEPTH_OF_SLOW
        }
    }

    /// Whether calls went out late though there was room. Who has no time to send has none to take answers
    /// either, and calls that wait for that are what is in flight. Response times, in which they waited for
    /// room, are no measure of it.
    fn is_generator_busy(&self) -> bool {
        let service_ns = self.p99_ns(Kind::Service) as f64;
        self.p99_ns(Kind::OwnLag) > LAG_NS_MAX.max((service_ns * LAG_TO_RESPONSE_MAX) as u64)
    }

    /// What a delay may be before it changes what is concluded.
    fn lag_ns_max(&self) -> u64 {
        let response_ns = self.p99_ns(Kind::Response) as f64;
        LAG_NS_MAX.max((response_ns * LAG_TO_RESPONSE_MAX) as u64)
    }

    /// Why it is no measurement, whatever the objective is; empty if it is one.
    fn faults(&self, overload: Overload) -> Vec<String> {
        let counts = &self.total.counts;
        let mut reasons = counts.check(self.latency);
        if counts.scheduled == 0 {
            reasons.push("no call was due in the window: there is nothing to judge".into());
            return reasons;
        }
        if self.sent_ratio() < SENT_RATIO_MIN {
            let percent = self.sent_ratio() * 100.0;
            let remedy = match overload {
                Overload::Server => "the server is overloaded",
                Overload::Cap => self.raise_depth(),
                Overload::Generator => GENERATOR_TOO_SLOW,
            };
            reasons.push(format!(
                "only {percent:.2} % of the scheduled calls were sent, {} of {}: {}; {remedy}",
                format_count(counts.sent),
                format_count(counts.scheduled),
                self.full_cap_text()
            ));
        }
        reasons
    }

    /// Delays for which the server is not to blame, and which response times include.
    fn delays(&self, overload: Overload) -> Vec<String> {
        let is_sent = self.sent_ratio() >= SENT_RATIO_MIN;
        let is_held_up = is_sent && overload != Overload::Server && self.is_cap_too_small();
        let remedy = match overload {
            Overload::Generator => GENERATOR_TOO_SLOW,
            Overload::Cap | Overload::Server => self.raise_depth(),
        };
        let held_up = is_held_up.then(|| format!("{}; {remedy}", self.full_cap_text()));
        self.lateness().into_iter().chain(held_up).collect()
    }

    /// Whether waiting for room decides what is measured, though the server goes on answering.
    fn is_cap_too_small(&self) -> bool {
        let flowing_ns = self.full_cap.full_ns - self.full_cap.stalled_ns;
        flowing_ns as f64 > self.window_ns * FULL_RATIO_MAX
            && self.p99_ns(Kind::RoomWait) > self.lag_ns_max()
    }

    /// That the generator was late, if it was.
    fn lateness(&self) -> Option<String> {
        let (lag_ns, bound_ns) = (self.p99_ns(Kind::OwnLag), self.lag_ns_max());
        (lag_ns > bound_ns).then(|| {
            format!(
                "the generator was late: its own p99 lag is {}, above {}; give it a CPU of its own, more threads (--pin), \
                 or a lower rate",
                format_ns(lag_ns as f64),
                format_ns(bound_ns as f64)
            )
        })
    }

    /// What is told of a full cap that does not make the load worthless.
    fn full_cap_note(&self) -> Option<String> {
        (self.full_cap.waited > 0 && self.sent_ratio() >= SENT_RATIO_MIN).then(|| {
            let text = self.full_cap_text();
            format!("{text}; they are counted in response times")
        })
    }

    fn full_cap_text(&self) -> String {
        let FullCap {
            full_ns,
            stalled_ns,
            unanswered_ns_max,
            waited,
        } = self.full_cap;
        let share = full_ns as f64 / self.window_ns.max(1.0);
        let stalled = match stalled_ns {
            0 => String::new(),
            _ => format!(
                ", {} of it after the server had answered nothing, for {} at the longest",
                percent(stalled_ns as f64 / full_ns.max(1) as f64),
                format_ns(unanswered_ns_max as f64)
            ),
        };
        format!(
            "the cap of {} in flight was full for {} of the time{stalled}; {} {} waited for room",
            several(self.in_flight_max as usize, "call"),
            percent(share),
            format_count(waited),
            if waited == 1 { "call" } else { "calls" }
        )
    }
}

const GENERATOR_TOO_SLOW: &str =
    "the generator was too slow for them; give it more threads (--pin), or a lower rate";
const RAISE_DEPTH_OF_SLOW: &str = "the server's CPUs had time left, so raise --depth or --conns, or shorten what a call waits for";
const RAISE_DEPTH: &str = "answers came quickly, so raise --depth or --conns";
/// Less than this share of the schedule sent: the load was another one.
const SENT_RATIO_MIN: f64 = 0.99;
/// A p99 own lag up to this is permitted in any case, and so is a room wait.
const LAG_NS_MAX: u64 = 50_000;
/// And up to this share of the p99 response time.
const LAG_TO_RESPONSE_MAX: f64 = 0.05;
/// Share of the time that the cap may be full while the server answers.
const FULL_RATIO_MAX: f64 = 0.01;
/// Busy CPUs for each shard from which on a server has no time left.
const BUSY_RATIO_MIN: f64 = 0.9;
/// A p99 service time up to this is quick, where no objective says what is.
const QUICK_NS: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Record;
    use crate::results::SloCheck;

    const MS: u64 = 1_000_000;

    /// A second with calls of one kind: their number, and how long each part of them took.
    struct Calls {
        sent: u64,
        unsent: u64,
        service_ns: u64,
        room_wait_ns: u64,
        own_lag_ns: u64,
        full_cap: FullCap,
    }

    const QUICK: Calls = Calls {
        sent: 20_000,
        unsent: 0,
        service_ns: 100_000,
        room_wait_ns: 0,
        own_lag_ns: 1000,
        full_cap: FullCap {
            full_ns: 0,
            stalled_ns: 0,
            unanswered_ns_max: 0,
            waited: 0,
        },
    };

    fn outcome(calls: &Calls) -> Outcome {
        let mut record = Record::new(1);
        let tally = &mut record.methods[0];
        tally.counts.scheduled = calls.sent + calls.unsent;
        (tally.counts.sent, tally.counts.ok) = (calls.sent, calls.sent);
        tally.counts.unsent = calls.unsent;
        let response_ns = calls.service_ns + calls.room_wait_ns + calls.own_lag_ns;
        for (kind, ns, count) in [
            (Kind::Response, response_ns, calls.sent + calls.unsent),
            (Kind::Service, calls.service_ns, calls.sent),
            (Kind::RoomWait, calls.room_wait_ns, calls.sent),
            (Kind::OwnLag, calls.own_lag_ns, calls.sent),
        ] {
            tally.times.record_many(kind, ns, count);
        }
        record.full_cap = calls.full_cap;
        Outcome {
            slices: None,
            record,
            parts: Vec::new(),
            window: Duration::from_secs(1),
            completion: Completion::Complete,
            note: None,
            server: None,
        }
    }

    fn slo(is_met: bool) -> SloOutcome {
        SloOutcome {
            is_met,
            checks: vec![SloCheck {
                objective: "p99<10ms".into(),
                measured: Some(1e6),
                bound: 1e7,
                is_met,
            }],
        }
    }

    fn validity(calls: &Calls, server_cpus_busy: f64, slo: Option<&SloOutcome>) -> Validity {
        let context = Context {
            threads: 1,
            in_flight_max: 16,
            server_shards: 1,
            warmup: Duration::from_millis(100),
            server_cpus_busy: Some(server_cpus_busy),
            slo,
            quiet: None,
        };
        context.validity(&outcome(calls))
    }

    #[test]
    fn a_late_generator_spoils_what_missed_its_objective() {
        let late = Calls {
            own_lag_ns: 60_000,
            ..QUICK
        };
        assert!(validity(&QUICK, 0.1, None).is_valid);
        let alone = validity(&late, 0.1, None);
        assert!(!alone.is_valid && alone.reasons[0].contains("its own p99 lag is 60.0 µs"));
        assert!(alone.reasons == alone.lags && alone.is_late);
        assert!(!validity(&late, 0.1, Some(&slo(false))).is_valid);
        let met = validity(&late, 0.1, Some(&slo(true)));
        assert!(
            met.is_valid && met.notes[0].contains("in spite of it"),
            "{met:?}"
        );
    }

    #[test]
    fn room_that_a_stalled_server_takes_is_told_and_counts() {
        let stalled = Calls {
            room_wait_ns: 50 * MS,
            full_cap: FullCap {
                full_ns: 490 * MS,
                stalled_ns: 480 * MS,
                unanswered_ns_max: 200 * MS,
                waited: 2431,
            },
            ..QUICK
        };
        let told = validity(&stalled, 0.1, None);
        assert!(told.is_valid, "{told:?}");
        for part in [
            "16 calls in flight",
            "49 %",
            "200 ms",
            "2 431 calls waited",
            "response times",
        ] {
            assert!(told.notes[0].contains(part), "{part}: {told:?}");
        }
        // The same while answers came all the time: it is the cap that decides.
        let quick = Calls {
            full_cap: FullCap {
                stalled_ns: 0,
                ..stalled.full_cap
            },
            ..stalled
        };
        let small = validity(&quick, 0.1, None);
        assert!(small.reasons[0].contains("raise --depth"), "{small:?}");
        assert!(!small.is_overloaded && !small.is_late && small.faults().next().is_none());
        assert!(validity(&quick, 0.95, None).is_valid, "a busy server");
        assert!(
            validity(&quick, 0.1, Some(&slo(true))).is_valid,
            "met in spite of it"
        );
    }

    #[test]
    fn calls_that_were_never_sent_are_the_fault_of_what_held_them_up() {
        let unsent = Calls {
            unsent: 1000,
            full_cap: FullCap {
                full_ns: 900 * MS,
                waited: 10_000,
                ..FullCap::default()
            },
            ..QUICK
        };
        let small = validity(&unsent, 0.1, None);
        assert!(!small.is_valid && !small.is_overloaded, "{small:?}");
        assert!(small.reasons[0].contains("95.24 %"), "{small:?}");
        assert!(small.reasons[0].contains("raise --depth"), "{small:?}");
        let busy = validity(&unsent, 0.95, None);
        assert!(!busy.is_valid && busy.is_overloaded);
        assert!(busy.reasons[0].contains("the server is overloaded"));
        // An idle one that is slow is told by its answers.
        let slow = Calls {
            service_ns: 20 * MS,
            ..unsent
        };
        assert!(validity(&slow, 0.0, Some(&slo(false))).is_overloaded);
    }

    #[test]
    fn a_full_cap_of_a_busy_generator_is_the_generators() {
        // Answers lie there and wait to be read, so as many as permitted are in flight.
        let held_up = Calls {
            unsent: 1000,
            service_ns: 600_000,
            room_wait_ns: 200 * MS,
            own_lag_ns: 300_000,
            full_cap: FullCap {
                full_ns: 900 * MS,
                waited: 20_000,
                ..FullCap::default()
            },
            ..QUICK
        };
        let busy = validity(&held_up, 0.3, None);
        assert!(!busy.is_overloaded, "{busy:?}");
        assert!(
            busy.reasons[0].contains("the generator was too slow"),
            "{busy:?}"
        );
        // The same where nearly all went out.
        let sent = Calls {
            unsent: 0,
            ..held_up
        };
        let late = validity(&sent, 0.3, None);
        assert!(!late.is_valid && late.lags.len() == 1, "{late:?}");
        assert!(
            late.lags[0].contains("the generator was too slow"),
            "{late:?}"
        );
        let idle = Calls {
            own_lag_ns: 5000,
            ..held_up
        };
        let capped = validity(&idle, 0.3, None);
        assert!(capped.reasons[0].contains("raise --depth"), "{capped:?}");
    }

    #[test]
    fn a_generator_that_sends_too_little_is_not_a_server_that_is_overloaded() {
        let unsent = Calls {
            unsent: 1000,
            ..QUICK
        };
        let busy = validity(&unsent, 0.95, None);
        assert!(!busy.is_valid && !busy.is_overloaded, "{busy:?}");
        assert!(
            busy.reasons[0].contains("the generator was too slow"),
            "{busy:?}"
        );
        // An objective of errors alone says nothing of delays.
        let late = Calls {
            own_lag_ns: 60_000,
            ..QUICK
        };
        let mut errors = slo(true);
        errors.checks[0].objective = "err<1%".into();
        assert!(!validity(&late, 0.1, Some(&errors)).is_valid);
    }

    #[test]
    fn a_warm_up_that_is_shorter_than_an_answer_is_noticed() {
        let slow = Calls {
            service_ns: 200 * MS,
            ..QUICK
        };
        let noted = validity(&slow, 0.1, None);
        assert!(
            noted.is_valid && noted.notes[0].contains("--warmup"),
            "{noted:?}"
        );
    }
}
