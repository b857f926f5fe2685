//! The highest rate that meets an objective.
//!
//! The rate is doubled until a load fails, then the gap between the highest that passed and the
//! lowest that did not is halved until it is 2 % wide, and the answer is confirmed by further loads.
//! Where chance could have decided all failures, higher rates are tried until one surely fails.
//! A load that does not pass is tried once more: whatever disturbs a machine makes latencies longer,
//! never shorter. One that was no measurement, since the generator was late, is tried three times more.

use super::judge::{Judgement, Verdict, judge};
use super::record::{SearchAnswer, SearchProbe, SearchRecord};
use super::{Load, Probe, calls_for};
use crate::analysis::slo::{Metric, Slo};

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The first rate.
    pub start_per_s: f64,
    /// No rate above this is tried.
    pub rate_max_per_s: f64,
    /// The width of the last gap, as a share of the rate.
    pub tolerance: f64,
    /// Loads that must pass at the answer, besides the one that found it.
    pub confirmations: u32,
}

/// Why a load is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// To find a rate that fails, or one that passes.
    Ramp,
    /// To narrow the gap.
    Bisect,
    /// To be sure.
    Confirm,
    /// To know from where on it surely fails, if no load has shown that yet.
    Bracket,
}

/// A search without the loads: it says what to try next, and takes what that has shown.
///
/// Input: [`Search::handle`]. Output: [`Search::next_rate`], then [`Search::answer_per_s`] when
/// there is no next.
#[derive(Clone, Debug)]
pub struct Search {
    settings: Settings,
    /// The highest rate that passed and that no load has refuted since.
    passed_per_s: Option<f64>,
    /// The lowest that did not.
    failed_per_s: Option<f64>,
    /// Whether a rate has surely failed, or could not be measured.
    is_bracketed: bool,
    /// The rate of the last bracketing load.
    bracket_per_s: f64,
    phase: Phase,
    confirmed: u32,
    /// Share of the rate that the next refuted confirmation takes off.
    step_back: f64,
    is_over: bool,
}

impl Search {
    /// A search that has tried nothing yet.
    pub fn new(settings: Settings) -> Self {
        assert!(settings.tolerance > 0.0 && settings.start_per_s > 0.0);
        Self {
            settings,
            passed_per_s: None,
            failed_per_s: None,
            is_bracketed: false,
            bracket_per_s: 0.0,
            phase: Phase::Ramp,
            confirmed: 0,
            step_back: settings.tolerance,
            is_over: false,
        }
    }

    /// The rate to try next, and why; `None` when the search is over.
    pub fn next_rate(&self) -> Option<(f64, Phase)> {
        if self.is_over {
            return None;
        }
        let rate = match (self.phase, self.passed_per_s, self.failed_per_s) {
            (Phase::Ramp, None, None) => self.settings.start_per_s,
            (Phase::Ramp, None, Some(failed)) => failed / RAMP,
            (Phase::Ramp, Some(passed), _) => passed * RAMP,
            (Phase::Bisect, Some(passed), Some(failed)) => f64::midpoint(passed, failed),
            (Phase::Confirm, Some(passed), _) => passed,
            (Phase::Bracket, Some(passed), _) => self.bracket_per_s.max(passed) * BRACKET,
            (Phase::Bisect | Phase::Confirm | Phase::Bracket, ..) => return None,
        };
        Some((rate.min(self.settings.rate_max_per_s), self.phase))
    }

    /// What the rate of [`Search::next_rate`] has shown.
    pub fn handle(&mut self, verdict: Verdict) {
        let Some((rate, phase)) = self.next_rate() else {
            return;
        };
        self.is_bracketed |= matches!(verdict, Verdict::Failed | Verdict::Invalid);
        match (phase, verdict == Verdict::Passed) {
            (Phase::Bracket, _) => self.bracket_per_s = rate,
            (Phase::Confirm, true) => self.confirmed += 1,
            (Phase::Confirm, false) => {
                // The load that found this rate was lucky. Lower ones pass more easily, so the next
                // candidate is not searched for again, but only confirmed.
                self.failed_per_s = Some(rate);
                self.passed_per_s = Some(rate * (1.0 - self.step_back));
                self.step_back *= 2.0;
                self.confirmed = 0;
            }
            (_, true) => self.passed_per_s = Some(rate),
            (_, false) => self.failed_per_s = Some(rate),
        }
        self.advance();
    }

