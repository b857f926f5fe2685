//! The same results as a page with pictures, kept in a file.

use std::io::{self, Write};
use std::path::PathBuf;

use super::plan::Step;
use super::report::{Measured, Report};
use super::table::{HEADS, cells};
use crate::plots::{SpectrumLine, spectrum};
use crate::report::document::{Block, Document, Section, Table};
use crate::report::html;
use crate::results::Kind;
use crate::units::{format_ns, format_per_s};

/// A page with the distribution of latency on each transport, and the table.
pub(super) fn page(report: &Report, steps: &[Step], measured: &Measured) -> Document {
    let pictures =
        ["tcp", "unix"].map(|transport| distribution(transport, report, steps, measured));
    let facts = report.remarks().into_iter();
    let facts = facts.map(|(name, text)| (name.to_owned(), text));
    let found = vec![
        Block::Headline(headline(report)),
        Block::Table(table(report)),
    ];
    let section = |title: &str, blocks| Section {
        title: title.into(),
        blocks,
    };
    Document {
        title: "Demonstration of ringcall".into(),
        subtitle: format!(
            "Echo of {} bytes, one server shard, engine {}",
            report.payload_bytes, report.engine
        ),
        sections: vec![
            section("What was found", found),
            section("Latency, call by call", pictures.into()),
            section(
                "What the words mean, and what to know of this machine",
                vec![Block::Facts(facts.collect())],
            ),
        ],
    }
}

/// What the valid rows say, in a sentence.
fn headline(report: &Report) -> String {
    let valid = || report.rows.iter().filter(|row| row.is_valid);
    let closed = valid().filter(|row| row.offered_per_s.is_none());
    let most = closed.max_by(|a, b| a.calls_per_s.total_cmp(&b.calls_per_s));
    let most = most.map(|row| {
        format!(
            "One CPU of the server answers {} calls a second over {}",
            format_per_s(row.calls_per_s),
            row.transport
        )
    });
    let open = valid().find_map(|row| Some((row, row.offered_per_s?)));
    let open = open.map(|(row, offered_per_s)| {
        format!(
            "{} calls a second of independent callers over {} are answered within {}, 99 of 100 within {}",
            format_per_s(offered_per_s),
            row.transport,
            format_ns(row.p50_us * 1e3),
            format_ns(row.p99_us * 1e3)
        )
    });
    match (most, open) {
        (None, None) => "No row of the table is a measurement; the notes below say why.".into(),
        (most, open) => {
            let parts: Vec<String> = most.into_iter().chain(open).collect();
            parts.join("; ") + "."
        }
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

/// The same as on the terminal.
fn table(report: &Report) -> Table {
    Table::new(&HEADS, report.rows.iter().map(|row| cells(row).into()))
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
