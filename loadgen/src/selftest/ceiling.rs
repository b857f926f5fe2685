//! The highest rate that one thread of the generator offers, against a server that does nothing else
//! than speak the protocol.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use super::stalls::{self, ObservedStalls};
use crate::load::arrival::Arrival;
use crate::load::generator::{Arrivals, Part, Plan};
use crate::load::work::Workload;
use crate::results::{Ceiling, KeptRate, Kind, Protocol};
use crate::target::child::{IDLE_USUAL, ServerOptions, ServerProcess};
use crate::target::placement::Placement;

/// A load and how it went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CeilingProbe {
    pub(super) is_open: bool,
    pub(super) answered_per_s: f64,
    pub(super) own_lag_p99_ns: u64,
    /// What the machine's stalls alone make of it; `null`: they were not looked at.
    pub(super) stall_lag_p99_ns: Option<f64>,
    /// Whether the rule on the generator's lag was kept, and everything sent.
    pub(super) is_kept: bool,
}

/// What the generator can do here at most, from a few short loads.
///
/// # Errors
/// When the server or a thread can't be started.
pub(crate) fn measure(protocol: Protocol, time: Duration) -> Result<Ceiling, String> {
    let placement = Placement::choose(&ringcall::environment());
    Ok(judge(
        &search(protocol, placement, time)?,
        look(placement, time).as_ref(),
    ))
}

/// How still the machine is, where there is a CPU for it.
pub(super) fn look(placement: Option<Placement>, time: Duration) -> Option<ObservedStalls> {
    placement.map(|placement| stalls::look(placement.client, placement.server, time))
}

pub(super) fn judge(tried: &[CeilingProbe], stalls: Option<&ObservedStalls>) -> Ceiling {
    let kept = tried.iter().filter(|tried| tried.is_open && tried.is_kept);
    let best = kept.max_by(|a, b| a.answered_per_s.total_cmp(&b.answered_per_s));
    let pipelined = tried.iter().map(|tried| tried.answered_per_s);
    Ceiling {
        pipelined_per_s: pipelined.fold(0.0, f64::max),
        kept: best.map(|best| KeptRate {
            per_s: best.answered_per_s,
            own_lag_p99_ns: best.own_lag_p99_ns,
        }),
        stalls: stalls.map(ObservedStalls::stalls),
    }
}

/// Finds the rate of a closed loop, and then tries shares of it as open loops.
pub(super) fn search(
    protocol: Protocol,
    placement: Option<Placement>,
    time: Duration,
) -> Result<Vec<CeilingProbe>, String> {
    let options = ServerOptions {
        protocol,
        shards: 1,
        cpus: placement.map(|placement| vec![placement.server]),
        idle: IDLE_USUAL.into(),
    };
    let server = ServerProcess::start(&["tcp://127.0.0.1:0".to_owned()], &options)?;
    let cpu = placement.map(|placement| placement.client);
    let plan = |arrivals| Plan {
        protocol,
        address: server.addresses()[0].clone(),
        workload: Workload::echo(PAYLOAD_BYTES),
        arrivals,
        conns: CONNS,
        depth: DEPTH,
        churn_calls: None,
        warmup: time / 4,
        duration: time,
        timeout: Duration::from_secs(1),
        keeps_going: false,
        interval: time,
        cpus: vec![cpu],
        seed: 1,
        server_pid: None,
        part: Part::WHOLE,
        limits_ns: Vec::new(),
    };
    let closed = attempt(&plan(Arrivals::Closed {
        callers: CONNS * PIPELINED,
    }))?;
    let highest_per_s = closed.answered_per_s;
    let mut tried = vec![closed];
    for share in SHARES {
        tried.push(attempt(&plan(Arrivals::Open {
            arrival: Arrival::Poisson,
            rate_per_s: highest_per_s * share,
        }))?);
    }
    server.stop()?;
    Ok(tried)
}

fn attempt(plan: &Plan) -> Result<CeilingProbe, String> {
    let outcome = plan.run(&AtomicBool::new(false), &mut |_| Ok(()))?;
    let total = outcome.record.total();
    let p99_ns = |kind| total.times.of(kind).value_at_quantile(0.99);
    let own_lag_p99_ns = p99_ns(Kind::OwnLag);
    Ok(CeilingProbe {
        is_open: matches!(plan.arrivals, Arrivals::Open { .. }),
        answered_per_s: outcome.record.answered as f64 / outcome.window.as_secs_f64(),
        own_lag_p99_ns,
        stall_lag_p99_ns: None,
        is_kept: own_lag_p99_ns.max(p99_ns(Kind::RoomWait)) <= LAG_NS_MAX
            && total.counts.unsent * 100 <= total.counts.scheduled,
    })
}

/// As in the rule of measurement.
const LAG_NS_MAX: u64 = 50_000;
const PAYLOAD_BYTES: u32 = 64;
/// Few connections, so that one send carries many calls.
const CONNS: usize = 2;
/// Room for the calls that come due while the server is held up.
const DEPTH: usize = 1024;
/// Calls in flight on each connection of the closed loop.
const PIPELINED: usize = 512;
/// Shares of the closed loop's rate that are tried.
const SHARES: [f64; 5] = [0.8, 0.6, 0.4, 0.2, 0.1];
