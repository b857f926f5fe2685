//! The figures of one peer in one cell.

use std::collections::BTreeMap;

use loadgen::analysis::median::Median;
use ringcall::Idle;
use serde::Serialize;

use super::run::{self, RunFigures};
use crate::cell;
use crate::count::syscalls::SyscallCounter;
use crate::point::Point;
use crate::runs::{Failure, Series};
use crate::servers::process::Transport;
use crate::work::Workload;

/// Who was measured, and at what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Name of the server.
    pub peer: String,
    /// What was asked.
    pub workload: Workload,
    /// Kind of socket.
    pub transport: Transport,
    /// Connections.
    pub conns: usize,
    /// Calls in flight on each.
    pub depth: usize,
    /// Payload of the message that carries the body.
    pub payload_bytes: usize,
    /// How server and client wait.
    #[serde(serialize_with = "cell::serialize_idle")]
    pub idle: Idle,
}

/// A peer that could not be measured at a point of the grid, or not in all that it costs.
#[derive(Debug, Serialize)]
pub struct FailedRow {
    /// Who, and at what.
    #[serde(flatten)]
    pub subject: Subject,
    /// What went wrong.
    pub error: String,
}

/// The figures of one peer at one point of the grid. Those over several runs are medians; each
/// `…_interval` is where that median lies with 95 % confidence, or with fewer than six runs their
/// extremes; a single run has none.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Who, and at what.
    #[serde(flatten)]
    pub subject: Subject,
    /// What the server says of its engine.
    pub engine: String,
    /// Those that are compared with other peers.
    #[serde(flatten)]
    pub figures: Figures,
    /// Latency that one call in a thousand exceeds; of fewer calls, the slowest.
    pub p999_us: f64,
    /// Heap allocations of the server per call; `None` when they were not counted.
    pub allocations_per_call: Option<f64>,
    /// System calls of the server per call; `None` when they were not counted.
    pub syscalls_per_call: Option<f64>,
    /// Who counted them.
    pub syscalls_counted_by: Option<SyscallCounter>,
    /// Share of the time that the server was on its CPU: below 1 it waited for the client.
    pub server_busy: f64,
    /// Share of the time that the client was on its CPU: below 1 it waited for the server.
    pub client_busy: f64,
    /// Share of the two CPUs that neither side had and that was not idle; a high one means that
    /// the machine disturbed the runs. `None` when nothing was pinned.
    pub others_busy: Option<f64>,
    /// Share of requests read in place, for servers that read them.
    pub in_place_ratio: Option<f64>,
    /// This peer divided by others that took part, by their names.
    pub against: BTreeMap<String, Figures>,
    /// The runs, so that everything above can be computed again.
    #[serde(serialize_with = "run::on_lines")]
    pub runs: Vec<RunFigures>,
}

/// Lower and upper bound.
pub type Interval = (f64, f64);

/// Figures of one peer, or its ratios to another: medians over the runs, or of the ratios of runs of
/// the same round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// Where that median lies. The interval of a ratio around 1 says that no difference was found.
    pub calls_per_s_interval: Option<Interval>,
    /// Median latency of a call.
    pub p50_us: f64,
    /// See there.
    pub p50_us_interval: Option<Interval>,
    /// Latency that one call in a hundred exceeds.
    pub p99_us: f64,
    /// See there.
    pub p99_us_interval: Option<Interval>,
    /// CPU time of the server per call, in user code and in the kernel.
    pub server_cpu_us_per_call: f64,
    /// See there.
    pub server_cpu_us_per_call_interval: Option<Interval>,
    /// CPU time of the client per call, in user code and in the kernel.
    pub client_cpu_us_per_call: f64,
    /// See there.
    pub client_cpu_us_per_call_interval: Option<Interval>,
}

/// Whom the others are divided by, where they take part.
pub const REFERENCES: [&str; 3] = ["raw", "raw-epoll", "tonic"];

impl Row {
    /// The rows of one point.
    pub fn of_point(point: Point, all: &[Series]) -> Vec<Self> {
        let mut rows: Vec<Self> = all
            .iter()
            .map(|series| Self::of_series(point, series))
            .collect();
        for reference in REFERENCES {
            let Some(at) = all.iter().position(|series| series.peer == reference) else {
                continue;
            };
            for other in (0..all.len()).filter(|other| *other != at) {
                let ratios = Figures::of_ratios(&rows[other].runs, &rows[at].runs);
                rows[other].against.insert(reference.into(), ratios);
            }
        }
        rows
    }

