//! A search with real loads; every load is kept.
//!
//! A load that does not pass is tried once more: whatever disturbs a machine makes latencies longer,
//! never shorter. One that was no measurement, since the generator was late, is tried three times more.

use super::judge::{Judgement, Verdict, judge};
use super::record::{SearchAnswer, SearchProbe, SearchRecord};
use super::search::{Phase, Search, SearchResult, Settings};
use super::{Load, Probe, calls_for};
use crate::analysis::slo::{Metric, Slo};

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
    let answer = search.answer().map(|found| answer(found, &probes));
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

/// The answer with what bounds it from above, and the lowest rate above it that surely failed.
fn answer(found: SearchResult, probes: &[SearchProbe]) -> SearchAnswer {
    // Of several loads at a rate the last has decided.
    let last_at = |rate| probes.iter().rev().find(|probe| probe.rate_per_s == rate);
    let failures = probes
        .iter()
        .filter(|probe| probe.rate_per_s > found.rate_per_s && probe.verdict == Verdict::Failed)
        .map(|probe| probe.rate_per_s);
    SearchAnswer {
        rate_per_s: found.rate_per_s,
        confirmations: found.confirmations,
        failed_per_s: failures.min_by(f64::total_cmp),
        is_generator_limited: found.is_generator_limited,
        limit: found
            .ceiling_per_s
            .and_then(last_at)
            .map(|probe| probe.reasons.join("; ")),
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
