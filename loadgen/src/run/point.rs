//! What a load has left behind, judged.

use hdrhistogram::Histogram;

use super::validity::Context;
use crate::analysis::slo::{Metric, Slo};
use crate::load::generator::{Arrivals, Outcome, Plan};
use crate::load::record::{Tally, Times};
use crate::results::{
    Kind, Latency, LoopKind, MethodSummary, PointRow, PointSummary, Quiet, ServerUse, SloCheck,
    SloOutcome, Spread, is_reportable,
};

/// What a point is judged by.
pub(crate) struct Criteria<'a> {
    /// The objective, if there is one.
    pub(crate) slo: Option<&'a Slo>,
    /// What its quiet says of it, if that may decide.
    pub(crate) quiet: Option<Quiet>,
}

/// The summary of a point.
pub(crate) fn summarise(
    point: u32,
    label: String,
    start_s: f64,
    plan: &Plan,
    outcome: &Outcome,
    criteria: Criteria<'_>,
    server_shards: Option<u32>,
) -> PointSummary {
    let Criteria { slo, quiet } = criteria;
    let total = outcome.record.total();
    let latency = latency(&total.times);
    let window_s = outcome.window.as_secs_f64();
    let per_s = |count: u64| {
        if window_s > 0.0 {
            count as f64 / window_s
        } else {
            0.0
        }
    };
    let loop_kind = match plan.arrivals {
        Arrivals::Open { .. } => LoopKind::Open,
        Arrivals::Closed { .. } => LoopKind::Closed,
    };
    let methods = plan.workload.methods.iter().zip(&outcome.record.methods);
    let slo = slo.map(|slo| judge(slo, &total));
    let server = server_use(outcome);
    let in_flight_max = (plan.conns * plan.depth) as u32;
    let context = Context {
        threads: plan.cpus.len(),
        in_flight_max,
        server_shards: server_shards.unwrap_or(1),
        warmup: plan.warmup,
        server_cpus_busy: server.map(|server| server.cpus_busy),
        slo: slo.as_ref(),
        quiet: quiet.as_ref(),
    };
    let validity = context.validity(outcome);
    PointSummary {
        point,
        label,
        start_s,
        warmup_s: plan.warmup.as_secs_f64(),
        window_s,
        loop_kind,
        completion: outcome.completion,
        validity,
        slo,
        offered_per_s: per_s(total.counts.scheduled),
        achieved_per_s: per_s(outcome.record.answered),
        counts: total.counts,
        latency,
        in_flight_mean: outcome.record.in_flight_ns / outcome.window.as_nanos().max(1) as f64,
        in_flight_max,
        full_cap: outcome.record.full_cap,
        disturbance: outcome.record.disturbance,
        quiet,
        server_shards: server_shards.unwrap_or(0),
        server,
        failures: outcome.record.failures.clone(),
        methods: methods
            .map(|((method, _), tally)| MethodSummary {
                method: method.name().into(),
                counts: tally.counts,
                latency: self::latency(&tally.times),
            })
            .collect(),
    }
}

pub(super) fn latency(times: &Times) -> Latency {
    Latency {
        response: Spread::of(times.of(Kind::Response)),
        service: Spread::of(times.of(Kind::Service)),
        room_wait: Spread::of(times.of(Kind::RoomWait)),
        own_lag: Spread::of(times.of(Kind::OwnLag)),
    }
}

fn judge(slo: &Slo, total: &Tally) -> SloOutcome {
    let response: &Histogram<u64> = total.times.of(Kind::Response);
    let is_empty = response.is_empty();
    let findings = slo.judge(|metric| match metric {
        Metric::ErrorShare => total.counts.error_ratio(),
        _ if is_empty => None,
        Metric::Quantile(quantile) => is_reportable(response.len(), quantile * 100.0)
            .then(|| response.value_at_quantile(quantile) as f64),
        Metric::Mean => Some(response.mean()),
        Metric::Max => Some(response.max() as f64),
    });
    SloOutcome {
        is_met: findings.iter().all(|finding| finding.is_met()),
        checks: findings
            .iter()
            .map(|finding| SloCheck {
                objective: finding.objective.to_string(),
                measured: finding.measured,
                bound: finding.objective.limit,
                is_met: finding.is_met(),
            })
            .collect(),
    }
}

pub(crate) fn server_use(outcome: &Outcome) -> Option<ServerUse> {
    let (first, last, rss_bytes_max) = outcome.server?;
    let seconds = (last.at - first.at).as_secs_f64();
    let user_s = last.cpu_user_s - first.cpu_user_s;
    let system_s = last.cpu_system_s - first.cpu_system_s;
    let switches = (last.voluntary_switches + last.involuntary_switches)
        .saturating_sub(first.voluntary_switches + first.involuntary_switches);
    Some(ServerUse {
        cpu_us_per_call: outcome.server_cpu_us_per_call()?,
        cpus_busy: (last.cpu - first.cpu).as_secs_f64() / seconds,
        system_ratio: if user_s + system_s > 0.0 {
            system_s / (user_s + system_s)
        } else {
            0.0
        },
        context_switches_per_s: switches as f64 / seconds,
        rss_bytes_max,
    })
}

/// The row of a point. Confidence intervals are left to analysis.
pub(crate) fn row(point: &PointSummary, plan: &Plan, shards: Option<u32>) -> PointRow {
    let response = &point.latency.response;
    PointRow {
        point: point.point,
        label: point.label.clone(),
        protocol: plan.protocol,
        loop_kind: point.loop_kind,
        shards,
        conns: plan.conns as u32,
        depth: plan.depth as u32,
        threads: plan.cpus.len() as u32,
        window_s: point.window_s,
        offered_per_s: point.offered_per_s,
        achieved_per_s: point.achieved_per_s,
        is_valid: point.validity.is_valid,
        invalid_reasons: point.validity.reasons.join("; "),
        is_slo_met: point.slo.as_ref().map(|slo| slo.is_met),
        p50_ns: response.percentile_ns(50.0),
        p90_ns: response.percentile_ns(90.0),
        p99_ns: response.percentile_ns(99.0),
        p999_ns: response.percentile_ns(99.9),
        max_ns: response.max_ns,
        mean_ns: response.mean_ns,
        p50_low_ns: None,
        p50_high_ns: None,
        p99_low_ns: None,
        p99_high_ns: None,
        p999_low_ns: None,
        p999_high_ns: None,
        service_p99_ns: point.latency.service.percentile_ns(99.0),
        room_wait_p99_ns: point.latency.room_wait.percentile_ns(99.0),
        own_lag_p99_ns: point.latency.own_lag.percentile_ns(99.0),
        scheduled: point.counts.scheduled,
        sent: point.counts.sent,
        ok: point.counts.ok,
        error: point.counts.error,
        timeout: point.counts.timeout,
        unfinished: point.counts.unfinished,
        in_flight_mean: point.in_flight_mean,
        server_cpu_us_per_call: point.server.map(|server| server.cpu_us_per_call),
        server_cpus_busy: point.server.map(|server| server.cpus_busy),
    }
}
