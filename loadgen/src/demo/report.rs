//! The results, as they are written in JSON and shown in the table.

use serde::Serialize;

use super::plan::{PAYLOAD_BYTES, Step, WARM_UP};
use crate::load::generator::Outcome;
use crate::results::{Kind, Validity};
use crate::run::point::server_use;
use crate::run::validity::Context;
use crate::samples::stats::ShardStats;
use crate::target::placement::Placement;

/// Everything that the demonstration found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) engine: String,
    pub(super) engine_features: Vec<String>,
    /// `null` when nothing is pinned.
    pub(super) server_cpu: Option<usize>,
    pub(super) client_cpu: Option<usize>,
    pub(super) payload_bytes: usize,
    pub(super) warm_up_s: f64,
    pub(super) rows: Vec<Row>,
    /// Share of the requests that the server read where they were received.
    pub(super) in_place_ratio: f64,
    pub(super) notes: Vec<String>,
}

/// One load and its outcome.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) transport: &'static str,
    pub(super) mode: &'static str,
    #[serde(skip)]
    pub(super) mode_in_words: String,
    pub(super) conns: usize,
    /// Calls in flight on each connection; in an open loop the most that there may be.
    pub(super) depth: usize,
    /// Rate that was asked for; `null` in a closed loop.
    pub(super) offered_per_s: Option<f64>,
    pub(super) calls: u64,
    pub(super) calls_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) errors: u64,
    /// `null` where no call was answered.
    pub(super) server_cpu_us_per_call: Option<f64>,
    /// Whether the row is a measurement: the load kept its schedule. A closed loop has none.
    pub(super) is_valid: bool,
}

impl Row {
    pub(super) fn new(step: &Step, outcome: &Outcome) -> Self {
        let total = outcome.record.total();
        // In a closed loop this is the service time.
        let latency_ns = total.times.of(Kind::Response);
        let us = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        let answered = outcome.record.answered as f64;
        let counts = total.counts;
        Self {
            transport: step.transport.name(),
            mode: step.mode.name(),
            mode_in_words: step.mode.to_string(),
            conns: step.load.conns,
            depth: step.load.depth,
            offered_per_s: step.load.rate_per_s,
            calls: counts.ok,
            calls_per_s: rounded(answered / outcome.window.as_secs_f64()),
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            errors: counts.scheduled - counts.ok,
            server_cpu_us_per_call: outcome
                .server_cpu_us_per_call()
                .filter(|cost| cost.is_finite())
                .map(rounded),
            is_valid: validity(step, outcome).is_valid,
        }
    }

    /// Whether enough calls lie beyond a quantile to trust it.
    pub(super) fn is_firm(&self, quantile: f64) -> bool {
        (self.calls + self.errors) as f64 * (1.0 - quantile) >= CALLS_BEYOND_MIN
    }
}

impl Report {
    pub(super) fn new(
        placement: Option<Placement>,
        mut notes: Vec<String>,
        steps: &[Step],
        measured: &Measured,
    ) -> Self {
        notes.extend(placement.and_then(|_| disturbance(measured.load_cpus)));
        notes.extend(failures(steps, measured));
        notes.extend(faults(steps, measured));
        let rows = steps.iter().zip(&measured.outcomes);
        let (before, after) = (&measured.before, &measured.after);
        let in_place = (after.in_place + after.direct) - (before.in_place + before.direct);
        let copied = after.copied - before.copied;
        Self {
            engine: after.engine.clone(),
            engine_features: after.engine_features.clone(),
            server_cpu: placement.map(|placement| placement.server),
            client_cpu: placement.map(|placement| placement.client),
            payload_bytes: PAYLOAD_BYTES,
            warm_up_s: WARM_UP.as_secs_f64(),
            rows: rows
                .map(|(step, outcome)| Row::new(step, outcome))
                .collect(),
            // The request for the first of the two statistics lies between them, so this is no
            // division by zero.
            in_place_ratio: in_place as f64 / (in_place + copied) as f64,
            notes,
        }
    }
}

/// What the load brought home.
#[derive(Debug)]
pub(super) struct Measured {
    /// Of each step.
    pub(super) outcomes: Vec<Outcome>,
    /// CPUs that this process had, on average.
    pub(super) load_cpus: f64,
    pub(super) before: ShardStats,
    pub(super) after: ShardStats,
}

/// A note when others have used the CPU of the load, which never sleeps there.
fn disturbance(load_cpus: f64) -> Option<String> {
    (load_cpus < LOAD_CPUS_MIN).then(|| {
        format!(
            "other programs took {:.0} % of the load's CPU, and perhaps of the server's: on a quiet machine these \
             figures are better",
            (1.0 - load_cpus) * 100.0
        )
    })
}

/// Notes on rows with errors.
fn failures<'a>(steps: &'a [Step], measured: &'a Measured) -> impl Iterator<Item = String> + 'a {
    let rows = steps.iter().zip(&measured.outcomes);
    let note = |(step, outcome): (&Step, &Outcome)| {
        let counts = outcome.record.total().counts;
        let failed = counts.scheduled - counts.ok;
        let first = outcome.record.failures.first();
        let why = first.map_or("no answer in time", |failure| &failure.text);
        (failed > 0).then(|| format!("{step}: {failed} calls failed, the first with {why}"))
    };
    rows.filter_map(note)
}

/// Notes on rows that are no measurements, and on what is to be known of the others.
fn faults<'a>(steps: &'a [Step], measured: &'a Measured) -> impl Iterator<Item = String> + 'a {
    let rows = steps.iter().zip(&measured.outcomes);
    rows.flat_map(|(step, outcome)| {
        let Validity { reasons, notes, .. } = validity(step, outcome);
        let faults = reasons.into_iter().map(|why| format!("INVALID: {why}"));
        let texts = faults.chain(notes);
        texts.map(move |text| format!("{step}: {text}"))
    })
}

fn validity(step: &Step, outcome: &Outcome) -> Validity {
    let context = Context {
        threads: 1,
        in_flight_max: (step.load.conns * step.load.depth) as u32,
        server_shards: 1,
        warmup: WARM_UP,
        server_cpus_busy: server_use(outcome).map(|server| server.cpus_busy),
        slo: None,
        quiet: None,
    };
    context.validity(outcome)
}

/// With less than this of its CPU the load was disturbed.
const LOAD_CPUS_MIN: f64 = 0.95;

/// A number without digits that mean nothing.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// A percentile means something when this many calls lie beyond it.
const CALLS_BEYOND_MIN: f64 = 100.0;