    fn advance(&mut self) {
        let Settings {
            rate_max_per_s,
            tolerance,
            confirmations,
            ..
        } = self.settings;
        match (self.phase, self.passed_per_s, self.failed_per_s) {
            (Phase::Bracket | Phase::Confirm, ..) => (),
            (_, Some(passed), Some(failed)) if failed - passed <= tolerance * passed => {
                self.phase = Phase::Confirm;
            }
            (_, Some(_), Some(_)) => self.phase = Phase::Bisect,
            (_, Some(passed), None) if passed >= rate_max_per_s => self.phase = Phase::Confirm,
            (_, None, Some(failed)) if failed * RAMP_DOWN_MAX <= self.settings.start_per_s => {
                self.is_over = true;
            }
            _ => (),
        }
        if self.phase == Phase::Confirm && self.confirmed == confirmations {
            self.phase = Phase::Bracket;
        }
        if self.step_back >= STEP_BACK_MAX {
            self.passed_per_s = None;
            self.is_over = true;
        }
        let is_at_end = self.failed_per_s.is_none()
            || self.is_bracketed
            || self.bracket_per_s >= rate_max_per_s
            || self.bracket_per_s >= BRACKET_MAX * self.passed_per_s.unwrap_or(0.0);
        self.is_over |= self.phase == Phase::Bracket && is_at_end;
    }

    /// The highest rate that passed and was confirmed, when the search is over.
    pub fn answer_per_s(&self) -> Option<f64> {
        self.passed_per_s.filter(|_| self.is_over)
    }
}

/// Searches with real loads. `seed` is that of the first; each has its own. `observe` sees each load
/// and may end the search by returning false.
///
/// # Errors
/// When a load could not be run.
pub fn conduct<P: Probe>(
    probe: &mut P,
    slo: &Slo,
    settings: Settings,
    seed: u64,
    mut observe: impl FnMut(&SearchProbe) -> bool,
) -> Result<SearchRecord, P::Error> {
    let mut search = Search::new(settings);
    let mut probes: Vec<SearchProbe> = Vec::new();
    let mut is_stopped = false;
    while let Some((rate_per_s, phase)) = search.next_rate().filter(|_| !is_stopped) {
        let mut attempts = 0;
        let verdict = loop {
            let load = Load {
                calls_min: calls_wanted(slo),
                ..Load::at_rate(rate_per_s, seed + probes.len() as u64)
            };
            let probed = probe.probe(&load)?;
            let judgement = judge(&probed, slo);
            let verdict = judgement.verdict;
            attempts += 1;
            let point = probed.point.point;
            probes.push(note(point, rate_per_s, phase, judgement));
            is_stopped = !observe(&probes[probes.len() - 1]);
            let attempts_max = match verdict {
                Verdict::Passed => 1,
                Verdict::Invalid => ATTEMPTS_INVALID,
                Verdict::Unsure | Verdict::Failed | Verdict::TooFewCalls => ATTEMPTS,
            };
            if attempts >= attempts_max || is_stopped {
                break verdict;
            }
        };
        if !is_stopped {
            search.handle(verdict);
        }
    }
    let answer = search.answer_per_s().map(|rate| answer(rate, &probes));
    Ok(SearchRecord {
        slo: slo.to_string(),
        tolerance: settings.tolerance,
        is_complete: !is_stopped,
        probes,
        answer,
    })
}

