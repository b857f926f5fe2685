//! A load that was disturbed, judged by the slices of its window in which no CPU stood still.
//!
//! On a machine whose host takes its CPUs now and then, hardly a load is left alone from its beginning to
//! its end, and repeating it changes nothing. What was due while nobody disturbed tells how the server
//! does; that the rest was left out is said.

use super::judge::{CONFIDENCE, Verdict};
use super::{Probed, calls_for};
use crate::analysis::bounds::{Piece, share_bounds};
use crate::analysis::slo::{Metric, Objective, Slo};
use crate::load::slices::Slices;
use crate::units::{format_count, format_ns};

/// The verdict, and a sentence that says over what. `None` where too little was quiet, or the objective
/// is one on the mean.
pub(super) fn judge(probed: &Probed, slo: &Slo) -> Option<(Verdict, String)> {
    let slices = probed.slices.as_ref()?;
    let has_mean = |objective: &Objective| objective.metric == Metric::Mean;
    if slo.objectives().iter().any(has_mean) {
        return None;
    }
    let quiet_s = slices.quiet().count() as f64 * slices.slice_s();
    let calls: u64 = slices.quiet().map(|slice| u64::from(slice.calls)).sum();
    let window_s = probed.point.window_s;
    if quiet_s < window_s * QUIET_RATIO_MIN {
        return None;
    }
    let mut verdict = Verdict::Passed;
    let mut parts = Vec::new();
    for (at, objective) in slo.latencies().enumerate() {
        let permitted = match objective.metric {
            Metric::Quantile(quantile) => 1.0 - quantile,
            _ => 0.0,
        };
        if permitted > 0.0 && (calls as f64) < calls_for(1.0 - permitted) * CALLS_RATIO_MIN {
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
            _ if is_missed => Verdict::Failed,
            Verdict::Passed if !is_met => Verdict::Unsure,
            verdict => verdict,
        };
        parts.push(format!(
            "{:.2} % (at most {:.2} %) took {} or longer",
            slow.value * 100.0,
            slow.upper * 100.0,
            format_ns(objective.limit)
        ));
    }
    let why = format!(
        "of the {} calls that were due in the {quiet_s:.1} of {window_s:.1} s in which no CPU stood still, {}",
        format_count(calls),
        parts.join(", ")
    );
    Some((verdict, why))
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
/// Of the calls that a load is usually given for its quantile.
const CALLS_RATIO_MIN: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::flight::Window;
    use crate::study::simulated::Server;
    use crate::study::{Load, Probe};

    const MS: u64 = 1_000_000;

    /// A load of 10 s at 1000 calls/s, of which every hundredth is slow in the quiet, if `is_slow`. A CPU
    /// stood still for `pause_ms` in each second, and all calls of that time are slow.
    fn probed(pause_ms: u64, is_slow: bool, slo: &Slo) -> Probed {
        let mut server = Server::random(5000.0);
        let mut probed = server.probe(&Load::at_rate(1000.0, 1)).unwrap();
        probed.point.window_s = 10.0;
        let window = Window {
            from_ns: 0,
            until_ns: 10_000 * MS,
        };
        let mut slices = Slices::new(window, &slo.slow_from_ns()).unwrap();
        for call in 0..10_000 {
            let is_in_pause = call % 1000 < pause_ms;
            let has_bad_luck = is_slow && call % 50 == 0;
            let response_ns = if is_in_pause || has_bad_luck {
                9 * MS
            } else {
                MS / 2
            };
            slices.record(call * MS, response_ns);
        }
        for second in 0..10 {
            let from_ns = second * 1000 * MS;
            slices.disturb(from_ns, from_ns + pause_ms * MS);
        }
        probed.slices = Some(slices);
        probed
    }

    #[test]
    fn what_was_quiet_decides_and_it_says_over_what() {
        let slo = "p99<1ms,err<1%".parse().unwrap();
        let (verdict, why) = judge(&probed(50, false, &slo), &slo).unwrap();
        assert_eq!(verdict, Verdict::Passed);
        // Left out: of each second the pause of 50 ms, 200 ms behind it, and the slices at both ends.
        let (over, found) = why.split_once(", ").unwrap();
        assert_eq!(
            over,
            "of the 7 405 calls that were due in the 7.4 of 10.0 s in which no CPU stood still"
        );
        assert_eq!(found, "0.00 % (at most 0.05 %) took 1.00 ms or longer");
        let (verdict, _) = judge(&probed(50, true, &slo), &slo).unwrap();
        assert_eq!(verdict, Verdict::Failed, "two of a hundred are slow");
    }

    #[test]
    fn a_maximum_is_one_for_each_call() {
        let slo = "max<1ms".parse().unwrap();
        let verdict = |is_slow| judge(&probed(50, is_slow, &slo), &slo).unwrap().0;
        assert_eq!(
            (verdict(false), verdict(true)),
            (Verdict::Passed, Verdict::Failed)
        );
    }

    #[test]
    fn too_little_quiet_decides_nothing() {
        let slo: Slo = "p99<1ms".parse().unwrap();
        assert_eq!(
            judge(&probed(180, false, &slo), &slo),
            None,
            "a tenth of the time"
        );
        let far: Slo = "p99.9<1ms".parse().unwrap();
        assert_eq!(
            judge(&probed(50, false, &far), &far),
            None,
            "a tenth of the calls"
        );
        let mean: Slo = "p99<1ms,mean<1ms".parse().unwrap();
        assert_eq!(judge(&probed(50, false, &mean), &mean), None);
        let unsliced = Probed {
            slices: None,
            ..probed(50, false, &slo)
        };
        assert_eq!(judge(&unsliced, &slo), None);
    }
}
