//! Whether a load passes: valid, answered, and surely within the objective.

use hdrhistogram::Histogram;

use super::Probed;
use crate::analysis::Estimate;
use crate::analysis::bounds::quantile_bounds;
use crate::analysis::slo::{Finding, Metric, Objective, Slo};
use crate::results::{LoopKind, PointSummary, Quiet, QuietVerdict};
use crate::units::format_rate;

/// What a load says about the objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What kind of answer it is.
    pub verdict: Verdict,
    /// Why it did not pass, as sentences. If it did they are empty, or say that it passed in what was quiet.
    pub reasons: Vec<String>,
    /// The quantile of the objective that is mentioned first, and where it lies.
    pub leading_ns: Option<Estimate>,
    /// Whether only the calls decided that were due while no CPU stood still.
    pub is_of_quiet: bool,
}

/// What kind of answer a load gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It met the objective, and chance is unlikely to have helped.
    Passed,
    /// It may or may not have met the objective: the limit lies within the bounds.
    Unsure,
    /// It violated the objective, or the server was overloaded.
    Failed,
    /// Too few calls were measured to say.
    TooFewCalls,
    /// It was no measurement: the generator was late, or ended early.
    Invalid,
    /// It did not pass, but others had so much of the CPUs meanwhile that this may be why.
    Disturbed,
}

impl Verdict {
    /// Whether it says something of the server.
    pub fn is_of_the_server(self) -> bool {
        matches!(self, Self::Passed | Self::Unsure | Self::Failed)
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Unsure => "unsure",
            Self::Failed => "failed",
            Self::TooFewCalls => "too few calls",
            Self::Invalid => "invalid",
            Self::Disturbed => "disturbed",
        }
    }
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
        is_of_quiet: false,
    };
    let validity = &point.validity;
    if validity.is_overloaded {
        return judgement(Verdict::Failed, validity.reasons.clone());
    }
    let faults: Vec<String> = validity.faults().cloned().collect();
    if !faults.is_empty() {
        return judgement(Verdict::Invalid, faults);
    }
    let is_late = !validity.lags.is_empty();
    if let Some((missing_ratio, why)) = falls_behind(probed) {
        let note = disturbance(point, missing_ratio * MISSING_WEIGHT);
        return match note {
            Some(note) => judgement(Verdict::Disturbed, vec![why, note]),
            None if is_late => judgement(Verdict::Invalid, validity.lags.clone()),
            None => judgement(Verdict::Failed, vec![why]),
        };
    }
    let measure = |of: fn(Estimate) -> f64| {
        slo.judge(|metric| match metric {
            Metric::Quantile(quantile) => bounds(quantile).map(of),
            Metric::Mean => Some(point.latency.response.mean_ns),
            Metric::Max => Some(point.latency.response.max_ns as f64),
            Metric::ErrorShare => point.counts.error_ratio(),
        })
    };
    let surely = measure(|bounds| bounds.upper);
    if surely.iter().all(Finding::is_met) {
        return judgement(Verdict::Passed, Vec::new());
    }
    let missed = || surely.iter().filter(|finding| !finding.is_met());
    let mut reasons: Vec<String> = missed().map(describe).collect();
    // Nobody but the server fails calls.
    if missed().any(|finding| finding.objective.metric == Metric::ErrorShare) {
        return judgement(Verdict::Failed, reasons);
    }
    let beyond = missed().map(|finding| beyond_ratio(probed, &finding.objective));
    let beyond = beyond.fold(0.0, f64::max);
    if missed().any(|finding| finding.measured.is_some())
        && let Some(note) = disturbance(point, beyond)
    {
        reasons.push(note);
        let Some(quiet) = quiet_of(point) else {
            return judgement(Verdict::Disturbed, reasons);
        };
        let verdict = match quiet.verdict {
            QuietVerdict::Met => Verdict::Passed,
            // Its own delays are in the response times that were counted there.
            QuietVerdict::Missed | QuietVerdict::Unsure if is_late => Verdict::Invalid,
            QuietVerdict::Missed => Verdict::Failed,
            QuietVerdict::Unsure => Verdict::Unsure,
        };
        let all = reasons.join("; ");
        return Judgement {
            is_of_quiet: true,
            ..judgement(verdict, vec![quiet.text.clone(), format!("of all: {all}")])
        };
    }
    // Without its own delays the load might have passed.
    if is_late {
        return judgement(Verdict::Invalid, validity.lags.clone());
    }
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