fn note(point: u32, rate_per_s: f64, phase: Phase, judgement: Judgement) -> SearchProbe {
    SearchProbe {
        point,
        rate_per_s,
        phase,
        verdict: judgement.verdict,
        reasons: judgement.reasons,
        quantile_ns: judgement.leading_ns.map(Into::into),
    }
}

/// The answer with what bounds it from above: the lowest rate above it that surely failed.
fn answer(rate_per_s: f64, probes: &[SearchProbe]) -> SearchAnswer {
    let above = |probe: &&SearchProbe| probe.rate_per_s > rate_per_s;
    let lowest = |kinds: &[Verdict]| {
        // Of several attempts at a rate the last has decided.
        probes
            .iter()
            .rev()
            .filter(above)
            .filter(|probe| kinds.contains(&probe.verdict))
            .min_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s))
    };
    let refused = lowest(&[
        Verdict::Failed,
        Verdict::Unsure,
        Verdict::TooFewCalls,
        Verdict::Invalid,
    ]);
    SearchAnswer {
        rate_per_s,
        failed_per_s: lowest(&[Verdict::Failed]).map(|probe| probe.rate_per_s),
        is_generator_limited: refused.is_some_and(|probe| probe.verdict == Verdict::Invalid),
        limit: refused.map(|probe| probe.reasons.join("; ")),
    }
}

/// Calls for the quantile of the objective that needs most of them.
fn calls_wanted(slo: &Slo) -> f64 {
    let needs = slo
        .objectives()
        .iter()
        .map(|objective| match objective.metric {
            Metric::Quantile(quantile) => calls_for(quantile),
            _ => 0.0,
        });
    needs.fold(0.0, f64::max)
}

