//! The figures of one peer in one cell.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::client::Outcome;
use crate::idle::Idle;
use crate::point::Point;
use crate::runs::Series;
use crate::servers::Counters;
use crate::servers::process::Transport;
use crate::work::Workload;

/// The figures of one peer at one point of the grid. Those over several runs are medians; each
/// `…_interval` is where that median lies with 95 % confidence, or with few runs their extremes.
#[derive(Debug, Serialize)]
pub struct Row {
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
    pub idle: Idle,
    /// What the server says of its engine.
    pub engine: String,
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// See there.
    pub calls_per_s_interval: Interval,
    /// Median latency of a call.
    pub p50_us: f64,
    /// See there.
    pub p50_us_interval: Interval,
    /// Latency that one call in a hundred exceeds.
    pub p99_us: f64,
    /// See there.
    pub p99_us_interval: Interval,
    /// Latency that one call in a thousand exceeds.
    pub p999_us: f64,
    /// CPU time of the server per call, in user code and in the kernel.
    pub server_cpu_us_per_call: f64,
    /// See there.
    pub server_cpu_us_per_call_interval: Interval,
    /// Heap allocations of the server per call; `None` when they were not counted.
    pub allocations_per_call: Option<f64>,
    /// System calls of the server per call; `None` when they were not counted.
    pub syscalls_per_call: Option<f64>,
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
    pub against: BTreeMap<String, Ratios>,
}

/// Lower and upper bound.
pub type Interval = (f64, f64);

/// This peer divided by another.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    /// Median of the ratios of rates of runs that followed each other.
    pub calls_per_s: f64,
    /// Where that median lies with 95 % confidence. An interval around 1 says that no difference
    /// was found.
    pub calls_per_s_interval: Interval,
    /// Median p50 over median p50.
    pub p50_us: f64,
    /// Median p99 over median p99.
    pub p99_us: f64,
    /// Median CPU time per call over median CPU time per call.
    pub server_cpu_us_per_call: f64,
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
                let ratios = Ratios::of(&rows[at], &all[at], &rows[other], &all[other]);
                rows[other].against.insert(reference.into(), ratios);
            }
        }
        rows
    }

    fn of_series(point: Point, series: &Series) -> Self {
        let over = |figure: fn(&Outcome) -> f64| Middle::of(series.outcomes.iter().map(figure));
        let others = series.outcomes.iter().filter_map(|run| run.load.others);
        let in_place = series.counters.iter().filter_map(Counters::in_place_ratio);
        let rate = over(calls_per_s);
        let (p50, p99) = (over(|run| us(run, 0.50)), over(|run| us(run, 0.99)));
        let cpu = over(|run| run.load.server.as_secs_f64() * 1e6 / run.calls as f64);
        Self {
            peer: series.peer.clone(),
            workload: point.work.workload,
            transport: point.transport,
            conns: point.cell.connections,
            depth: point.cell.depth,
            payload_bytes: point.work.payload_bytes,
            idle: point.cell.idle,
            engine: series.counters[0].engine.clone(),
            calls_per_s: rate.median,
            calls_per_s_interval: rate.interval,
            p50_us: p50.median,
            p50_us_interval: p50.interval,
            p99_us: p99.median,
            p99_us_interval: p99.interval,
            p999_us: over(|run| us(run, 0.999)).median,
            server_cpu_us_per_call: cpu.median,
            server_cpu_us_per_call_interval: cpu.interval,
            allocations_per_call: series.per_call.map(|per_call| per_call.allocations),
            syscalls_per_call: series.per_call.and_then(|per_call| per_call.syscalls),
            server_busy: over(|run| run.load.server.div_duration_f64(run.elapsed)).median,
            client_busy: over(|run| run.load.client.div_duration_f64(run.elapsed)).median,
            others_busy: Middle::of_some(others).map(|others| others.median),
            in_place_ratio: Middle::of_some(in_place).map(|ratio| ratio.median),
            against: BTreeMap::new(),
        }
    }
}

impl Ratios {
    fn of(base: &Row, base_series: &Series, row: &Row, series: &Series) -> Self {
        let pairs = base_series.outcomes.iter().zip(&series.outcomes);
        let paired = Middle::of(pairs.map(|(base, ours)| calls_per_s(ours) / calls_per_s(base)));
        Self {
            calls_per_s: paired.median,
            calls_per_s_interval: paired.interval,
            p50_us: row.p50_us / base.p50_us,
            p99_us: row.p99_us / base.p99_us,
            server_cpu_us_per_call: row.server_cpu_us_per_call / base.server_cpu_us_per_call,
        }
    }
}

/// The middle of some runs, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    /// The middle run, or the mean of the middle two.
    pub median: f64,
    /// Where the median lies with 95 % confidence.
    pub interval: Interval,
}

impl Middle {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of_some(values).expect("at least one run")
    }

    /// Of any number of values; `None` for none.
    pub fn of_some(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        (!sorted.is_empty()).then(|| Self {
            median: median(&sorted),
            interval: median_confidence(&sorted),
        })
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Bounds of the median with 95 % confidence, whatever the distribution: how many values lie below
/// the true median is binomial, so the bounds are two of the values. Few give their extremes.
fn median_confidence(sorted: &[f64]) -> (f64, f64) {
    const Z_95: f64 = 1.96;
    let count = sorted.len() as f64;
    let rank = ((count - Z_95 * count.sqrt()) / 2.0).floor().max(1.0) as usize;
    (sorted[rank - 1], sorted[sorted.len() - rank])
}

fn calls_per_s(outcome: &Outcome) -> f64 {
    outcome.calls as f64 / outcome.elapsed.as_secs_f64()
}

fn us(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_a_median_with_its_interval() {
        let odd = Middle::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.interval), (2.0, (1.0, 3.0)));
        assert_eq!(Middle::of([4.0, 1.0]).median, 2.5);
        assert_eq!(Middle::of_some([]), None);
    }

    #[test]
    fn confidence_narrows_with_the_number_of_runs() {
        let runs = |count: u32| sorted((1..=count).map(f64::from));
        assert_eq!(median_confidence(&runs(1)), (1.0, 1.0));
        assert_eq!(median_confidence(&runs(5)), (1.0, 5.0));
        assert_eq!(median_confidence(&runs(21)), (6.0, 16.0));
    }
}