    fn of_series(point: Point, series: &Series) -> Self {
        let runs: Vec<_> = series.runs.iter().map(RunFigures::of).collect();
        let over = |figure: fn(&RunFigures) -> f64| median(runs.iter().map(figure));
        let counters = || series.runs.iter().map(|run| &run.counters);
        let in_place = counters().filter_map(|counters| counters.in_place_ratio());
        let per_call = series.per_call;
        Self {
            subject: Subject::of(point, &series.peer),
            engine: counters()
                .next()
                .map_or_else(String::new, |first| first.engine.clone()),
            figures: Figures::of_each(over),
            p999_us: over(|run| run.p999_us).value,
            allocations_per_call: per_call.map(|per_call| per_call.allocations),
            syscalls_per_call: per_call.and_then(|per_call| per_call.syscalls),
            syscalls_counted_by: per_call.and_then(|per_call| per_call.syscalls_counted_by),
            server_busy: over(|run| run.server_busy).value,
            client_busy: over(|run| run.client_busy).value,
            others_busy: Median::of(runs.iter().filter_map(|run| run.others_busy))
                .map(|others| others.value),
            in_place_ratio: Median::of(in_place).map(|ratio| ratio.value),
            against: BTreeMap::new(),
            runs,
        }
    }
}

impl Subject {
    /// A peer, by its name in the tables, at a point.
    pub fn of(point: Point, peer: &str) -> Self {
        Self {
            peer: peer.to_owned(),
            workload: point.work.workload,
            transport: point.transport,
            conns: point.cell.connections,
            depth: point.cell.depth,
            payload_bytes: point.work.payload_bytes,
            idle: point.cell.idle,
        }
    }
}

impl FailedRow {
    /// A failure at a point.
    pub fn of(point: Point, failure: Failure) -> Self {
        Self {
            subject: Subject::of(point, &failure.peer),
            error: failure.error,
        }
    }
}

impl Figures {
    /// Of runs that belong to one round by their position, the first divided by the second.
    fn of_ratios(ours: &[RunFigures], base: &[RunFigures]) -> Self {
        Self::of_each(|figure| {
            let rounds = ours.iter().zip(base);
            median(rounds.map(|(ours, base)| figure(ours) / figure(base)))
        })
    }

    /// Each as `over` finds it.
    fn of_each(over: impl Fn(fn(&RunFigures) -> f64) -> Median) -> Self {
        let rate = over(|run| run.calls_per_s);
        let (p50, p99) = (over(|run| run.p50_us), over(|run| run.p99_us));
        let server_cpu = over(|run| run.server_cpu_us_per_call);
        let client_cpu = over(|run| run.client_cpu_us_per_call);
        Self {
            calls_per_s: rate.value,
            calls_per_s_interval: rate.interval,
            p50_us: p50.value,
            p50_us_interval: p50.interval,
            p99_us: p99.value,
            p99_us_interval: p99.interval,
            server_cpu_us_per_call: server_cpu.value,
            server_cpu_us_per_call_interval: server_cpu.interval,
            client_cpu_us_per_call: client_cpu.value,
            client_cpu_us_per_call_interval: client_cpu.interval,
        }
    }
}

/// The median of runs, of which there is at least one.
///
/// # Panics
/// When there is none.
pub fn median(runs: impl IntoIterator<Item = f64>) -> Median {
    Median::of(runs).expect("at least one run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_runs_of_the_same_round() {
        let runs = |rates: [f64; 3]| {
            rates.map(|calls_per_s| RunFigures {
                round: 1,
                calls_per_s,
                p50_us: 1.0,
                p99_us: 1.0,
                p999_us: 1.0,
                server_cpu_us_per_call: 1e6 / calls_per_s,
                client_cpu_us_per_call: 4e6 / calls_per_s / calls_per_s,
                server_busy: 1.0,
                client_busy: 1.0,
                others_busy: None,
                is_calm: true,
            })
        };
        // The machine changes its speed from round to round; the ratio does not.
        let ratios = Figures::of_ratios(&runs([200.0, 20.0, 2.0]), &runs([100.0, 10.0, 1.0]));
        assert_eq!(
            (ratios.calls_per_s, ratios.calls_per_s_interval),
            (2.0, Some((2.0, 2.0)))
        );
        assert_eq!(ratios.server_cpu_us_per_call_interval, Some((0.5, 0.5)));
        assert_eq!(ratios.client_cpu_us_per_call_interval, Some((0.25, 0.25)));
    }
}