/// By how much the rate grows, or falls, until the objective lies between two rates.
const RAMP: f64 = 2.0;
/// When this part of the first rate fails as well, load is not what the objective suffers from.
const RAMP_DOWN_MAX: f64 = 32.0;
/// A search whose answers were refuted so often that the step back is this large has no answer.
const STEP_BACK_MAX: f64 = 0.5;
/// By how much bracketing loads raise the rate.
const BRACKET: f64 = 1.05;
/// When so much more than the answer has not surely failed either, the loads are too short to say.
const BRACKET_MAX: f64 = 1.5;
/// Loads at a rate before it counts as failed.
const ATTEMPTS: u32 = 2;
/// The same for loads that were no measurement, which say nothing of the server.
const ATTEMPTS_INVALID: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulated::Server;

    const SETTINGS: Settings = Settings {
        start_per_s: 500.0,
        rate_max_per_s: 1e9,
        tolerance: 0.02,
        confirmations: 2,
    };

    fn verdict(has_passed: bool) -> Verdict {
        if has_passed {
            Verdict::Passed
        } else {
            Verdict::Failed
        }
    }

    /// Searches for a limit without noise.
    fn exact(settings: Settings, limit_per_s: f64) -> (Option<f64>, u32) {
        let mut search = Search::new(settings);
        let mut loads = 0;
        while let Some((rate, _)) = search.next_rate() {
            loads += 1;
            assert!(loads < 100, "endless");
            search.handle(verdict(rate <= limit_per_s));
        }
        (search.answer_per_s(), loads)
    }

    #[test]
    fn a_limit_is_found_from_below_and_above() {
        for start_per_s in [1.0, 500.0, 4079.0, 1e5] {
            let settings = Settings {
                start_per_s,
                ..SETTINGS
            };
            let (answer, loads) = exact(settings, 4079.0);
            let answer = answer.unwrap();
            assert!((4079.0 / 1.021..=4079.0).contains(&answer), "{answer}");
            assert!(loads <= 25, "{loads}");
        }
    }

    #[test]
    fn a_search_ends_at_its_maximum_or_without_an_answer() {
        let settings = Settings {
            rate_max_per_s: 3000.0,
            ..SETTINGS
        };
        assert_eq!(exact(settings, 4079.0).0, Some(3000.0));
        assert_eq!(exact(SETTINGS, 0.0).0, None);
    }

    #[test]
    fn an_answer_is_bracketed_where_chance_could_have_decided() {
        let mut search = Search::new(SETTINGS);
        let mut bracket = Vec::new();
        while let Some((rate, phase)) = search.next_rate() {
            if phase == Phase::Bracket {
                bracket.push(rate);
            }
            search.handle(match rate {
                rate if rate <= 4079.0 => Verdict::Passed,
                rate if rate <= 4500.0 => Verdict::Unsure,
                _ if phase == Phase::Bracket => Verdict::Failed,
                // The ramp's first failure must not bracket it already.
                _ => Verdict::Unsure,
            });
        }
        let answer = search.answer_per_s().unwrap();
        assert!((bracket[0] / answer - 1.05).abs() < 1e-9, "{bracket:?}");
        assert!(bracket.iter().rev().skip(1).all(|rate| *rate <= 4500.0));
        assert!(*bracket.last().unwrap() > 4500.0);
    }

    #[test]
    fn an_answer_that_is_refuted_steps_back() {
        let mut search = Search::new(SETTINGS);
        let mut refusals = 2;
        let mut confirmations = Vec::new();
        while let Some((rate, phase)) = search.next_rate() {
            let is_refused = phase == Phase::Confirm && refusals > 0;
            refusals -= i32::from(is_refused);
            if phase == Phase::Confirm {
                confirmations.push(rate);
            }
            search.handle(verdict(rate <= 4079.0 && !is_refused));
        }
        let steps: Vec<_> = confirmations
            .windows(2)
            .map(|pair| pair[1] / pair[0])
            .collect();
        let expected = [0.98, 0.96, 1.0];
        assert!(
            steps
                .iter()
                .zip(expected)
                .all(|(step, expected)| (step - expected).abs() < 1e-9),
            "{steps:?}"
        );
        assert_eq!(search.answer_per_s(), confirmations.last().copied());
    }

    #[test]
    fn a_random_queue_carries_what_the_model_says() {
        // p99 = ln 100 / (μ - λ) = 5 ms at λ = 4079/s.
        let mut server = Server {
            window_s: 60.0,
            ..Server::random(5000.0)
        };
        let slo = "p99<=5ms".parse().unwrap();
        let record = conduct(&mut server, &slo, SETTINGS, 1, |_| true).unwrap();
        let answer = record.answer.unwrap();
        // The upper bound has to pass, so the answer is rather below.
        let rate = answer.rate_per_s;
        assert!((0.95 * 4079.0..=1.01 * 4079.0).contains(&rate), "{rate}");
        assert!(!answer.is_generator_limited);
        assert!(answer.failed_per_s.unwrap() > rate);
        assert_eq!(record.probes.len(), server.loads.len());
        assert!(server.loads.iter().all(|load| load.calls_min > 11_999.0));
    }

    #[test]
    fn a_generator_that_gives_up_first_is_named() {
        let mut server = Server::random(50_000.0);
        server.window_s = 2.0;
        server.generator_max_per_s = 6000.0;
        let slo = "p99<5ms".parse().unwrap();
        let record = conduct(&mut server, &slo, SETTINGS, 1, |_| true).unwrap();
        let answer = record.answer.unwrap();
        assert!((5800.0..=6000.0).contains(&answer.rate_per_s));
        assert!(answer.is_generator_limited);
        assert_eq!(answer.limit.as_deref(), Some("the generator was late"));
    }

    #[test]
    fn a_search_that_is_stopped_keeps_its_loads() {
        let mut server = Server::random(5000.0);
        let slo = "p99<5ms".parse().unwrap();
        let record = conduct(&mut server, &slo, SETTINGS, 1, |probe| probe.point < 2).unwrap();
        assert_eq!(record.probes.len(), 3);
        assert!(!record.is_complete && record.answer.is_none());
    }
}
