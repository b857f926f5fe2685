//! Whether a load passes: valid, answered, and surely within the objective.

use super::Probed;
use crate::analysis::Estimate;
use crate::analysis::bounds::quantile_bounds;
use crate::analysis::slo::{Finding, Metric, Slo};
use crate::results::PointSummary;

/// What a load says about the objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What kind of answer it is.
    pub verdict: Verdict,
    /// Why it did not pass, as sentences; empty if it did.
    pub reasons: Vec<String>,
    /// The quantile of the objective that is mentioned first, and where it lies.
    pub leading_ns: Option<Estimate>,
}

/// What kind of answer a load gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It met the objective, and chance is unlikely to have helped.
    Passed,
    /// It may or may not have met the objective: the limit lies within the bounds.
    Unsure,
    /// It violated the objective, or too few calls were answered.
    Failed,
    /// Too few calls were measured to say.
    TooFewCalls,
    /// It was no measurement: the generator was late, or ended early.
    Invalid,
}

/// Judges a load.
///
/// A latency passes with the upper bound of its interval, an error share as it was measured.
pub fn judge(probed: &Probed, slo: &Slo) -> Judgement {
    let point = &probed.point;
    let bounds = |quantile| quantile_bounds(&probed.responses_ns, quantile, CONFIDENCE);
    let leading_ns = slo
        .leading_quantile()
        .and_then(|(quantile, _)| bounds(quantile));
    let judgement = |verdict, reasons| Judgement {
        verdict,
        reasons,
        leading_ns,
    };
    let answered_ratio = point.achieved_per_s / point.offered_per_s;
    let is_swamped = point.offered_per_s > 0.0 && answered_ratio < ANSWERED_RATIO_MIN;
    // A server that is far behind also holds up the generator at the in-flight cap.
    if is_swamped && (point.validity.is_valid || is_behind(point, slo)) {
        let percent = answered_ratio * 100.0;
        let why = format!("only {percent:.1} % of the calls were answered in time");
        return judgement(Verdict::Failed, vec![why]);
    }
    if !point.validity.is_valid {
        return judgement(Verdict::Invalid, point.validity.reasons.clone());
    }
    let measure = |of: fn(Estimate) -> f64| {
        slo.judge(|metric| match metric {
            Metric::Quantile(quantile) => bounds(quantile).map(of),
            Metric::Mean => Some(point.latency.response.mean_ns),
            Metric::Max => Some(point.latency.response.max_ns as f64),
            Metric::ErrorShare => Some(point.counts.error_ratio()),
        })
    };
    let surely = measure(|bounds| bounds.upper);
    if surely.iter().all(Finding::is_met) {
        return judgement(Verdict::Passed, Vec::new());
    }
    let missed = surely.iter().filter(|finding| !finding.is_met());
    let reasons = missed.map(describe).collect();
    let at_best = measure(|bounds| bounds.lower);
    let surely_missed = |finding: &Finding| finding.measured.is_some() && !finding.is_met();
    let verdict = if at_best.iter().any(surely_missed) {
        Verdict::Failed
    } else if at_best.iter().all(Finding::is_met) {
        Verdict::Unsure
    } else {
        Verdict::TooFewCalls
    };
    judgement(verdict, reasons)
}

/// Whether a server, and not the generator or the number of calls that may be in flight, is to blame
/// for calls that could not be sent: as many as permitted were in flight all the time, and either its
/// CPUs were busy or what it answered took longer than the objective permits, waiting left aside.
fn is_behind(point: &PointSummary, slo: &Slo) -> bool {
    let permitted = f64::from(point.in_flight_max);
    if point.in_flight_mean < permitted * FULL_RATIO_MIN {
        return false;
    }
    let service = &point.latency.service;
    let percentile = |quantile: f64| service.percentile_ns(quantile * 100.0).map(|ns| ns as f64);
    let findings = slo.judge(|metric| match metric {
        Metric::Quantile(quantile) => percentile(quantile),
        Metric::Mean => Some(service.mean_ns),
        Metric::Max => Some(service.max_ns as f64),
        Metric::ErrorShare => Some(point.counts.error_ratio()),
    });
    let is_slow = |finding: &Finding| finding.measured.is_some() && !finding.is_met();
    let is_busy = point.server.is_some_and(|server| {
        server.cpus_busy >= f64::from(point.server_shards.max(1)) * BUSY_RATIO_MIN
    });
    is_busy || findings.iter().any(is_slow)
}

