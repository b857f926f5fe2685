//! The highest rate that meets an objective.
//!
//! The rate is doubled until a load fails, then the gap between the highest that passed and the
//! lowest that did not is halved until it is 2 % wide, and the answer is confirmed by further loads.
//! Where chance could have decided all failures, higher rates are tried until one surely fails.
//! A rate that can't be measured bounds the search for want of a better bound, but refutes
//! nothing: what passed stays, and the search looks beyond it once more before it settles.

use super::judge::Verdict;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The first rate.
    pub start_per_s: f64,
    /// No rate above this is tried.
    pub rate_max_per_s: f64,
    /// None below this either: so few calls say nothing.
    pub rate_min_per_s: f64,
    /// The width of the last gap, as a share of the rate.
    pub tolerance: f64,
    /// Loads that must pass at the answer, besides the one that found it.
    pub confirmations: u32,
    /// Seconds of load after which it settles for what it has; what others disturb can take for ever.
    pub time_max_s: f64,
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
/// Input: [`Search::handle`]. Output: [`Search::next_rate`], then [`Search::answer`] when there is no
/// next.
#[derive(Clone, Debug)]
pub struct Search {
    settings: Settings,
    /// The highest rate that passed and that no load has refuted since.
    passed_per_s: Option<f64>,
    /// The lowest above it that was measured and did not pass.
    refused_per_s: Option<f64>,
    /// The lowest above it that could not be measured.
    unmeasured_per_s: Option<f64>,
    /// Whether a rate has surely failed.
    is_bracketed: bool,
    /// The rate of the last bracketing load.
    bracket_per_s: f64,
    phase: Phase,
    /// The rates that have passed.
    passes_per_s: Vec<f64>,
    /// Loads that have passed at the answer since it was found, and how many must.
    confirmed: u32,
    wanted: u32,
    /// Share of the rate that the next refuted confirmation takes off.
    step_back: f64,
    /// How often it may still look beyond what could not be measured.
    looks: u32,
    is_over: bool,
    /// Its time was up.
    is_settled: bool,
}

/// What the loads at a rate have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Refused,
    Unmeasured,
}

impl Phase {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Bisect => "bisect",
            Self::Confirm => "confirm",
            Self::Bracket => "bracket",
        }
    }

    /// Length of its loads, as a share of those that confirm the answer: the way there may be coarse.
    pub fn time_ratio(self) -> f64 {
        match self {
            Self::Ramp => 0.15,
            Self::Bisect | Self::Bracket => 0.3,
            Self::Confirm => 1.0,
        }
    }
}

impl Search {
    /// A search that has tried nothing yet.
    pub fn new(settings: Settings) -> Self {
        assert!(settings.tolerance > 0.0 && settings.start_per_s > 0.0);
        Self {
            settings,
            passed_per_s: None,
            refused_per_s: None,
            unmeasured_per_s: None,
            is_bracketed: false,
            bracket_per_s: 0.0,
            phase: Phase::Ramp,
            passes_per_s: Vec::new(),
            confirmed: 0,
            wanted: settings.confirmations,
            step_back: settings.tolerance,
            looks: LOOKS,
            is_over: false,
            is_settled: false,
        }
    }

    /// The rate to try next, and why; `None` when the search is over.
    pub fn next_rate(&self) -> Option<(f64, Phase)> {
        if self.is_over {
            return None;
        }
        let rate = match (self.phase, self.passed_per_s, self.ceiling_per_s()) {
            (Phase::Ramp, None, None) => {
                self.settings.start_per_s.max(self.settings.rate_min_per_s)
            }
            (Phase::Ramp, None, Some(ceiling)) => {
                (ceiling / RAMP_DOWN).max(self.settings.rate_min_per_s)
            }
            (Phase::Ramp, Some(passed), _) => passed * RAMP,
            (Phase::Bisect, Some(passed), Some(ceiling)) => (passed * ceiling).sqrt(),
            (Phase::Confirm, Some(passed), _) => passed,
            (Phase::Bracket, Some(passed), _) => {
                passed + (2.0 * (self.bracket_per_s - passed)).max(BRACKET * passed)
            }
            (Phase::Bisect | Phase::Confirm | Phase::Bracket, ..) => return None,
        };
        Some((rate.min(self.settings.rate_max_per_s), self.phase))
    }