/// The share of the calls that piled up, and that in words, if the server could not keep up with them.
/// Calls that were in flight at the window's end are not missing: as many were at its beginning, unless the
/// warm-up was shorter than the first responses.
fn falls_behind(probed: &Probed) -> Option<(f64, String)> {
    let point = &probed.point;
    if point.offered_per_s <= 0.0 || point.loop_kind == LoopKind::Closed {
        return None;
    }
    let first_ns = probed.responses_ns.first().map_or(0.0, Histogram::mean);
    let early_s = (first_ns / 1e9 - point.warmup_s).max(0.0);
    let missing_ratio = 1.0 - point.achieved_per_s / point.offered_per_s - early_s / point.window_s;
    (missing_ratio > BEHIND_RATIO_MAX).then(|| {
        let why = format!(
            "the server falls behind: {} calls/s came and {} were answered",
            format_rate(point.offered_per_s),
            format_rate(point.achieved_per_s)
        );
        (missing_ratio, why)
    })
}

/// The share of the calls that missed an objective, beyond those that may.
fn beyond_ratio(probed: &Probed, objective: &Objective) -> f64 {
    let Metric::Quantile(quantile) = objective.metric else {
        return 0.0;
    };
    let limit_ns = objective.limit as u64;
    let slower = |times: &Histogram<u64>| times.len() - times.count_between(0, limit_ns);
    let calls: u64 = probed.responses_ns.iter().map(Histogram::len).sum();
    let slower: u64 = probed.responses_ns.iter().map(slower).sum();
    slower as f64 / calls.max(1) as f64 - (1.0 - quantile)
}

/// What others took of the CPUs, if that may be why this share of the calls was late or missing.
fn disturbance(point: &PointSummary, ratio: f64) -> Option<String> {
    let taken = point.disturbance.taken_ratio(point.window_s);
    let is_noteworthy = point.disturbance.is_noteworthy(point.window_s);
    let note = point.disturbance.note(point.window_s);
    note.filter(|_| is_noteworthy && ratio <= taken * DELAYED_PER_TAKEN)
}

