//! One measurement of one or several points: its server, its CPUs, its folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::args::LoadArgs;
use super::cpu_watch::CpuWatch;
use super::display::ProgressDisplay;
use super::observer::PointObserver;
use super::point::{self, Criteria};
use super::quiet::quiet;
use super::stall_probe::{StallProbe, Stalls};
use super::testbed::Testbed;
use crate::analysis::slo::Slo;
use crate::environment;
use crate::failure::Failure;
use crate::fleet::coordinator::Fleet;
use crate::load::arrival::Arrival;
use crate::load::generator::{Arrivals, Event, Outcome, Plan};
use crate::results::{
    Ceiling, Completion, HistogramKey, Kind, LoadSettings, LoopKind, Manifest, MethodShare,
    Pinning, PointSummary, Quiet, ResultWriter, SCHEMA_VERSION, ShardRow, Summary, TOTAL,
    wall_clock,
};
use crate::selftest::ceiling;
use crate::target::interrupts;
use crate::units::{format_per_s, several};

/// A measurement under way. Studies run point after point on it; `run` runs one.
pub struct Session {
    args: LoadArgs,
    slo: Option<Slo>,
    is_study: bool,
    testbed: Testbed,
    folder: ResultWriter,
    began: Instant,
    stop: Arc<AtomicBool>,
    points: Vec<PointSummary>,
    /// Why results could not be written.
    write_error: Option<String>,
}

/// A point that was measured.
pub struct Measured {
    /// As it stands in the folder.
    pub point: PointSummary,
    /// Response times of all methods, for each interval of the window in order.
    pub responses_ns: Vec<Histogram<u64>>,
}