    /// What the rate of [`Search::next_rate`] has shown.
    pub fn handle(&mut self, verdict: Verdict) {
        let Some((rate, phase)) = self.next_rate() else {
            return;
        };
        self.is_bracketed |= verdict == Verdict::Failed;
        let outcome = match verdict {
            Verdict::Passed => Outcome::Passed,
            Verdict::Unsure | Verdict::Failed => Outcome::Refused,
            Verdict::Invalid | Verdict::Disturbed | Verdict::TooFewCalls => Outcome::Unmeasured,
        };
        if outcome == Outcome::Passed {
            self.passes_per_s.push(rate);
        }
        match (phase, outcome) {
            (Phase::Bracket, Outcome::Passed | Outcome::Refused) => self.bracket_per_s = rate,
            (Phase::Confirm, Outcome::Passed) => self.confirmed += 1,
            (Phase::Confirm, Outcome::Refused) => {
                // The load that found this rate was lucky. Lower ones pass more easily, so the next
                // candidate is not searched for again, but only confirmed.
                self.refused_per_s = Some(rate);
                self.passed_per_s = Some(rate * (1.0 - self.step_back));
                self.step_back *= 2.0;
                self.confirmed = 0;
                // No load has found this one.
                self.wanted = self.settings.confirmations + 1;
            }
            // Nothing speaks against the answer; that it was confirmed less often is told with it.
            (Phase::Confirm, Outcome::Unmeasured) => {
                self.is_over = true;
                self.unmeasured_per_s = Some(rate)
                    .filter(|_| !self.has_passed(rate))
                    .or(self.unmeasured_per_s);
                self.fall_back(rate);
            }
            (Phase::Ramp | Phase::Bisect, Outcome::Passed) => {
                self.passed_per_s = Some(rate);
                self.unmeasured_per_s = self.unmeasured_per_s.filter(|above| *above > rate);
            }
            (Phase::Ramp | Phase::Bisect, Outcome::Refused) => self.refused_per_s = Some(rate),
            (Phase::Ramp | Phase::Bisect | Phase::Bracket, Outcome::Unmeasured) => {
                self.unmeasured_per_s = Some(rate);
            }
        }
        self.advance();
    }

    fn has_passed(&self, rate_per_s: f64) -> bool {
        self.passes_per_s.contains(&rate_per_s)
    }

    /// The highest rate up to this one that a load has passed.
    fn highest_pass(&self, rate_per_s: f64) -> Option<f64> {
        let passes = self.passes_per_s.iter().copied();
        passes
            .filter(|pass| *pass <= rate_per_s)
            .max_by(f64::total_cmp)
    }

    /// Answers with the highest rate up to this one that a load has passed.
    fn fall_back(&mut self, rate_per_s: f64) {
        let pass = self.highest_pass(rate_per_s);
        if pass != Some(rate_per_s) {
            // What was confirmed was another rate.
            self.confirmed = 0;
        }
        self.passed_per_s = pass;
    }

    /// Whether it had to settle.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// The lowest rate that bounds the search from above.
    fn ceiling_per_s(&self) -> Option<f64> {
        let bounds = [self.refused_per_s, self.unmeasured_per_s];
        bounds.into_iter().flatten().min_by(f64::total_cmp)
    }