/// What was quiet, if that may decide. Other programs take CPU without anybody standing still: where they
/// took much, only a pass says something of the server.
fn quiet_of(point: &PointSummary) -> Option<&Quiet> {
    let quiet = point.quiet.as_ref()?;
    let is_shared = point.disturbance.has_other_programs();
    (quiet.verdict == QuietVerdict::Met || !is_shared).then_some(quiet)
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
/// Calls that are late for each that comes due in a pause: those that queue up behind it.
const DELAYED_PER_TAKEN: f64 = 5.0;
/// What is taken of a busy CPU is missing there once, not several times.
const MISSING_WEIGHT: f64 = 3.0;
/// Calls that pile up, as a share of those that come.
const BEHIND_RATIO_MAX: f64 = 0.01;

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
        assert!(judgement.reasons[0].contains("falls behind"));
    }

    #[test]
    fn too_few_calls_never_pass() {
        let judgement = judge(&probed(10.0), &"p99.9<1s".parse().unwrap());
        assert_eq!(judgement.verdict, Verdict::TooFewCalls);
        assert!(judgement.reasons[0].contains("too few calls"));
    }

    /// A load whose generator was late, at a rate that the server carries or does not.
    fn late(rate_per_s: f64) -> Judgement {
        let mut probed = probed(rate_per_s);
        let validity = &mut probed.point.validity;
        validity.is_valid = false;
        validity.lags = vec!["late".into()];
        validity.reasons = validity.lags.clone();
        judge(&probed, &"p99<5ms".parse().unwrap())
    }

    #[test]
    fn a_late_generator_matters_only_where_it_could_have_made_the_load_fail() {
        assert_eq!(late(3500.0).verdict, Verdict::Passed);
        assert_eq!(late(4500.0).verdict, Verdict::Invalid);
        assert_eq!(late(4500.0).reasons, ["late"]);
    }

    #[test]
    fn a_server_that_is_overloaded_fails_for_its_own_sake() {
        let mut probed = probed(1000.0);
        let validity = &mut probed.point.validity;
        validity.reasons = vec!["only 50 % of the calls were sent".into()];
        (validity.is_valid, validity.is_overloaded) = (false, true);
        let slo = "p99<1s".parse().unwrap();
        assert_eq!(judge(&probed, &slo).verdict, Verdict::Failed);
        probed.point.validity.is_overloaded = false;
        assert_eq!(judge(&probed, &slo).verdict, Verdict::Invalid);
    }

    #[test]
    fn a_disturbance_excuses_a_tail_and_no_more() {
        let verdict = |rate_per_s: f64, host_ratio: f64| {
            let mut probed = probed(rate_per_s);
            probed.point.disturbance.host_ratio = Some(host_ratio);
            judge(&probed, &"p99<5ms".parse().unwrap()).verdict
        };
        assert_eq!(verdict(3500.0, 0.1), Verdict::Passed);
        // 8 % of the calls take longer.
        assert_eq!(verdict(4500.0, 0.001), Verdict::Failed);
        assert_eq!(verdict(4500.0, 0.1), Verdict::Disturbed);
        // Half of them do: a tenth of the time does not explain that.
        assert_eq!(verdict(4950.0, 0.01), Verdict::Failed);
    }

    /// A load of which a share was taken, and what its quiet says.
    fn disturbed(host_ratio: f64, quiet: QuietVerdict) -> Probed {
        let mut probed = probed(4500.0);
        probed.point.disturbance.host_ratio = Some(host_ratio);
        probed.point.quiet = Some(Quiet {
            verdict: quiet,
            text: "in the quiet".into(),
        });
        probed
    }

    #[test]
    fn a_disturbed_load_is_judged_by_what_was_quiet() {
        let slo: Slo = "p99<5ms".parse().unwrap();
        let judged = |host_ratio, quiet| judge(&disturbed(host_ratio, quiet), &slo);
        let passed = judged(0.1, QuietVerdict::Met);
        assert_eq!(passed.verdict, Verdict::Passed);
        assert!(passed.is_of_quiet && passed.reasons[0] == "in the quiet");
        assert!(passed.reasons[1].starts_with("of all: p99<5ms violated"));
        assert_eq!(judged(0.1, QuietVerdict::Missed).verdict, Verdict::Failed);
        assert_eq!(judged(0.1, QuietVerdict::Unsure).verdict, Verdict::Unsure);
        // Nothing was taken that could explain what is slow: then all of the load counts.
        assert_eq!(judged(0.001, QuietVerdict::Met).verdict, Verdict::Failed);
    }

    #[test]
    fn the_quiet_accuses_nobody_where_others_were_at_work() {
        let slo: Slo = "p99<5ms".parse().unwrap();
        let mut shared = disturbed(0.0, QuietVerdict::Missed);
        // Nobody stands still where two programs take turns.
        shared.point.disturbance.programs_ratio = Some(0.2);
        assert_eq!(judge(&shared, &slo).verdict, Verdict::Disturbed);
        let mut late = disturbed(0.1, QuietVerdict::Missed);
        late.point.validity.lags = vec!["late".into()];
        late.point.validity.reasons = vec!["late".into()];
        assert_eq!(judge(&late, &slo).verdict, Verdict::Invalid);
        late.point.quiet.as_mut().unwrap().verdict = QuietVerdict::Met;
        assert_eq!(judge(&late, &slo).verdict, Verdict::Passed);
    }

    #[test]
    fn a_disturbance_excuses_no_failed_calls() {
        let mut probed = probed(4500.0);
        probed.point.disturbance.host_ratio = Some(0.1);
        probed.point.counts.error = probed.point.counts.ok / 20;
        probed.point.counts.ok -= probed.point.counts.error;
        let slo = "p99<5ms,err<0.1%".parse().unwrap();
        assert_eq!(judge(&probed, &slo).verdict, Verdict::Failed);
    }

    /// A load of which this share was not answered in the window, whose answers take so long from the
    /// beginning on.
    fn missing(ratio: f64, response_ms: u64) -> Probed {
        let mut probed = probed(1000.0);
        for times in &mut probed.responses_ns {
            let calls = times.len();
            times.reset();
            times.record_n(response_ms * 1_000_000, calls).unwrap();
        }
        probed.point.achieved_per_s = probed.point.offered_per_s * (1.0 - ratio);
        probed
    }

    #[test]
    fn calls_in_flight_at_the_end_are_not_missing() {
        let slo = "err<1%".parse().unwrap();
        let window_s = probed(1000.0).point.window_s;
        // Each answer takes two seconds, and the warm-up was shorter than that.
        let constant = missing(2.0 / window_s, 2000);
        assert_eq!(judge(&constant, &slo).verdict, Verdict::Passed);
        for ratio in [0.02, 0.1, 0.5, 0.8] {
            let behind = judge(&missing(ratio, 10), &slo);
            assert_eq!(behind.verdict, Verdict::Failed, "{ratio}");
            assert!(behind.reasons[0].contains("falls behind"));
        }
        let mut disturbed = missing(0.1, 10);
        disturbed.point.disturbance.host_ratio = Some(0.08);
        assert_eq!(judge(&disturbed, &slo).verdict, Verdict::Disturbed);
        let mut late = missing(0.1, 10);
        late.point.validity.lags = vec!["late".into()];
        late.point.validity.reasons = late.point.validity.lags.clone();
        assert_eq!(judge(&late, &slo).verdict, Verdict::Invalid);
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
