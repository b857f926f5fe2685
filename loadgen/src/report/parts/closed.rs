//! What closed loops have shown.

use super::{View, section};
use crate::report::document::{Block, Section, Table};
use crate::report::evidence::Point;
use crate::results::LoopKind;
use crate::units::{format_count, format_ns, or_dash};

impl View<'_> {
    /// The loads whose callers wait for their answers; `None` when there were none.
    pub(super) fn closed_loops(&self) -> Option<Section> {
        let is_closed = |point: &&Point| point.summary.loop_kind == LoopKind::Closed;
        let mut points: Vec<&Point> = self.evidence.points.iter().filter(is_closed).collect();
        points.sort_by_key(|point| (point.row.shards, point.row.conns, point.row.depth));
        if points.is_empty() {
            return None;
        }
        let head = [
            "load",
            "shards",
            "connections",
            "in flight on each",
            "calls/s",
            "p50",
            "p99",
            "p99.9",
            "server CPU per call",
            "valid",
        ];
        let blocks = vec![
            Block::Text(
                "Each caller waits for its answer before it calls again: a slow server is asked less \
                 often. So these latencies are not what callers see who don't wait for each other; \
                 the rates say what the server does at most."
                    .into(),
            ),
            Block::Table(Table::new(&head, points.into_iter().map(row))),
        ];
        Some(section("Closed loops", blocks))
    }
}

fn row(point: &Point) -> Vec<String> {
    let summary = &point.summary;
    let response = &summary.latency.response;
    let shards = point.row.shards;
    let cpu = summary.server.map(|server| server.cpu_us_per_call * 1e3);
    vec![
        summary.label.clone(),
        or_dash(shards, |shards| shards.to_string()),
        point.row.conns.to_string(),
        point.row.depth.to_string(),
        format_count(summary.achieved_per_s.round() as u64),
        response.show(50.0),
        response.show(99.0),
        response.show(99.9),
        or_dash(cpu, format_ns),
        if summary.validity.is_valid {
            "yes"
        } else {
            "no"
        }
        .to_owned(),
    ]
}