    fn advance(&mut self) {
        let Settings {
            rate_max_per_s,
            tolerance,
            ..
        } = self.settings;
        let is_near = |bound: f64, passed: f64| bound - passed <= tolerance * passed;
        match (self.phase, self.passed_per_s, self.ceiling_per_s()) {
            (Phase::Bracket | Phase::Confirm, ..) => (),
            (_, Some(passed), Some(ceiling)) if is_near(ceiling, passed) => {
                let is_refused = self.refused_per_s.is_some_and(|rate| is_near(rate, passed));
                self.phase = if is_refused || self.looks == 0 {
                    Phase::Confirm
                } else {
                    self.looks -= 1;
                    self.look_beyond()
                };
            }
            (_, Some(_), Some(_)) => self.phase = Phase::Bisect,
            (_, Some(passed), None) if passed >= rate_max_per_s => self.phase = Phase::Confirm,
            (_, None, Some(ceiling)) if is_near(ceiling, self.settings.rate_min_per_s) => {
                self.is_over = true;
            }
            _ => (),
        }
        if self.phase == Phase::Confirm && self.confirmed >= self.wanted {
            self.phase = Phase::Bracket;
        }
        if self.step_back >= STEP_BACK_MAX {
            self.passed_per_s = None;
            self.is_over = true;
        }
        let is_at_end = self.refused_per_s.is_none()
            || self.unmeasured_per_s.is_some()
            || self.is_bracketed
            || self.bracket_per_s >= rate_max_per_s
            || self.bracket_per_s >= BRACKET_MAX * self.passed_per_s.unwrap_or(0.0);
        self.is_over |= self.phase == Phase::Bracket && is_at_end;
    }

    /// Ends the search with the highest rate that has passed and was not refused since: its time is up.
    pub fn settle(&mut self) {
        let below = self.passed_per_s.unwrap_or(0.0);
        self.fall_back(below);
        (self.is_over, self.is_settled) = (true, true);
    }

    /// Forgets what could not be measured: whatever held up the generator may have passed.
    fn look_beyond(&mut self) -> Phase {
        self.unmeasured_per_s = None;
        match self.refused_per_s {
            Some(_) => Phase::Bisect,
            None => Phase::Ramp,
        }
    }

    /// About how many loads of each phase are still to be run, the next included, if nothing unexpected
    /// comes.
    pub fn loads_left(&self) -> [(Phase, u32); 4] {
        let gap = match (self.passed_per_s, self.ceiling_per_s()) {
            (Some(passed), Some(ceiling)) => (ceiling / passed).ln(),
            _ => RAMP.ln(),
        };
        let halvings = (gap / self.settings.tolerance).log2().ceil().max(0.0) as u32;
        let confirmations = self.wanted.saturating_sub(self.confirmed);
        let (ramp, bisect, confirm, bracket) = match self.phase {
            _ if self.is_over => (0, 0, 0, 0),
            Phase::Ramp => (2, halvings, confirmations, 0),
            Phase::Bisect => (0, halvings, confirmations, 0),
            Phase::Confirm => (0, 0, confirmations, 0),
            Phase::Bracket => (0, 0, 0, 1),
        };
        [
            (Phase::Ramp, ramp),
            (Phase::Bisect, bisect),
            (Phase::Confirm, confirm),
            (Phase::Bracket, bracket),
        ]
    }

    /// What was found; `None` while the search is not over, and when no rate passed.
    pub fn answer(&self) -> Option<SearchResult> {
        let rate_per_s = self.passed_per_s.filter(|_| self.is_over)?;
        let ceiling_per_s = self.ceiling_per_s();
        let is_unmeasured = ceiling_per_s.is_some() && ceiling_per_s == self.unmeasured_per_s;
        Some(SearchResult {
            rate_per_s,
            confirmations: self.confirmed,
            ceiling_per_s,
            is_unmeasured_above: is_unmeasured
                || (self.confirmed < self.wanted && !self.is_settled),
        })
    }
}

/// The answer of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchResult {
    /// The highest rate that passed and that no valid load has refuted.
    pub rate_per_s: f64,
    /// Further loads that have passed at it.
    pub confirmations: u32,
    /// The next higher rate, which did not pass; `None`: the search's maximum passed.
    pub ceiling_per_s: Option<f64>,
    /// Whether the bound, or what kept the rate from being confirmed, says nothing of the server.
    pub is_unmeasured_above: bool,
}

