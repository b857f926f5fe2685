//! The parts of a report that show measurements.
//!
//! `capacity` is the verdict, `search` how it was found, `curves` shows the load, `shards` shows scaling and waiting.

mod capacity;
mod closed;
mod curves;
mod over_time;
mod overlay;
mod search;
mod shards;
mod sides;

pub(super) use self::sides::sides;

use super::document::{Block, Section};
use super::evidence::{Evidence, Point};
use super::provenance::command;
use super::verdict::{self, Capacity, Planning};
use crate::analysis::slo::Slo;
use crate::units::format_per_s;

/// The verdict and what it rests on; a search and closed loops where there were any.
pub(super) fn sections(evidence: &Evidence, slo: Option<&Slo>, planning: Planning) -> Vec<Section> {
    let capacity = verdict::capacity(evidence, slo);
    let curve = evidence.curve();
    let view = View {
        evidence,
        slo: verdict::objective(evidence, slo),
        law_s: verdict::law_s_per_call(&curve),
        at_capacity: at_capacity(&curve, capacity.as_ref()),
        capacity,
        curve,
        planning,
    };
    let mut sections = vec![view.verdict()];
    sections.extend(view.overlay());
    sections.extend(view.search());
    sections.extend([view.hockey_stick(), view.achieved()]);
    sections.extend(view.by_method());
    sections.extend(view.over_time());
    sections.extend(view.failures());
    sections.extend([
        view.spectrum(),
        view.heat(),
        view.cpu(),
        view.scaling(),
        view.waiting(),
        view.balance(),
    ]);
    sections.extend(view.closed_loops());
    sections
}

/// What the parts look at.
struct View<'a> {
    evidence: &'a Evidence,
    curve: Vec<&'a Point>,
    capacity: Option<Capacity>,
    slo: Option<Slo>,
    /// CPU seconds of a call.
    law_s: Option<f64>,
    /// The point that shows the server at its capacity; without one, the busiest that is valid.
    at_capacity: Option<&'a Point>,
    planning: Planning,
}

fn at_capacity<'a>(curve: &[&'a Point], capacity: Option<&Capacity>) -> Option<&'a Point> {
    let rate = |point: &Point| point.summary.offered_per_s;
    let valid = || {
        let curve = curve.iter().copied();
        curve.filter(|point| point.summary.validity.is_valid)
    };
    match capacity {
        // Loads that have passed there show it; of others the nearest.
        Some(capacity) => valid()
            .filter(|point| point.folder == 0 && capacity.points.contains(&point.row.point))
            .max_by(|a, b| a.summary.window_s.total_cmp(&b.summary.window_s))
            .or_else(|| {
                valid().min_by(|a, b| {
                    let distance = |point: &Point| (rate(point) - capacity.rate_per_s).abs();
                    distance(a).total_cmp(&distance(b))
                })
            }),
        None => valid().next_back(),
    }
    .or_else(|| curve.last().copied())
}

impl View<'_> {
    fn missing_curve(&self, title: &str) -> Section {
        let missing = Block::Missing {
            what: "loads at fixed rates, in an open loop.".into(),
            command: command(self.evidence, "sweep", "--rates 10k..200k"),
        };
        section(title, vec![missing])
    }
}

fn section(title: &str, blocks: Vec<Block>) -> Section {
    Section {
        title: title.into(),
        blocks,
    }
}

fn plot(name: &'static str, svg: String, caption: &str) -> Block {
    Block::Plot {
        name,
        svg,
        caption: caption.into(),
    }
}

/// Calls per second.
fn rate(per_s: f64) -> String {
    format!("{} calls/s", format_per_s(per_s))
}
