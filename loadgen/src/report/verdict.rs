//! What the measurements mean for capacity.

use super::evidence::{Evidence, Point};
use crate::analysis::capacity::{self, Demand};
use crate::analysis::knee;
use crate::analysis::slo::Slo;
use crate::analysis::utilisation;
use crate::results::LoopKind;
use crate::study::Probed;
use crate::study::judge::{Verdict as Judged, judge};
use crate::study::record::{SearchAnswer, StudyRecord};

/// What the reader plans with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planning {
    /// Calls per second at the busiest time; `None`: not known.
    pub peak_per_s: Option<f64>,
    /// By how much that grows.
    pub growth: f64,
    /// Instances that may be lost.
    pub spare: u32,
    /// Share of an instance's capacity that is kept free.
    pub headroom: f64,
}

/// The capacity of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// The objective.
    pub slo: Slo,
    /// The highest rate that meets it.
    pub rate_per_s: f64,
    /// The lowest higher rate that surely does not.
    pub failed_per_s: Option<f64>,
    /// Why the next higher rate did not pass.
    pub limit: Option<String>,
    /// Whether the loads above it say nothing of the server.
    pub is_unmeasured_above: bool,
    /// Further loads at this rate that have confirmed it.
    pub confirmations: u32,
    /// The points of those that should have and did not.
    pub unconfirmed: Vec<u32>,
    /// Whether the search had to settle for it because its time was up.
    pub is_out_of_time: bool,
    /// CPU seconds of the server for a call at that rate.
    pub cpu_s_per_call: Option<f64>,
    /// The point that this is from.
    pub cpu_point: Option<u32>,
    /// The points that have passed at that rate.
    pub points: Vec<u32>,
    /// Those of them that met the objective only in what was due while no CPU stood still.
    pub quiet_points: Vec<u32>,
}

impl Capacity {
    /// Whether loads of full length have passed at it.
    pub fn is_confirmed(&self) -> bool {
        self.confirmations > 0
    }

    /// The rate that one instance is trusted with.
    pub fn rated_per_s(&self, planning: Planning) -> f64 {
        capacity::rated_per_s(self.rate_per_s, planning.headroom)
    }

    /// Instances needed; `None` without a peak.
    pub fn instances(&self, planning: Planning) -> Option<u64> {
        let demand = Demand {
            peak_per_s: planning.peak_per_s?,
            growth: planning.growth,
            spare: planning.spare,
        };
        capacity::instances(demand, self.rated_per_s(planning))
    }
}

/// The capacity that the evidence shows: what a search has found, or else the highest rate of a
/// curve up to which everything passed. `slo` replaces the objective of the measurement, which a
/// search's answer does not outlive.
pub fn capacity(evidence: &Evidence, slo: Option<&Slo>) -> Option<Capacity> {
    let searched = evidence
        .folders
        .iter()
        .enumerate()
        .find_map(|(at, folder)| {
            let Some(StudyRecord::Search(record)) = &folder.record else {
                return None;
            };
            let answer = record.answer.as_ref()?;
            let measured: Slo = record.slo.parse().ok()?;
            if slo.is_some_and(|slo| *slo != measured) {
                return None;
            }
            let points = evidence.points.iter();
            let points = points.filter(|point| point.folder == at && is_of_open_loop(point));
            let decisive = points
                .clone()
                .find(|point| Some(point.row.point) == answer.point);
            let near = points.min_by(|a, b| {
                let distance =
                    |point: &Point| (point.summary.offered_per_s - answer.rate_per_s).abs();
                distance(a).total_cmp(&distance(b))
            });
            let measured_at = decisive.or(near);
            Some(Capacity {
                slo: measured,
                points: record.passed_at(answer.rate_per_s),
                quiet_points: record.passed_in_quiet_at(answer.rate_per_s),
                rate_per_s: answer.rate_per_s,
                failed_per_s: answer.failed_per_s,
                limit: answer.limit.clone(),
                is_unmeasured_above: answer.is_unmeasured_above && !is_bracketed(answer),
                confirmations: answer.confirmations,
                unconfirmed: answer.unconfirmed.clone(),
                is_out_of_time: record.is_out_of_time,
                cpu_s_per_call: measured_at.and_then(cpu_s_per_call),
                cpu_point: measured_at.map(|point| point.row.point),
            })
        });
    searched.or_else(|| from_curve(evidence, slo))
}

/// The objective of the reader, or that of the measurement.
pub fn objective(evidence: &Evidence, slo: Option<&Slo>) -> Option<Slo> {
    slo.cloned().or_else(|| {
        let of_folder = |folder: &super::evidence::Folder| match &folder.record {
            Some(StudyRecord::Search(record)) => record.slo.parse().ok(),
            _ => folder.manifest.load.slo.as_ref()?.parse().ok(),
        };
        evidence.folders.iter().find_map(of_folder)
    })
}