/// By how much the rate grows until the objective lies between two rates.
const RAMP: f64 = 2.0;
/// By how much it falls until one passes: it is far away then.
const RAMP_DOWN: f64 = 8.0;
/// A search whose answers were refuted so often that the step back is this large has no answer.
const STEP_BACK_MAX: f64 = 0.5;
/// By which share of the answer the first bracketing load is above it; the next ones double that.
const BRACKET: f64 = 0.05;
/// When so much more than the answer has not surely failed either, the loads are too short to say.
const BRACKET_MAX: f64 = 1.5;
/// How often a search looks beyond rates that could not be measured.
const LOOKS: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        start_per_s: 500.0,
        rate_max_per_s: 1e9,
        tolerance: 0.02,
        confirmations: 2,
        rate_min_per_s: 10.0,
        time_max_s: f64::INFINITY,
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
        (search.answer().map(|found| found.rate_per_s), loads)
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
        let answer = search.answer().unwrap().rate_per_s;
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
        let found = search.answer().unwrap();
        assert_eq!(Some(found.rate_per_s), confirmations.last().copied());
        assert!(!found.is_unmeasured_above);
    }

    /// Searches for a limit of 4079/s where the loads that `is_late` names, by rate, phase and number, are no
    /// measurements.
    fn with_late_loads(
        is_late: impl Fn(f64, Phase, usize) -> bool,
    ) -> (SearchResult, Vec<(f64, Phase)>) {
        let mut search = Search::new(SETTINGS);
        let mut loads = Vec::new();
        while let Some((rate, phase)) = search.next_rate() {
            assert!(loads.len() < 100, "endless");
            search.handle(if is_late(rate, phase, loads.len()) {
                Verdict::Invalid
            } else {
                verdict(rate <= 4079.0)
            });
            loads.push((rate, phase));
        }
        (search.answer().unwrap(), loads)
    }

    #[test]
    fn a_generator_that_was_late_once_does_not_bound_the_answer() {
        let limit = 4079.0 / 1.021..=4079.0;
        // The ramp's loads are at 500, 1000, 2000, 4000.
        for late in 0..4 {
            let (found, _) = with_late_loads(|_, _, load| load == late);
            assert!(limit.contains(&found.rate_per_s), "{late}: {found:?}");
            assert!(!found.is_unmeasured_above, "{late}: {found:?}");
            assert_eq!(found.confirmations, SETTINGS.confirmations);
        }
        // A stretch of late loads is forgotten after another look, too.
        let (found, _) = with_late_loads(|rate, _, load| rate > 1100.0 && load < 8);
        assert!(limit.contains(&found.rate_per_s), "{found:?}");
    }

    #[test]
    fn what_passed_is_not_taken_back_for_want_of_a_measurement() {
        let (found, loads) = with_late_loads(|_, phase, _| phase == Phase::Confirm);
        let passed = loads.iter().map(|(rate, _)| *rate);
        let highest = passed.filter(|rate| *rate <= 4079.0).fold(0.0, f64::max);
        assert_eq!(found.rate_per_s, highest);
        assert!(found.is_unmeasured_above && found.confirmations == 0);
        let confirmations = loads.iter().filter(|(_, phase)| *phase == Phase::Confirm);
        assert_eq!(confirmations.count(), 1);
    }

    #[test]
    fn what_is_never_measured_bounds_the_answer() {
        let (found, loads) = with_late_loads(|rate, _, _| rate > 3000.0);
        assert!((2940.0..=3000.0).contains(&found.rate_per_s), "{found:?}");
        assert!(found.is_unmeasured_above);
        assert!(found.ceiling_per_s.unwrap() > 3000.0);
        assert_eq!(found.confirmations, SETTINGS.confirmations);
        assert!(loads.iter().all(|(_, phase)| *phase != Phase::Bracket));
    }
}
