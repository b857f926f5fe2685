//! The figures of one run: what all others are computed from.

use std::time::Duration;

use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::to_raw_value;

use crate::runs::Run;

/// The figures of one run of one peer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RunFigures {
    /// Number of its round at this point: the runs of a round followed each other, one per peer.
    pub round: usize,
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// Median latency of a call.
    pub p50_us: f64,
    /// Latency that one call in a hundred exceeds.
    pub p99_us: f64,
    /// Latency that one call in a thousand exceeds; of fewer calls, the slowest.
    pub p999_us: f64,
    /// CPU time of the server per call, in user code and in the kernel.
    pub server_cpu_us_per_call: f64,
    /// CPU time of the client per call, in user code and in the kernel.
    pub client_cpu_us_per_call: f64,
    /// Share of the time that the server was on its CPU.
    pub server_busy: f64,
    /// Share of the time that the client was on its CPU.
    pub client_busy: f64,
    /// Share of the two CPUs that neither had and that was not idle. `None` when nothing was pinned.
    pub others_busy: Option<f64>,
    /// Whether others had so little that the run was not disturbed.
    pub is_calm: bool,
}

impl RunFigures {
    /// What a run says.
    pub fn of(run: &Run) -> Self {
        let outcome = &run.outcome;
        let cpu_us_per_call = |cpu: Duration| cpu.as_secs_f64() * 1e6 / outcome.calls as f64;
        let us = |quantile| outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            round: run.round,
            calls_per_s: outcome.calls as f64 / outcome.elapsed.as_secs_f64(),
            p50_us: us(0.50),
            p99_us: us(0.99),
            p999_us: us(0.999),
            server_cpu_us_per_call: cpu_us_per_call(outcome.load.server),
            client_cpu_us_per_call: cpu_us_per_call(outcome.load.client),
            server_busy: outcome.load.server.div_duration_f64(outcome.elapsed),
            client_busy: outcome.load.client.div_duration_f64(outcome.elapsed),
            others_busy: outcome.load.others,
            is_calm: outcome.load.is_calm,
        }
    }
}

/// Writes each run on a line of its own also where JSON is indented: there are thousands of them.
pub(super) fn on_lines<S: Serializer>(runs: &[RunFigures], to: S) -> Result<S::Ok, S::Error> {
    let mut lines = to.serialize_seq(Some(runs.len()))?;
    for run in runs {
        lines.serialize_element(&to_raw_value(run).map_err(S::Error::custom)?)?;
    }
    lines.end()
}
