//! How a search came to its answer.

use std::collections::BTreeMap;

use super::{View, plot, rate, section};
use crate::plots::{self, TimelineLoad, TimelineOutcome};
use crate::report::document::{Block, Section, Table};
use crate::report::evidence::Point;
use crate::study::judge::Verdict;
use crate::study::record::{SearchAnswer, SearchProbe, SearchRecord, StudyRecord};
use crate::units::{format_ns, or_dash, several};

impl View<'_> {
    /// The loads of the search in their order, and what each was for; `None` when nothing was searched.
    pub(super) fn search(&self) -> Option<Section> {
        let (folder, record) = self.searched()?;
        let answer_per_s = record.answer.as_ref().map(|answer| answer.rate_per_s);
        let loads: Vec<TimelineLoad> = record.probes.iter().map(timeline_load).collect();
        let points = self.evidence.points.iter();
        let points: BTreeMap<u32, &Point> = points
            .filter(|point| point.folder == folder)
            .map(|point| (point.row.point, point))
            .collect();
        let mut blocks = vec![
            Block::Text(counts(record)),
            plot(
                "search",
                plots::timeline(&loads, answer_per_s),
                "Each load of the search. A rate is refused by two loads; the answer is confirmed by loads \
                 of full length.",
            ),
        ];
        if let Some(answer) = &record.answer {
            blocks.extend(contradictions(record, answer).map(Block::Warning));
        }
        blocks.push(Block::Folded {
            title: format!("All {}", several(record.probes.len(), "load")),
            table: table(record, &points),
        });
        Some(section("How the answer was found", blocks))
    }

    /// How often loads of the search said nothing of the server, if any did.
    pub(super) fn repeated(&self) -> Option<String> {
        let (_, record) = self.searched()?;
        let is_empty = |probe: &&SearchProbe| !probe.verdict.is_of_the_server();
        (record.probes.iter().filter(is_empty).count() > 0).then(|| counts(record))
    }

    /// The search, if there was one.
    pub(super) fn search_record(&self) -> Option<&SearchRecord> {
        self.searched().map(|(_, record)| record)
    }

    fn searched(&self) -> Option<(usize, &SearchRecord)> {
        let mut folders = self.evidence.folders.iter().enumerate();
        folders.find_map(|(at, folder)| match &folder.record {
            Some(StudyRecord::Search(record)) => Some((at, record)),
            _ => None,
        })
    }
}

fn timeline_load(probe: &SearchProbe) -> TimelineLoad {
    TimelineLoad {
        rate_per_s: probe.rate_per_s,
        outcome: match probe.verdict {
            Verdict::Passed => TimelineOutcome::Passed,
            Verdict::Failed => TimelineOutcome::Failed,
            Verdict::Unsure | Verdict::TooFewCalls => TimelineOutcome::Unsure,
            Verdict::Invalid | Verdict::Disturbed => TimelineOutcome::Unmeasured,
        },
    }
}

fn counts(record: &SearchRecord) -> String {
    let of = |verdict| {
        let probes = record.probes.iter();
        probes.filter(|probe| probe.verdict == verdict).count()
    };
    let mut text = format!(
        "{}: {} passed, {} failed",
        several(record.probes.len(), "load"),
        of(Verdict::Passed),
        of(Verdict::Failed),
    );
    for (verdict, what) in [
        (Verdict::Unsure, "unsure"),
        (Verdict::TooFewCalls, "with too few calls"),
        (Verdict::Invalid, "no measurement"),
    ] {
        if of(verdict) > 0 {
            text += &format!(", {} {what}", of(verdict));
        }
    }
    match record.disturbed() {
        0 => text.push('.'),
        disturbed => {
            text += &format!(
                ", {disturbed} disturbed by the host or by other programs, which says nothing of the server."
            );
        }
    }
    text
}

/// What was measured above the answer and speaks against it.
fn contradictions(record: &SearchRecord, answer: &SearchAnswer) -> Option<String> {
    let above = |probe: &&SearchProbe| {
        probe.rate_per_s > answer.rate_per_s && probe.verdict == Verdict::Passed
    };
    let mut rates: Vec<f64> = record
        .probes
        .iter()
        .filter(above)
        .map(|probe| probe.rate_per_s)
        .collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let at_answer = (!answer.unconfirmed.is_empty()).then(|| {
        let points: Vec<String> = answer.unconfirmed.iter().map(u32::to_string).collect();
        format!(
            "{} at the answer did not confirm it: {} {}.",
            several(points.len(), "load"),
            if points.len() == 1 { "point" } else { "points" },
            points.join(", ")
        )
    });
    let above = (!rates.is_empty()).then(|| {
        let rates: Vec<String> = rates.into_iter().map(rate).collect();
        format!(
            "Single loads above the answer have passed too, at {}; other loads there, or later ones, did not.",
            rates.join(", ")
        )
    });
    let all: Vec<String> = [at_answer, above].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" "))
}

fn table(record: &SearchRecord, points: &BTreeMap<u32, &Point>) -> Table {
    let head = [
        "point",
        "phase",
        "intended",
        "achieved",
        "length",
        "quantile of the objective",
        "verdict",
        "why",
    ];
    let row = |probe: &SearchProbe| {
        let point = points.get(&probe.point);
        let bounds = or_dash(probe.quantile_ns, |bounds| {
            format!("{} – {}", format_ns(bounds.lower), format_ns(bounds.upper))
        });
        vec![
            probe.point.to_string(),
            probe.phase.name().to_owned(),
            rate(probe.rate_per_s),
            or_dash(point, |point| rate(point.summary.achieved_per_s)),
            or_dash(point, |point| format!("{:.1} s", point.summary.window_s)),
            bounds,
            probe.verdict.name().to_owned(),
            probe.reasons.join("; "),
        ]
    };
    Table::new(&head, record.probes.iter().map(row))
}
