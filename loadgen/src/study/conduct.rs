//! A search with real loads; every load is kept.
//!
//! A rate is decided by a verdict that repeats: one that did not pass is tried again, and where the second
//! load says otherwise, a third decides. A load that was hit by pauses of the host or by other programs,
//! and did not pass, says nothing of the server: it is repeated, and counted. So is one whose generator was
//! late.

use super::judge::{Verdict, judge};
use super::record::{SearchAnswer, SearchProbe, SearchRecord};
use super::search::{Phase, Search, SearchResult, Settings};
use super::{Load, Probe, calls_for};
use crate::analysis::slo::{Metric, Slo};

/// What is told while a search goes on.
#[derive(Debug)]
pub enum Step<'a> {
    /// A load begins.
    Begin {
        /// Its number, from 1.
        number: usize,
        /// About how many loads of each phase are still to be run, this one included.
        left: [(Phase, u32); 4],
        /// Its rate.
        rate_per_s: f64,
        /// Why it is run.
        phase: Phase,
        /// Seconds after which the search settles for what it has.
        time_left_s: f64,
    },
    /// A load has ended.
    End(&'a SearchProbe),
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
    mut observe: impl FnMut(Step<'_>) -> bool,
) -> Result<SearchRecord, P::Error> {
    let mut search = Search::new(settings);
    let mut probes: Vec<SearchProbe> = Vec::new();
    let (mut is_stopped, mut used_s) = (false, 0.0);
    let time_max_s = settings.time_max_s;
    while let Some((rate_per_s, phase)) = search.next_rate().filter(|_| !is_stopped) {
        let mut ballot = Ballot::default();
        let verdict = loop {
            is_stopped |= !observe(Step::Begin {
                number: probes.len() + 1,
                left: search.loads_left(),
                rate_per_s,
                phase,
                time_left_s: time_max_s - used_s,
            });
            if is_stopped {
                break None;
            }
            let load = Load {
                calls_min: calls_wanted(slo),
                time_ratio: phase.time_ratio(),
                ..Load::at_rate(rate_per_s, seed + probes.len() as u64)
            };
            let probed = probe.probe(&load)?;
            used_s += probed.point.warmup_s + probed.point.window_s;
            let judgement = judge(&probed, slo);
            let verdict = judgement.verdict;
            probes.push(SearchProbe {
                point: probed.point.point,
                rate_per_s,
                phase,
                verdict,
                reasons: judgement.reasons,
                quantile_ns: judgement.leading_ns.map(Into::into),
                is_of_quiet: judgement.is_of_quiet,
            });
            is_stopped = !observe(Step::End(&probes[probes.len() - 1]));
            if is_stopped {
                break None;
            }
            let says_nothing = |probe: &&SearchProbe| !probe.verdict.is_of_the_server();
            let is_repeated = probes.iter().filter(says_nothing).count() <= REPEATED_IN_ALL;
            if let Some(decided) = ballot.cast(verdict, is_repeated) {
                break Some(decided);
            }
            if used_s >= time_max_s {
                break None;
            }
        };
        if let Some(verdict) = verdict {
            search.handle(verdict);
        }
        if used_s >= time_max_s && search.next_rate().is_some() {
            search.settle();
        }
    }
    let answer = search.answer().map(|found| answer(found, &probes));
    Ok(SearchRecord {
        slo: slo.to_string(),
        tolerance: settings.tolerance,
        is_complete: !is_stopped,
        is_out_of_time: search.is_settled(),
        probes,
        answer,
    })
}

/// The loads at one rate, until a verdict has repeated.
#[derive(Debug, Default)]
struct Ballot {
    passed: u32,
    refused: u32,
    /// Loads that say nothing of the server.
    unmeasured: u32,
}

impl Ballot {
    /// Takes what a load has shown. Gives the verdict when there is one. What was disturbed is repeated
    /// unless that was done too often.
    fn cast(&mut self, verdict: Verdict, is_repeated: bool) -> Option<Verdict> {
        match verdict {
            Verdict::Passed => self.passed += 1,
            verdict if !verdict.is_of_the_server() && !is_repeated => return Some(verdict),
            Verdict::Invalid | Verdict::Disturbed | Verdict::TooFewCalls => self.unmeasured += 1,
            Verdict::Unsure | Verdict::Failed => self.refused += 1,
        }
        // Of loads that pass, the confirmations are the repetition.
        let has_passed = self.passed > self.refused;
        let is_refused = self.refused >= REFUSALS && self.refused > self.passed;
        let is_unmeasured = self.unmeasured >= UNMEASURED_MAX;
        (has_passed || is_refused || is_unmeasured).then_some(verdict)
    }
}

/// The answer with what bounds it from above, and the lowest rate above it that surely failed.
fn answer(found: SearchResult, probes: &[SearchProbe]) -> SearchAnswer {
    let has_passed = |probe: &&SearchProbe| probe.verdict == Verdict::Passed;
    let at_answer = || {
        let probes = probes.iter();
        probes.filter(|probe| probe.rate_per_s == found.rate_per_s)
    };
    let is_confirming = |probe: &&SearchProbe| probe.phase == Phase::Confirm;
    // A rate that was stepped back to is first found by a load that looks like a confirmation.
    let is_found_before = at_answer().any(|probe| has_passed(&probe) && !is_confirming(&probe));
    let confirmations = found
        .confirmations
        .saturating_sub(u32::from(!is_found_before));
    let unconfirmed = at_answer().filter(|probe| is_confirming(probe) && !has_passed(probe));
    // Of several loads at a rate the last has decided.
    let last_at = |rate| probes.iter().rev().find(|probe| probe.rate_per_s == rate);
    SearchAnswer {
        rate_per_s: found.rate_per_s,
        point: at_answer().rev().find(has_passed).map(|probe| probe.point),
        confirmations,
        unconfirmed: unconfirmed.map(|probe| probe.point).collect(),
        failed_per_s: surely_failed(found.rate_per_s, probes),
        is_unmeasured_above: found.is_unmeasured_above,
        limit: found
            .ceiling_per_s
            .and_then(last_at)
            .map(|probe| probe.reasons.join("; ")),
    }
}

/// The lowest rate above the answer that several loads say failed, and at or above which none has passed:
/// what one load says may be chance.
fn surely_failed(answer_per_s: f64, probes: &[SearchProbe]) -> Option<f64> {
    let of = |verdict| {
        let probes = probes.iter().filter(move |probe| probe.verdict == verdict);
        probes.map(|probe| probe.rate_per_s)
    };
    let passed_per_s = of(Verdict::Passed).fold(answer_per_s, f64::max);
    let has_repeated = |rate: &f64| of(Verdict::Failed).filter(|other| other == rate).count() > 1;
    let above = of(Verdict::Failed).filter(|rate| *rate > passed_per_s);
    above.filter(has_repeated).min_by(f64::total_cmp)
}

/// Calls for the quantile of the objective that needs most of them.
pub(super) fn calls_wanted(slo: &Slo) -> f64 {
    let needs = slo
        .objectives()
        .iter()
        .map(|objective| match objective.metric {
            Metric::Quantile(quantile) => calls_for(quantile),
            _ => 0.0,
        });
    needs.fold(0.0, f64::max)
}

/// Loads that must refuse a rate.
const REFUSALS: u32 = 2;
/// Loads at a rate that may be no measurement before it counts as one that can't be measured.
const UNMEASURED_MAX: u32 = 3;
/// Loads of a search that are repeated because they say nothing of the server: a machine that is never still
/// is not waited for.
const REPEATED_IN_ALL: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulated::Server;

    const SETTINGS: Settings = Settings {
        start_per_s: 500.0,
        rate_max_per_s: 1e9,
        tolerance: 0.02,
        confirmations: 2,
        rate_min_per_s: 10.0,
        time_max_s: f64::INFINITY,
    };

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
        assert!(!answer.is_unmeasured_above);
        assert!(answer.failed_per_s.unwrap() > rate);
        assert_eq!(record.probes.len(), server.loads.len());
        assert!(server.loads.iter().all(|load| load.calls_min > 11_999.0));
    }

    #[test]
    fn a_way_of_20_ms_changes_nothing_but_the_objective() {
        for seed in 0..5 {
            let mut server = Server {
                way_s: 0.02,
                window_s: 60.0,
                random: fastrand::Rng::with_seed(seed),
                ..Server::random(5000.0)
            };
            let slo = "p99<=25ms".parse().unwrap();
            let record = conduct(&mut server, &slo, SETTINGS, 1, |_| true).unwrap();
            let rate = record.answer.unwrap().rate_per_s;
            assert!(
                (0.95 * 4079.0..=1.01 * 4079.0).contains(&rate),
                "{seed}: {rate}"
            );
        }
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
        assert!(answer.is_unmeasured_above);
        assert_eq!(answer.limit.as_deref(), Some("the generator was late"));
    }

    #[test]
    fn a_search_that_is_stopped_keeps_its_loads() {
        let mut server = Server::random(5000.0);
        let slo = "p99<5ms".parse().unwrap();
        let record = conduct(
            &mut server,
            &slo,
            SETTINGS,
            1,
            |step| !matches!(step, Step::End(probe) if probe.point == 2),
        )
        .unwrap();
        assert_eq!(record.probes.len(), 3);
        assert!(!record.is_complete && record.answer.is_none());
    }

    #[test]
    fn what_was_disturbed_does_not_speak_against_the_server() {
        let slo = "p99<=5ms".parse().unwrap();
        let search = |host_ratio| {
            let mut server = Server::random(5000.0);
            server.disturbance.host_ratio = Some(host_ratio);
            conduct(&mut server, &slo, SETTINGS, 1, |_| true).unwrap()
        };
        let quiet = search(0.001);
        assert_eq!(quiet.disturbed(), 0);
        let restless = search(0.02);
        assert!(restless.disturbed() > 3 && restless.disturbed() < 40);
        let answer = restless.answer.unwrap();
        let rate = answer.rate_per_s;
        assert!((0.9 * 4079.0..=1.01 * 4079.0).contains(&rate), "{rate}");
        assert!(answer.limit.unwrap().contains("the host took 2.0 %"));
    }

    /// Others take the CPU for 10 ms in each quarter of a second, so that more than one call of a hundred is
    /// slow at any rate.
    fn paused(services_per_s: f64) -> Server {
        let mut server = Server {
            window_s: 30.0,
            pause_s: Some((0.25, 0.01)),
            ..Server::random(services_per_s)
        };
        server.disturbance.host_ratio = Some(0.04);
        server
    }

    #[test]
    fn pauses_of_the_host_change_the_answer_little_where_what_was_quiet_decides() {
        let slo: Slo = "p99<=5ms".parse().unwrap();
        for seed in 0..3 {
            let mut server = Server {
                slo: Some(slo.clone()),
                random: fastrand::Rng::with_seed(seed),
                ..paused(5000.0)
            };
            let record = conduct(&mut server, &slo, SETTINGS, 1, |_| true).unwrap();
            let rate = record.answer.clone().unwrap().rate_per_s;
            // Behind a pause a queue that is nearly full stays longer than is left out.
            assert!(
                (0.88 * 4079.0..=1.01 * 4079.0).contains(&rate),
                "{seed}: {rate}"
            );
            let passed = record.passed_at(rate);
            assert_eq!(
                record.passed_in_quiet_at(rate),
                passed,
                "and the answer says so"
            );
        }
    }

    #[test]
    fn without_slices_a_host_that_pauses_leaves_no_answer() {
        let slo = "p99<=5ms".parse().unwrap();
        let record = conduct(&mut paused(5000.0), &slo, SETTINGS, 1, |_| true).unwrap();
        assert!(record.answer.is_none() && record.undecided().is_some());
    }

    #[test]
    fn a_server_that_is_slow_in_the_quiet_is_not_excused_by_pauses() {
        let slo: Slo = "p99<=5ms".parse().unwrap();
        // Without pauses p99 is 4.6 ms at 4000/s; a server that serves 4400/s has 11.5 ms.
        let mut server = Server {
            slo: Some(slo.clone()),
            ..paused(4400.0)
        };
        let Ok(probed) = server.probe(&Load::at_rate(4000.0, 1));
        assert_eq!(judge(&probed, &slo).verdict, Verdict::Failed);
    }

    #[test]
    fn a_search_settles_when_its_time_is_up() {
        let slo = "p99<=5ms".parse().unwrap();
        let mut probe = Server::random(5000.0);
        let settings = Settings {
            time_max_s: 100.0,
            ..SETTINGS
        };
        let record = conduct(&mut probe, &slo, settings, 1, |_| true).unwrap();
        let used_s: f64 = probe
            .loads
            .iter()
            .map(|load| 20f64.max(load.calls_min / load.rate_per_s.unwrap()))
            .sum();
        assert!((100.0..130.0).contains(&used_s), "{used_s}");
        assert!(record.is_complete && record.is_out_of_time);
        let answer = record.answer.unwrap();
        assert!(!answer.is_unmeasured_above, "what is above has failed");
        assert_eq!((answer.confirmations, &*answer.unconfirmed), (0, &[][..]));
        let passed = record
            .probes
            .iter()
            .filter(|probe| probe.verdict == Verdict::Passed);
        let highest = passed.map(|probe| probe.rate_per_s).fold(0.0, f64::max);
        assert_eq!(answer.rate_per_s, highest);
        assert!(highest >= 1000.0, "{highest}");
    }

    #[test]
    fn loads_that_did_not_confirm_the_answer_are_named() {
        // It passes where it is found, and never when it should be confirmed.
        struct Fickle(Server);
        impl Probe for Fickle {
            type Error = std::convert::Infallible;

            fn probe(&mut self, load: &Load) -> Result<crate::study::Probed, Self::Error> {
                let mut probed = self.0.probe(load)?;
                if load.time_ratio == 1.0 {
                    probed.point.validity.is_valid = false;
                    probed.point.validity.reasons = vec!["no measurement".into()];
                }
                Ok(probed)
            }
        }
        let slo = "p99<=5ms".parse().unwrap();
        let mut probe = Fickle(Server::random(5000.0));
        let record = conduct(&mut probe, &slo, SETTINGS, 1, |_| true).unwrap();
        let answer = record.answer.unwrap();
        assert_eq!((answer.confirmations, answer.unconfirmed.len()), (0, 3));
        assert!(answer.is_unmeasured_above);
    }

    #[test]
    fn a_verdict_is_one_that_repeats() {
        use Verdict::{Disturbed, Failed, Invalid, Passed, Unsure};
        let decide = |verdicts: &[Verdict]| {
            let mut ballot = Ballot::default();
            let decided = verdicts.iter().map(|verdict| ballot.cast(*verdict, true));
            decided.collect::<Vec<_>>()
        };
        assert_eq!(decide(&[Passed]), [Some(Passed)]);
        assert_eq!(decide(&[Failed, Unsure]), [None, Some(Unsure)]);
        assert_eq!(
            decide(&[Failed, Passed, Failed]),
            [None, None, Some(Failed)]
        );
        assert_eq!(
            decide(&[Failed, Passed, Passed]),
            [None, None, Some(Passed)]
        );
        let unmeasured = [Invalid, Disturbed, Disturbed];
        assert_eq!(decide(&unmeasured), [None, None, Some(Disturbed)]);
        assert_eq!(Ballot::default().cast(Disturbed, false), Some(Disturbed));
    }

    #[test]
    fn nothing_above_the_maximum_is_tried() {
        let mut server = Server::random(5000.0);
        server.window_s = 2.0;
        let settings = Settings {
            rate_max_per_s: 3000.0,
            ..SETTINGS
        };
        let slo = "p99<5ms".parse().unwrap();
        let record = conduct(&mut server, &slo, settings, 1, |_| true).unwrap();
        let answer = record.answer.unwrap();
        assert_eq!(answer.rate_per_s, 3000.0);
        assert_eq!((answer.limit, answer.failed_per_s), (None, None));
        let rates = server.loads.iter().map(|load| load.rate_per_s.unwrap());
        assert_eq!(rates.fold(0.0, f64::max), 3000.0);
    }
}
