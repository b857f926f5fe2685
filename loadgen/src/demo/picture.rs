//! The same results as a page with pictures, kept in a file.

use std::io::{self, Write};
use std::path::PathBuf;

use super::plan::Step;
use super::report::{Measured, Report};
use crate::plots::{SpectrumLine, spectrum};
use crate::report::document::{Block, Document, Section, Table};
use crate::report::html;
use crate::results::Kind;
use crate::units::or_dash;

/// A page with the distribution of latency on each transport, and the table.
pub(super) fn page(report: &Report, steps: &[Step], measured: &Measured) -> Document {
    let mut blocks: Vec<Block> = ["tcp", "unix"]
        .into_iter()
        .map(|transport| distribution(transport, report, steps, measured))
        .collect();
    blocks.push(Block::Table(table(report)));
    Document {
        title: "Demonstration of ringcall".into(),
        subtitle: format!(
            "Echo of {} bytes, one server shard, engine {}",
            report.payload_bytes, report.engine
        ),
        sections: vec![Section {
            title: "Latency".into(),
            blocks,
        }],
    }
}

fn distribution(
    transport: &'static str,
    report: &Report,
    steps: &[Step],
    measured: &Measured,
) -> Block {
    let totals: Vec<_> = steps
        .iter()
        .zip(&report.rows)
        .zip(&measured.outcomes)
        .filter(|((step, _), _)| step.transport.name() == transport)
        .map(|((_, row), outcome)| (row, outcome.record.total()))
        .collect();
    let lines: Vec<_> = totals
        .iter()
        .map(|(row, total)| SpectrumLine {
            name: &row.mode_in_words,
            values_ns: total.times.of(Kind::Response),
        })
        .collect();
    Block::Plot {
        name: transport,
        svg: spectrum(&format!("Latency over {transport}"), &lines),
        caption: "Closed loops: from the actual call; open loop: from the time at which the call was due. \
                  Each line ends where fewer than 100 calls lie beyond."
            .into(),
    }
}

fn table(report: &Report) -> Table {
    let head = [
        "load",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "errors",
        "server CPU µs/call",
    ];
    let row = |row: &super::report::Row| {
        vec![
            format!("{}, {}", row.transport, row.mode_in_words),
            format!("{:.0}", row.calls_per_s),
            format!("{:.1}", row.p50_us),
            format!("{:.1}", row.p99_us),
            format!("{:.1}", row.p999_us),
            row.errors.to_string(),
            or_dash(row.server_cpu_us_per_call, |cost| format!("{cost:.2}")),
        ]
    };
    Table::new(&head, report.rows.iter().map(row))
}

/// Writes the page to a file of its own, which stays.
///
/// # Errors
/// When there is nowhere to write to.
pub(super) fn keep(page: &Document) -> io::Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix("ringcall-demo-")
        .suffix(".html")
        .tempfile()?;
    file.write_all(html::render(page).as_bytes())?;
    Ok(file.into_temp_path().keep()?)
}