fn describe(finding: &Finding) -> String {
    match finding.objective.metric {
        Metric::Quantile(_) if finding.measured.is_some() => {
            format!("{finding} (upper bound)")
        }
        _ => finding.to_string(),
    }
}

/// Of the bounds of latencies, two-sided.
pub const CONFIDENCE: f64 = 0.95;
/// With fewer answers the server falls behind, whatever its latency in so short a time.
pub const ANSWERED_RATIO_MIN: f64 = 0.99;

/// Share of the permitted calls in flight from which on the permission is what bounds them. Calls that
/// wait to be sent count, so it is far above one where the generator is held up.
const FULL_RATIO_MIN: f64 = 0.9;
/// Busy CPUs for each shard from which on a server has no time left.
const BUSY_RATIO_MIN: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulated::Server;
    use crate::study::{Load, Probe};

    fn probed(rate_per_s: f64) -> Probed {
        let mut server = Server::random(5000.0);
        server.probe(&Load::at_rate(rate_per_s, 1)).unwrap()
    }

    fn verdict(rate_per_s: f64, slo: &str) -> Verdict {
        judge(&probed(rate_per_s), &slo.parse().unwrap()).verdict
    }

    #[test]
    fn loads_pass_surely_or_not() {
        assert_eq!(verdict(3500.0, "p99<5ms"), Verdict::Passed);
        assert_eq!(verdict(4079.0, "p99<5ms"), Verdict::Unsure);
        assert_eq!(verdict(4500.0, "p99<5ms"), Verdict::Failed);
        assert_eq!(verdict(3500.0, "p99<5ms,mean<600us"), Verdict::Failed);
        assert_eq!(verdict(3500.0, "p99.99<9s,mean<600us"), Verdict::Failed);
    }

    #[test]
    fn a_server_that_falls_behind_fails_even_without_a_latency() {
        let judgement = judge(&probed(6000.0), &"err<1%".parse().unwrap());
        assert_eq!(judgement.verdict, Verdict::Failed);
        assert!(judgement.reasons[0].contains("were answered in time"));
    }

    #[test]
    fn too_few_calls_never_pass() {
        let judgement = judge(&probed(10.0), &"p99.9<1s".parse().unwrap());
        assert_eq!(judgement.verdict, Verdict::TooFewCalls);
        assert!(judgement.reasons[0].contains("too few calls"));
    }

    /// A load of which most could not be sent, with so many calls in flight of 64.
    fn held_up(in_flight_mean: f64, cpus_busy: f64) -> Verdict {
        let mut probed = probed(1000.0);
        let point = &mut probed.point;
        point.achieved_per_s = 0.5 * point.offered_per_s;
        point.validity.is_valid = false;
        point.validity.reasons = vec!["only 50 % of the scheduled calls were sent".into()];
        (point.in_flight_mean, point.in_flight_max) = (in_flight_mean, 64);
        let server = point.server.as_mut().unwrap();
        server.cpus_busy = cpus_busy;
        judge(&probed, &"p99<1s".parse().unwrap()).verdict
    }

    #[test]
    fn a_server_fails_only_where_it_is_what_holds_calls_up() {
        // The generator could not send them, though more might have been in flight.
        assert_eq!(held_up(10.0, 1.0), Verdict::Invalid);
        // Fast answers of an idle server: too few calls may be in flight.
        assert_eq!(held_up(64.0, 0.1), Verdict::Invalid);
        assert_eq!(held_up(64.0, 1.0), Verdict::Failed);
    }

    #[test]
    fn an_invalid_load_says_nothing() {
        let mut probed = probed(1000.0);
        probed.point.validity.is_valid = false;
        probed.point.validity.reasons = vec!["late".into()];
        let judgement = judge(&probed, &"p99<1s".parse().unwrap());
        assert_eq!(judgement.verdict, Verdict::Invalid);
        assert_eq!(judgement.reasons, ["late"]);
    }
}