fn from_curve(evidence: &Evidence, slo: Option<&Slo>) -> Option<Capacity> {
    let slo = objective(evidence, slo)?;
    let curve: Vec<_> = evidence
        .curve()
        .into_iter()
        .map(|point| (point, judge(&probed(point), &slo)))
        .collect();
    let highest = highest_passed(curve.iter().map(|(_, judgement)| judgement.verdict))?;
    let (passed, _) = &curve[highest];
    // One that was too short for this objective says nothing against it.
    let refused = curve[highest + 1..]
        .iter()
        .find(|(_, judgement)| judgement.verdict != Judged::TooFewCalls)
        .map(|(point, judgement)| {
            let reasons = judgement.reasons.clone();
            (point.summary.offered_per_s, judgement.verdict, reasons)
        });
    Some(Capacity {
        slo,
        rate_per_s: passed.summary.offered_per_s,
        failed_per_s: refused
            .as_ref()
            .filter(|(_, verdict, _)| *verdict == Judged::Failed)
            .map(|(rate, ..)| *rate),
        is_unmeasured_above: refused
            .as_ref()
            .is_some_and(|(_, verdict, _)| matches!(verdict, Judged::Invalid | Judged::Disturbed)),
        limit: refused.map(|(_, _, reasons)| reasons.join("; ")),
        confirmations: 0,
        unconfirmed: Vec::new(),
        is_out_of_time: false,
        quiet_points: Vec::new(),
        cpu_s_per_call: cpu_s_per_call(passed),
        cpu_point: Some(passed.row.point),
        points: vec![passed.row.point],
    })
}

/// The last of the loads of a curve that passed, in order of their rates, up to which the server can be
/// said to have passed: what disturbs a machine makes latencies longer, never shorter, so a failure is
/// taken for a disturbance when more loads have passed above it than failed below them.
fn highest_passed(verdicts: impl Iterator<Item = Judged>) -> Option<usize> {
    let mut highest = None;
    // Since the lowest failure that is not outweighed yet.
    let (mut failures, mut passes) = (0, 0);
    for (at, verdict) in verdicts.enumerate() {
        match verdict {
            Judged::Passed if failures == 0 => highest = Some(at),
            Judged::Passed => {
                passes += 1;
                if passes > failures {
                    (failures, passes, highest) = (0, 0, Some(at));
                }
            }
            Judged::Failed | Judged::Unsure => failures += 1,
            Judged::TooFewCalls | Judged::Invalid | Judged::Disturbed => (),
        }
    }
    highest
}

/// A load as the study saw it.
pub(super) fn probed(point: &Point) -> Probed {
    Probed {
        point: point.summary.clone(),
        responses_ns: point
            .responses
            .iter()
            .map(|interval| interval.values_ns.clone())
            .collect(),
    }
}

/// Whether a load not far above the answer has surely failed: then the server's limit lies between them,
/// whatever could not be measured there.
fn is_bracketed(answer: &SearchAnswer) -> bool {
    let is_near = |failed_per_s: f64| failed_per_s <= answer.rate_per_s * BRACKET_MAX;
    answer.confirmations > 0 && answer.failed_per_s.is_some_and(is_near)
}

/// Whether a headline may rest on it.
fn is_of_open_loop(point: &&Point) -> bool {
    point.summary.validity.is_valid && point.summary.loop_kind == LoopKind::Open
}

fn cpu_s_per_call(point: &Point) -> Option<f64> {
    point
        .summary
        .server
        .map(|server| server.cpu_us_per_call / 1e6)
}

/// Where p99 bends, among valid points.
pub fn knee_per_s(curve: &[&Point]) -> Option<f64> {
    let points: Vec<_> = curve
        .iter()
        .filter(|point| point.summary.validity.is_valid)
        .filter_map(|point| {
            Some(knee::Point {
                rate_per_s: point.summary.offered_per_s,
                latency_ns: point.quantile(0.99)?.value,
            })
        })
        .collect();
    knee::knee(&points).map(|point| point.rate_per_s)
}

/// CPU seconds of a call by the utilisation law, from the busiest points: with little to do a server
/// that waits spinning uses CPU time for nothing, and calls that come together cost less each.
pub fn law_s_per_call(curve: &[&Point]) -> Option<f64> {
    let points: Vec<_> = curve
        .iter()
        .filter(|point| point.summary.validity.is_valid)
        .filter_map(|point| {
            Some(utilisation::Point {
                rate_per_s: point.summary.achieved_per_s,
                cpus: point.summary.server?.cpus_busy,
            })
        })
        .collect();
    let highest = points
        .iter()
        .map(|point| point.rate_per_s)
        .fold(0.0, f64::max);
    let busier: Vec<_> = points
        .into_iter()
        .filter(|point| point.rate_per_s >= BUSIER * highest)
        .collect();
    utilisation::cpu_s_per_call(&busier)
}

/// CPUs that the server may use: one for each shard.
pub fn server_cpus(point: &Point, evidence: &Evidence) -> Option<f64> {
    let pinned = &evidence.folders[point.folder].manifest.pinning.server_cpus;
    let shards = point.row.shards.map(f64::from);
    let cpus = pinned.as_ref().map(|cpus| cpus.len() as f64);
    match (shards, cpus) {
        (Some(shards), Some(cpus)) => Some(shards.min(cpus)),
        (one, other) => one.or(other),
    }
}

/// A failure up to so many times the answer bounds it.
const BRACKET_MAX: f64 = 1.15;
/// Share of the highest rate from which points count as busiest.
const BUSIER: f64 = 0.9;
