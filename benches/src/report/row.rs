//! The figures of one peer in one cell.

use serde::Serialize;

use crate::cell::Cell;
use crate::client::Outcome;
use crate::idle::Idle;
use crate::runs::Series;
use crate::servers::process::Transport;

/// The figures of one peer in one cell. Those over several runs are medians.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Kind of socket.
    pub transport: Transport,
    /// Connections.
    pub connections: usize,
    /// Calls in flight on each.
    pub depth: usize,
    /// How server and client wait.
    pub idle: Idle,
    /// Name of the server.
    pub peer: String,
    /// What the server says of its engine.
    pub engine: String,
    /// Calls answered per second.
    pub calls_per_s: Spread,
    /// Median latency of a call.
    pub p50_us: Spread,
    /// Latency that one call in a hundred exceeds.
    pub p99_us: Spread,
    /// CPU time of the server per call.
    pub server_cpu_us_per_call: Spread,
    /// Share of the time that the server was on its CPU: below 1 it waited for the client.
    pub server_busy: f64,
    /// Share of the time that the client was on its CPU: below 1 it waited for the server.
    pub client_busy: f64,
    /// Share of the two CPUs that neither side had and that was not idle; a high one means that
    /// the machine disturbed the runs. `None` when nothing was pinned.
    pub others_busy: Option<f64>,
    /// Share of requests read in place, for servers that read them.
    pub in_place_ratio: Option<f64>,
    /// Against the baseline; `None` for the baseline itself.
    pub against_baseline: Option<Ratios>,
}

/// A median with the extremes of the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle run, or the mean of the middle two.
    pub median: f64,
    /// The lowest run.
    pub min: f64,
    /// The highest run.
    pub max: f64,
}

/// This peer divided by the baseline.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    /// Median rate over median rate.
    pub rate_of_medians: f64,
    /// Median of the ratios of rates of runs that followed each other.
    pub rate_median_of_pairs: f64,
    /// Where that median lies with 95 % confidence. An interval around 1 says that no difference
    /// was found.
    pub rate_pairs_confidence: (f64, f64),
    /// Median p50 over median p50.
    pub p50: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(values);
        Self {
            median: median(&sorted),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }
}

impl Row {
    /// The rows of one cell, the baseline's first.
    pub fn of_cell(transport: Transport, cell: Cell, all: &[Series]) -> Vec<Self> {
        let mut rows: Vec<Self> = all
            .iter()
            .map(|series| Self::of_series(transport, cell, series))
            .collect();
        let (baseline, others) = rows.split_first_mut().expect("at least one peer");
        for (row, series) in others.iter_mut().zip(&all[1..]) {
            row.against_baseline = Some(Ratios::of(baseline, &all[0], row, series));
        }
        rows
    }

    fn of_series(transport: Transport, cell: Cell, series: &Series) -> Self {
        let over = |figure: fn(&Outcome) -> f64| Spread::of(series.outcomes.iter().map(figure));
        let others: Vec<f64> = series
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.load.others)
            .collect();
        let in_place: Vec<f64> = series
            .counters
            .iter()
            .filter_map(|counters| counters.in_place_ratio())
            .collect();
        Self {
            transport,
            connections: cell.connections,
            depth: cell.depth,
            idle: cell.idle,
            peer: series.peer.clone(),
            engine: series.counters[0].engine.clone(),
            calls_per_s: over(calls_per_s),
            p50_us: over(|outcome| quantile_us(outcome, 0.50)),
            p99_us: over(|outcome| quantile_us(outcome, 0.99)),
            server_cpu_us_per_call: over(|outcome| {
                outcome.load.server.as_secs_f64() * 1e6 / outcome.calls as f64
            }),
            server_busy: over(|outcome| outcome.load.server.div_duration_f64(outcome.elapsed))
                .median,
            client_busy: over(|outcome| outcome.load.client.div_duration_f64(outcome.elapsed))
                .median,
            others_busy: (!others.is_empty()).then(|| Spread::of(others).median),
            in_place_ratio: (!in_place.is_empty()).then(|| Spread::of(in_place).median),
            against_baseline: None,
        }
    }
}

impl Ratios {
    fn of(baseline: &Row, baseline_series: &Series, row: &Row, series: &Series) -> Self {
        let pairs = baseline_series.outcomes.iter().zip(&series.outcomes);
        let paired = sorted(pairs.map(|(base, ours)| calls_per_s(ours) / calls_per_s(base)));
        Self {
            rate_of_medians: row.calls_per_s.median / baseline.calls_per_s.median,
            rate_median_of_pairs: median(&paired),
            rate_pairs_confidence: median_confidence(&paired),
            p50: row.p50_us.median / baseline.p50_us.median,
        }
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

fn quantile_us(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn confidence_narrows_with_the_number_of_runs() {
        let runs = |count: u32| sorted((1..=count).map(f64::from));
        assert_eq!(median_confidence(&runs(1)), (1.0, 1.0));
        assert_eq!(median_confidence(&runs(5)), (1.0, 5.0));
        assert_eq!(median_confidence(&runs(21)), (6.0, 16.0));
    }
}