impl Session {
    /// Starts the server if none was named, and makes the folder. `study` is the subcommand.
    ///
    /// # Errors
    /// When the options contradict each other, or something can't be started or written.
    pub fn start(args: &LoadArgs, study: &str) -> Result<Self, Failure> {
        // Before anything is started for it.
        ProgressDisplay::check(args.tui)?;
        args.target.as_deref().map_or(Ok(()), check_address)?;
        args.plan("", vec![None], None).map_err(Failure::Usage)?;
        let slo = args.slo.as_deref().map(str::parse).transpose();
        let slo = slo.map_err(|why| Failure::Usage(format!("--slo: {why}")))?;
        let stop = interrupts::watch()?;
        let testbed = Testbed::find(args)?;
        let manifest = manifest(args, study, &testbed);
        let other = |error: crate::results::FolderError| Failure::Other(error.to_string());
        let folder = ResultWriter::create(&args.out, &manifest, wall_clock()).map_err(other)?;
        folder.write_summary(&unfinished(&[])).map_err(other)?;
        Ok(Self {
            args: args.clone(),
            slo,
            is_study: study != "run",
            testbed,
            folder,
            began: Instant::now(),
            stop,
            points: Vec::new(),
            write_error: None,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What a reader of the figures must know.
    pub fn caveats(&self) -> &[String] {
        &self.testbed.caveats
    }

    /// What was measured so far.
    pub fn points(&self) -> &[PointSummary] {
        &self.points
    }

    /// Whether somebody wants the measurement to end.
    pub fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The load of the command line.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn plan(&self) -> Result<Plan, Failure> {
        let testbed = &self.testbed;
        let cpus = testbed.generator_cpus.clone();
        let mut plan = self
            .args
            .plan(&testbed.address, cpus, testbed.server_pid)
            .map_err(Failure::Usage)?;
        if let Some(slo) = self.slo.as_ref().filter(|_| self.is_study) {
            plan.limits_ns = slo.slow_from_ns();
        }
        Ok(plan)
    }

    /// Measures a point and adds it to the folder.
    ///
    /// # Errors
    /// When nothing could be measured: no server, no thread, or interrupted before it began.
    pub fn measure(&mut self, label: String, plan: &Plan) -> Result<Measured, Failure> {
        let number = self.points.len() as u32;
        let before = self.testbed.shards(number);
        let offset = self.began.elapsed() + plan.warmup;
        let display = ProgressDisplay::new(
            self.args.tui,
            &label,
            self.is_study,
            plan.warmup,
            plan.duration,
        )?;
        let mut observer =
            PointObserver::new(number, display, offset, plan, &self.folder, &self.stop);
        let server_cpus = self.testbed.server_cpus.as_deref().unwrap_or(&[]);
        // Of several shards it is not known which of them has used the time.
        let only_thread = plan.server_pid.filter(|_| server_cpus.len() == 1);
        let stalls = StallProbe::start(server_cpus, only_thread);
        let mut window_from = None;
        let mut cpus = CpuWatch::new(self.testbed.cpus(), plan.server_pid, plan.warmup);
        let outcome = {
            let (observer, cpus) = (&mut observer, &mut cpus);
            let window_from = &mut window_from;
            let mut observe = |event: Event<'_>| {
                match event {
                    Event::Begin => {
                        cpus.begin();
                        *window_from = Some(Instant::now() + plan.warmup);
                    }
                    Event::Interval(interval) if interval.start >= plan.duration => (),
                    _ => cpus.look(),
                }
                observer.handle(event);
                Ok(())
            };
            match &self.testbed.fleet {
                Some(fleet) => fleet.run(&self.args, plan, &self.stop, &mut observe),
                None => plan.run(&self.stop, &mut observe),
            }
        };
        let mut outcome = outcome.map_err(Failure::Other)?;
        let generator = &mut outcome.record.disturbance.generator;
        *generator = generator.per_thread(plan.cpus.len());
        let stalls = window_from.and_then(|from| stalls.finish(from, plan.duration));
        outcome.record.disturbance.server = stalls.as_ref().map(|stalls| stalls.pauses);
        if let Some(other_use) = cpus.finish().filter(|_| self.testbed.fleet.is_none()) {
            let disturbance = &mut outcome.record.disturbance;
            disturbance.programs_ratio = other_use.programs_ratio;
            disturbance.host_ratio = Some(other_use.host_ratio);
        }
        let after = self.testbed.shards(number);
        let quiet = self.quiet(&mut outcome, stalls);
        let (responses_ns, write_error) = observer.finish();
        self.write_error = self.write_error.take().or(write_error);
        let start_s = offset.as_secs_f64();
        let mut point = point::summarise(
            number,
            label,
            start_s,
            plan,
            &outcome,
            Criteria {
                slo: self.slo.as_ref(),
                quiet,
            },
            self.testbed.server_shards,
        );
        if self.testbed.has_server_ended() {
            point.completion = Completion::TargetLost;
        }
        self.write_point(&point, plan, &outcome, &growth(&before, &after));
        self.points.push(point.clone());
        // Whatever happens later, what was measured up to here can be read.
        if let Err(error) = self.folder.write_summary(&unfinished(&self.points)) {
            self.write_error.get_or_insert(error.to_string());
        }
        Ok(Measured {
            point,
            responses_ns,
        })
    }

    /// What the calls say of the objective that were due while no CPU stood still, if something did and the
    /// server's CPUs were watched: those that are not may have stood still at any time.
    fn quiet(&self, outcome: &mut Outcome, stalls: Option<Stalls>) -> Option<Quiet> {
        let (slo, stalls) = (self.slo.as_ref()?, stalls?);
        let mut slices = outcome.slices.take()?;
        for (from, until) in stalls.spans {
            slices.disturb_in_window(from, until);
        }
        let shards = f64::from(self.testbed.server_shards.unwrap_or(1).max(1));
        let cpus_busy = point::server_use(outcome).map_or(0.0, |server| server.cpus_busy);
        slices.settle(cpus_busy / shards);
        let window_s = outcome.window.as_secs_f64();
        let is_disturbed = outcome.record.disturbance.is_noteworthy(window_s);
        quiet(&slices, slo, window_s).filter(|_| is_disturbed)
    }

    fn write_point(
        &mut self,
        point: &PointSummary,
        plan: &Plan,
        outcome: &Outcome,
        shards: &[ShardRow],
    ) {
        let write = || {
            let row = point::row(point, plan, self.testbed.server_shards);
            self.folder.add_point(&row)?;
            self.folder.add_shards(shards)?;
            let total = outcome.record.total();
            for kind in Kind::ALL {
                let key = HistogramKey {
                    point: point.point,
                    method: TOTAL.into(),
                    kind,
                };
                self.folder.write_hgrm(&key, total.times.of(kind))?;
            }
            Ok(())
        };
        if let Err(error) = write() {
            let error: crate::results::FolderError = error;
            self.write_error.get_or_insert(error.to_string());
        }
    }

    /// Starts the server again, with another number of shards.
    ///
    /// # Errors
    /// When it can't be started, or is not this program's.
    pub fn restart_server(&mut self, shards: u32) -> Result<(), Failure> {
        if self.args.target.is_some() {
            let why = "shards differ only in a server that loadgen starts: leave out --target";
            return Err(Failure::Usage(why.into()));
        }
        self.args.shards = shards;
        let caveats = std::mem::take(&mut self.testbed.caveats);
        self.testbed = Testbed::find(&self.args)?;
        for caveat in caveats {
            if !self.testbed.caveats.contains(&caveat) {
                self.testbed.caveats.push(caveat);
            }
        }
        Ok(())
    }

    /// What the generator can do here at most. It is part of every result that took long enough for
    /// the seconds that this takes.
    fn ceiling(&self) -> Option<Ceiling> {
        let is_worth_it = self.began.elapsed() >= CEILING_WORTH;
        if !is_worth_it || self.is_interrupted() || self.testbed.fleet.is_some() {
            return None;
        }
        match ceiling::measure(self.args.protocol, CEILING_TIME) {
            Ok(ceiling) => Some(ceiling),
            Err(why) => {
                tracing::warn!(why, "the generator's own ceiling is not known");
                None
            }
        }
    }

    /// Writes the summary, ends the server, and says how it all went; the second value says why
    /// results could not be written.
    pub fn finish(self) -> (Summary, Option<String>) {
        self.finish_study(None)
    }

    /// The same for a study, whose verdict is another one than that of its points.
    pub fn finish_study(self, verdict: Option<u8>) -> (Summary, Option<String>) {
        let completion = self.points.iter().map(|point| point.completion).max();
        let completion = completion.unwrap_or(Completion::Interrupted);
        let ceiling = self.ceiling();
        let mut summary = Summary {
            schema_version: SCHEMA_VERSION,
            completion,
            exit_code: 0,
            ceiling,
            points: self.points,
        };
        summary.exit_code = exit_code(&summary, verdict, self.write_error.is_some());
        let written = self.folder.write_summary(&summary);
        let error = self
            .write_error
            .or(written.err().map(|error| error.to_string()));
        if error.is_some() {
            summary.exit_code = exit_code(&summary, verdict, true);
        }
        (summary, error)
    }
}

/// Refuses what is no address.
///
/// # Errors
/// What is wrong with it, and a right one.
pub(crate) fn check_address(text: &str) -> Result<(), Failure> {
    let parsed: Result<ringcall::Address, _> = text.parse();
    parsed
        .map(drop)
        .map_err(|error| Failure::Usage(error.to_string()))
}

/// What the shell is answered: anything that went wrong first, then what makes the rest worthless,
/// then the objective.
fn exit_code(summary: &Summary, verdict: Option<u8>, has_failed: bool) -> u8 {
    let points = &summary.points;
    // What a server could not keep up with, or failed, is not undone by what else is wrong.
    let is_violated = |point: &PointSummary| {
        let checks = point.slo.iter().flat_map(|slo| &slo.checks);
        let mut violated = checks.filter(|check| check.is_violated());
        let is_certain = point.validity.is_valid || point.validity.is_overloaded;
        violated.any(|check| is_certain || check.is_of_errors())
    };
    let is_undecided = |point: &PointSummary| point.slo.as_ref().is_some_and(|slo| !slo.is_met);
    if has_failed || summary.completion != Completion::Complete {
        1
    } else if let Some(verdict) = verdict {
        verdict
    } else if points.iter().any(is_violated) {
        3
    } else if points
        .iter()
        .any(|point| !point.validity.is_valid || is_undecided(point))
    {
        4
    } else {
        0
    }
}

/// The summary of a measurement that has not come to its end.
fn unfinished(points: &[PointSummary]) -> Summary {
    Summary {
        schema_version: SCHEMA_VERSION,
        completion: Completion::Interrupted,
        exit_code: 1,
        ceiling: None,
        points: points.to_vec(),
    }
}

/// Measurements that took so long are told the generator's ceiling.
const CEILING_WORTH: Duration = Duration::from_secs(5);
/// Time for each of the loads that show it.
const CEILING_TIME: Duration = Duration::from_millis(300);

/// What each shard has counted between two looks.
fn growth(before: &[ShardRow], after: &[ShardRow]) -> Vec<ShardRow> {
    let grown = |after: &ShardRow| {
        let before = before.iter().find(|before| before.shard == after.shard)?;
        Some(ShardRow {
            requests: after.requests.saturating_sub(before.requests),
            in_place: after.in_place.saturating_sub(before.in_place),
            copied: after.copied.saturating_sub(before.copied),
            direct: after.direct.saturating_sub(before.direct),
            ..after.clone()
        })
    };
    after.iter().filter_map(grown).collect()
}

fn manifest(args: &LoadArgs, study: &str, testbed: &Testbed) -> Manifest {
    let workload = args.workload().ok();
    let methods = workload.iter().flat_map(|workload| &workload.methods);
    let is_closed = args.closed.is_some() || args.is_closed_study;
    Manifest {
        schema_version: SCHEMA_VERSION,
        started_utc: environment::now_utc(),
        name: args.name.clone(),
        study: study.into(),
        arguments: environment::arguments(),
        seed: args.seed,
        build: environment::build(),
        machine: environment::machine(),
        pinning: Pinning {
            generator_cpus: testbed.generator_cpus.clone(),
            server_cpus: testbed.server_cpus.clone(),
        },
        agents: testbed.fleet.as_ref().map(Fleet::infos).unwrap_or_default(),
        load: LoadSettings {
            protocol: args.protocol,
            transport: testbed.transport().into(),
            is_own_server: args.target.is_none(),
            server_shards: testbed.server_shards,
            server_idle: args.target.is_none().then(|| args.idle.clone()),
            methods: methods
                .map(|(method, share_ratio)| MethodShare {
                    method: method.name().into(),
                    share_ratio: *share_ratio,
                })
                .collect(),
            loop_kind: if is_closed {
                LoopKind::Closed
            } else {
                LoopKind::Open
            },
            arrival: if is_closed {
                "closed".into()
            } else {
                args.arrival.to_string()
            },
            rate_per_s: (!is_closed).then_some(args.rate),
            closed_callers: args.closed,
            conns: args.conns,
            depth: args.depth,
            churn_calls: args.churn,
            payload: args.payload.clone(),
            service_time: args.service_time.clone(),
            warmup_s: args.warmup.as_secs_f64(),
            duration_s: args.duration.as_secs_f64(),
            timeout_s: args.timeout.as_secs_f64(),
            interval_s: args.interval.as_secs_f64(),
            threads: testbed.generator_cpus.len() as u32,
            slo: args.slo.clone(),
        },
        caveats: testbed.caveats.clone(),
    }
}

/// What distinguishes the only point of a run.
pub(crate) fn label(plan: &Plan) -> String {
    match &plan.arrivals {
        // A trace has its own rate.
        Arrivals::Open {
            arrival: arrival @ Arrival::Trace(times_ns),
            ..
        } => format!("{arrival} of {}", several(times_ns.len(), "call")),
        Arrivals::Open {
            arrival,
            rate_per_s,
        } => format!("{}/s {arrival}", format_per_s(*rate_per_s)),
        Arrivals::Closed { callers } => {
            format!("{}, closed loop", several(*callers, "caller"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{SloCheck, SloOutcome, Validity};
    use crate::study::simulated::Server;
    use crate::study::{Load, Probe};

    fn summary(is_valid: bool, is_met: bool, completion: Completion) -> Summary {
        let Ok(probed) = Server::random(5000.0).probe(&Load::at_rate(100.0, 1));
        let mut point = probed.point;
        point.validity = Validity {
            is_valid,
            ..Validity::default()
        };
        point.slo = Some(SloOutcome {
            is_met,
            checks: vec![SloCheck {
                objective: "p99<1ms".into(),
                measured: Some(5e5),
                bound: 1e6,
                is_met,
            }],
        });
        Summary {
            completion,
            ..unfinished(&[point])
        }
    }

    #[test]
    fn the_worst_decides_the_exit_code() {
        let code = |is_valid, is_met, completion| {
            exit_code(&summary(is_valid, is_met, completion), None, false)
        };
        assert_eq!(code(true, true, Completion::Complete), 0);
        assert_eq!(code(true, false, Completion::Complete), 3);
        assert_eq!(code(false, false, Completion::Complete), 4);
        assert_eq!(code(false, true, Completion::Interrupted), 1);
        let good = summary(true, true, Completion::Complete);
        assert_eq!(exit_code(&good, None, true), 1, "results were not written");
        let late = summary(false, false, Completion::Complete);
        assert_eq!(exit_code(&late, Some(0), false), 0, "a study's own verdict");
    }
}
