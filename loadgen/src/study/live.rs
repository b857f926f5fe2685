//! Loads of a study on real servers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{Load, Probe, Probed, Side};
use crate::failure::Failure;
use crate::load::arrival::Arrival;
use crate::load::generator::{Arrivals, Plan};
use crate::results::{Completion, Protocol};
use crate::run::args::LoadArgs;
use crate::run::session::Session;

/// Server B of a comparison.
#[derive(Clone, Debug)]
pub(super) struct TargetB {
    pub(super) address: String,
    pub(super) protocol: Protocol,
    pub(super) pid: Option<u32>,
}

/// A measurement of many loads, all kept in one folder.
pub(super) struct LiveProbe {
    pub(super) session: Session,
    args: LoadArgs,
    other: Option<TargetB>,
    shards: u32,
    /// Set when the study was ended early: by a signal, or because the server went away.
    is_stopped: Rc<Cell<bool>>,
}

impl LiveProbe {
    pub(super) fn start(
        args: &LoadArgs,
        study: &str,
        other: Option<TargetB>,
    ) -> Result<Self, Failure> {
        let mut args = args.clone();
        if study != "compare" && matches!(args.arrival, Arrival::Trace(_)) {
            let why = "a trace has its own rate, which a study can't vary: use --arrival uniform, poisson or gamma:CV";
            return Err(Failure::Usage(why.into()));
        }
        // The name of a single run says nothing here.
        if args.name == "run" {
            args.name = study.to_owned();
        }
        Ok(Self {
            session: Session::start(&args, study)?,
            shards: args.shards,
            args,
            other,
            is_stopped: Rc::default(),
        })
    }

    /// Whether the study was ended early, as it goes on.
    pub(super) fn stopped(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.is_stopped)
    }

    /// About how long each of these loads takes, beside their labels.
    pub(super) fn times(&self, loads: &[Load]) -> Vec<(String, Duration)> {
        let time = |load: &Load| {
            let plan = self.plan(load).ok();
            plan.map_or(Duration::ZERO, |plan| plan.warmup + plan.duration)
        };
        loads
            .iter()
            .map(|load| (load.label.clone(), time(load)))
            .collect()
    }

    /// What a load is here.
    ///
    /// # Errors
    /// When it contradicts itself.
    fn plan(&self, load: &Load) -> Result<Plan, Failure> {
        let mut plan = self.session.plan()?;
        plan.conns = load.conns.map_or(plan.conns, |conns| conns as usize);
        plan.conns = plan.conns.max(plan.cpus.len());
        plan.depth = load.depth.map_or(plan.depth, |depth| depth as usize);
        plan.seed = load.seed;
        let usual = plan.duration;
        plan.duration = usual.mul_f64(load.time_ratio).max(DURATION_MIN.min(usual));
        match load.rate_per_s {
            Some(rate_per_s) => {
                plan.arrivals = Arrivals::Open {
                    arrival: self.args.arrival.clone(),
                    rate_per_s,
                };
                let needed = Duration::from_secs_f64(load.calls_min / rate_per_s);
                let longest = usual * LONGER_MAX;
                plan.duration = plan.duration.max(needed.min(longest));
            }
            None => {
                let all = plan.conns * plan.depth;
                let callers = self.args.closed.map_or(all, |callers| callers as usize);
                plan.arrivals = Arrivals::Closed {
                    callers: callers.min(all),
                };
            }
        }
        // Bounds of a quantile are read from how intervals differ.
        plan.interval = plan
            .interval
            .min(plan.duration / INTERVALS_MIN)
            .max(INTERVAL_MIN);
        plan.check().map_err(Failure::Usage)?;
        if let (Side::B, Some(other)) = (load.side, &self.other) {
            plan.address.clone_from(&other.address);
            plan.protocol = other.protocol;
            plan.server_pid = other.pid;
        }
        Ok(plan)
    }
}

impl Probe for LiveProbe {
    type Error = Failure;

    fn probe(&mut self, load: &Load) -> Result<Probed, Failure> {
        if let Some(shards) = load.shards.filter(|shards| *shards != self.shards) {
            self.session.restart_server(shards)?;
            self.shards = shards;
        }
        let plan = self.plan(load)?;
        let measured = self.session.measure(load.label.clone(), &plan)?;
        if measured.point.completion != Completion::Complete || self.session.is_interrupted() {
            self.is_stopped.set(true);
        }
        Ok(Probed {
            point: measured.point,
            responses_ns: measured.responses_ns,
        })
    }
}

/// Times as long as was asked for, at most, is a load measured for the sake of its calls. If they
/// are too few even then, it says too little.
pub(super) const LONGER_MAX: u32 = 10;
/// No load is shorter, unless that was asked for.
const DURATION_MIN: Duration = Duration::from_secs(1);
/// Intervals of a load.
const INTERVALS_MIN: u32 = 10;
const INTERVAL_MIN: Duration = Duration::from_millis(20);
