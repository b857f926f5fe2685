//! The loads of a comparison, side by side.

use super::{plot, section};
use crate::plots::{OverlaySide, sides as sides_plot};
use crate::report::document::{Block, Section, Table};
use crate::report::evidence::{Evidence, Point};
use crate::study::Side;
use crate::study::compare::is_usable;
use crate::units::{format_ns, format_per_s, or_dash};

/// Both sides in the order in which they were measured.
pub(in crate::report) fn sides(evidence: &Evidence) -> Section {
    let mut sides = [Side::A, Side::B].map(|side| OverlaySide {
        name: format!("{side:?}"),
        loads: Vec::new(),
    });
    for (number, point) in (1..).zip(&evidence.points) {
        let p99 = point.quantile(0.99);
        let is_usable = is_usable(&point.summary);
        if let Some(p99) = p99 {
            sides[point.side as usize]
                .loads
                .push((number, p99, is_usable));
        }
    }
    let head = [
        "point",
        "side",
        "offered/s",
        "answered/s",
        "mean",
        "p50",
        "p99",
        "p99.9",
        "CPU per call",
        "counts",
    ];
    let table = Table::new(&head, evidence.points.iter().map(row));
    let caption = "The p99 of each load, in the order of measurement. Whiskers: 95 % confidence. Hollow: no \
                   measurement, so its round is left out.";
    section(
        "The loads of both sides",
        vec![
            plot("sides", sides_plot(&sides), caption),
            Block::Folded {
                title: format!("All {} loads", table.rows.len()),
                table,
            },
        ],
    )
}

fn row(point: &Point) -> Vec<String> {
    let summary = &point.summary;
    let response = &summary.latency.response;
    vec![
        point.row.point.to_string(),
        format!("{:?}", point.side),
        format_per_s(summary.offered_per_s),
        format_per_s(summary.achieved_per_s),
        format_ns(response.mean_ns),
        response.show(50.0),
        response.show(99.0),
        response.show(99.9),
        or_dash(summary.server, |server| {
            format_ns(server.cpu_us_per_call * 1e3)
        }),
        if is_usable(summary) { "yes" } else { "no" }.into(),
    ]
}
