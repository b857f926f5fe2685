//! The results as a table, for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, TableComponent, presets};

use super::report::{Report, Row};
use crate::units::{format_count, format_per_s, or_dash};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.payload_bytes;
        writeln!(
            f,
            "Echo of {bytes} bytes, one server shard; latency in µs\n"
        )?;
        for line in table(&self.rows).lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        for (name, text) in self.remarks() {
            write_wrapped(f, name, &text)?;
        }
        Ok(())
    }
}

impl Report {
    /// What stands below the table.
    pub(super) fn remarks(&self) -> Vec<(&'static str, String)> {
        let features = self.engine_features.join(", ");
        let mut remarks = vec![
            (
                "read in place",
                format!("{:.2} % of the requests", self.in_place_ratio * 100.0),
            ),
            (
                "engine",
                match features.as_str() {
                    "" => self.engine.clone(),
                    _ => format!("{}: {features}", self.engine),
                },
            ),
            (
                "CPUs",
                match (self.server_cpu, self.client_cpu) {
                    (Some(server), Some(client)) => format!("server on {server}, load on {client}"),
                    _ => "not pinned".into(),
                },
            ),
            ("closed loop", CLOSED_LOOP.into()),
            ("open loop", OPEN_LOOP.into()),
            ("server CPU", SERVER_CPU.into()),
            (
                "warm-up",
                format!("{} s before each row, not counted", self.warm_up_s),
            ),
        ];
        if self.rows.iter().any(|row| !row.is_firm(0.999)) {
            remarks.push((
                "~",
                "fewer than 100 calls lie beyond this percentile".into(),
            ));
        }
        remarks.extend(self.notes.iter().map(|note| ("note", note.clone())));
        remarks
    }
}

/// Writes a name, and a text beside it that is broken between words.
fn write_wrapped(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    write!(f, "{name:<NAME_COLUMNS$}")?;
    let mut column = NAME_COLUMNS;
    for word in text.split(' ') {
        let columns = word.chars().count() + 1;
        if column + columns > COLUMNS && column > NAME_COLUMNS {
            write!(f, "\n{:NAME_COLUMNS$}", "")?;
            column = NAME_COLUMNS;
        }
        write!(f, " {word}")?;
        column += columns;
    }
    writeln!(f)
}

/// Columns of the names below the table, and of whole lines, which are as long as the table is.
const NAME_COLUMNS: usize = 14;
const COLUMNS: usize = 104;

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.remove_style(TableComponent::VerticalLines);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(HEADS.map(|head| head.replace("CPU µs", "CPU\nµs")));
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The columns of the table; latency is in µs.
pub(super) const HEADS: [&str; 10] = [
    "transport",
    "load",
    "conns",
    "depth",
    "calls/s",
    "p50",
    "p99",
    "p99.9",
    "errors",
    "server CPU µs/call",
];

/// A row of the table, with its marks.
pub(super) fn cells(row: &Row) -> [String; HEADS.len()] {
    [
        row.transport.to_owned(),
        match row.is_valid {
            true => row.mode_in_words.clone(),
            false => format!("{}: INVALID", row.mode_in_words),
        },
        row.conns.to_string(),
        match row.offered_per_s {
            Some(_) => format!("≤ {}", row.depth),
            None => row.depth.to_string(),
        },
        format_per_s(row.calls_per_s),
        latency(row, 0.5, row.p50_us),
        latency(row, 0.99, row.p99_us),
        latency(row, 0.999, row.p999_us),
        row.errors.to_string(),
        or_dash(row.server_cpu_us_per_call, |cost| format!("{cost:.2}")),
    ]
}

fn latency(row: &Row, quantile: f64, us: f64) -> String {
    let mark = if row.is_firm(quantile) { "" } else { "~" };
    if us < 100.0 {
        format!("{mark}{us:.1}")
    } else {
        format!("{mark}{}", format_count(us.round() as u64))
    }
}

const CLOSED_LOOP: &str = "each caller waits for its answer before it calls again; latency is service time, from the actual call";
const SERVER_CPU: &str = "includes looking for work: an idle shard does so for 50 µs before it sleeps, which is most of it at low rates";
const OPEN_LOOP: &str = "calls come at fixed random times, answered or not; latency is response time, from the intended call";
