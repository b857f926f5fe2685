//! A load that was disturbed, judged by the slices of its window in which no CPU stood still.
//!
//! On a machine whose host takes its CPUs now and then, hardly a load is left alone from its beginning to
//! its end, and repeating it changes nothing. What was due while nobody disturbed tells how the server
//! does; that the rest was left out is said.

use crate::analysis::bounds::{Piece, is_reportable, share_bounds};
use crate::analysis::slo::{Metric, Objective, Slo};
use crate::load::slices::Slices;
use crate::results::{Quiet, QuietVerdict};
use crate::study::judge::CONFIDENCE;
use crate::units::{format_count, format_ns};

/// What the quiet says, and over what. `None` where too little was quiet, or the objective is one on the
/// mean.
pub(crate) fn quiet(slices: &Slices, slo: &Slo, window_s: f64) -> Option<Quiet> {
    let has_mean = |objective: &Objective| objective.metric == Metric::Mean;
    if slo.objectives().iter().any(has_mean) {
        return None;
    }
    let quiet_s = slices.quiet().count() as f64 * slices.slice_s();
    let calls: u64 = slices.quiet().map(|slice| u64::from(slice.calls)).sum();
    if quiet_s < window_s * QUIET_RATIO_MIN {
        return None;
    }
    let mut verdict = QuietVerdict::Met;
    let mut parts = Vec::new();
    for (at, objective) in slo.latencies().enumerate() {
        let permitted = match objective.metric {
            Metric::Quantile(quantile) => 1.0 - quantile,
            _ => 0.0,
        };
        if permitted > 0.0 && !is_reportable(calls, 1.0 - permitted) {
            return None;
        }
        let slow = share_bounds(&pieces(slices, at), CONFIDENCE)?;
        // A maximum is met by what was seen; of a share chance has to be taken into account.
        let is_met = match permitted > 0.0 {
            true => slow.upper <= permitted,
            false => slow.value == 0.0,
        };
        let is_missed = slow.lower > permitted || (permitted == 0.0 && !is_met);
        verdict = match verdict {
            _ if is_missed => QuietVerdict::Missed,
            QuietVerdict::Met if !is_met => QuietVerdict::Unsure,
            verdict => verdict,
        };
        parts.push(format!(
            "{:.2} % (at most {:.2} %) took {} or longer",
            slow.value * 100.0,
            slow.upper * 100.0,
            format_ns(objective.limit)
        ));
    }
    let text = format!(
        "in the quiet {quiet_s:.1} of {window_s:.1} s: of {} calls {}",
        format_count(calls),
        parts.join(", ")
    );
    Some(Quiet { verdict, text })
}

/// The quiet slices as pieces of the run, with the calls that were slow by one of the limits.
fn pieces(slices: &Slices, limit: usize) -> Vec<Piece> {
    let piece = slices.quiet().map(|slice| Piece {
        calls: f64::from(slice.calls),
        having: f64::from(slice.slow[limit]),
    });
    piece.collect()
}

/// Share of the window that has to be quiet: what is left of a machine that hardly ever is says little of
/// it.
const QUIET_RATIO_MIN: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::flight::Window;

    const MS: u64 = 1_000_000;

    /// What 10 s at 2000 calls/s say, of which in the quiet two of a hundred are slow, if `is_slow`. A CPU
    /// stood still for `pause_ms` in each second, and all calls of that time are slow.
    fn judged(pause_ms: u64, is_slow: bool, slo: &str) -> Option<Quiet> {
        let slo: Slo = slo.parse().unwrap();
        let window = Window {
            from_ns: 0,
            until_ns: 10_000 * MS,
        };
        let mut slices = Slices::new(window, &slo.slow_from_ns())?;
        for call in 0..20_000 {
            let at_ms = call / 2;
            let is_in_pause = at_ms % 1000 < pause_ms;
            let has_bad_luck = is_slow && call % 50 == 0;
            let response_ns = if is_in_pause || has_bad_luck {
                9 * MS
            } else {
                MS / 2
            };
            slices.record(at_ms * MS, response_ns);
        }
        for second in 0..10 {
            let from_ns = second * 1000 * MS;
            slices.disturb(from_ns, from_ns + pause_ms * MS);
        }
        slices.settle(0.8);
        quiet(&slices, &slo, 10.0)
    }

    #[test]
    fn what_was_quiet_decides_and_it_says_over_what() {
        let met = judged(50, false, "p99<1ms,err<1%").unwrap();
        assert_eq!(met.verdict, QuietVerdict::Met);
        // Left out: of each second the pause of 50 ms, 200 ms behind it, and the slices at both ends.
        let expected = "in the quiet 7.4 of 10.0 s: of 14 810 calls 0.00 % (at most 0.02 %) took 1.00 ms or longer";
        assert_eq!(met.text, expected);
        let missed = judged(50, true, "p99<1ms,err<1%").unwrap();
        assert_eq!(missed.verdict, QuietVerdict::Missed);
    }

    #[test]
    fn a_maximum_is_one_for_each_call() {
        let verdict = |is_slow| judged(50, is_slow, "max<1ms").unwrap().verdict;
        assert_eq!(
            (verdict(false), verdict(true)),
            (QuietVerdict::Met, QuietVerdict::Missed)
        );
    }

    #[test]
    fn too_little_quiet_decides_nothing() {
        let is_none = |pause_ms, slo| judged(pause_ms, false, slo).is_none();
        assert!(is_none(180, "p99<1ms"), "a tenth of the time");
        assert!(is_none(50, "p99.9<1ms"), "a tenth of the calls");
        assert!(is_none(50, "p99<1ms,mean<1ms") && is_none(50, "err<1%"));
    }
}
