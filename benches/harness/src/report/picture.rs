//! The summary as a picture: rates and CPU times of all peers, over TCP.

use loadgen::environment::to_the_second;
use loadgen::plots::{Dot, DotPanel, dots};
use loadgen::units::{format_rate, several, significant};

use super::peers::is_telling;
use super::row::{Interval, Row};
use super::{Intervals, Report};
use crate::point::Bytes;
use crate::servers::process::Transport;

/// Draws it; `None` when nothing of it was measured.
pub(super) fn draw(report: &Report) -> Option<String> {
    let is_shown = |row: &&Row| is_telling(&row.subject) && row.subject.transport == Transport::Tcp;
    let rows: Vec<&Row> = report.cells.iter().filter(is_shown).collect();
    let subject = &rows.first()?.subject;
    let (workload, transport) = (subject.workload, subject.transport);
    let size = Bytes(subject.payload_bytes);
    let runs = report.method.runs;
    let figures = match report.method.intervals {
        Intervals::Confidence => format!("medians of {runs} runs with 95 % confidence"),
        Intervals::Range => format!("medians and range of {runs} runs"),
        Intervals::None => "a single run".to_owned(),
    };
    let environment = &report.environment;
    let machine = environment.machine.cpu_model.as_deref();
    let title = format!("{workload} of {size} over {transport}, logarithmic axes");
    let about = format!(
        "{figures}; {}, {}",
        to_the_second(&environment.started_utc),
        machine.unwrap_or("CPU of unknown model")
    );
    let cell = |row: &Row| (row.subject.conns, row.subject.depth);
    let panels: Vec<_> = rows
        .chunk_by(|a, b| cell(a) == cell(b))
        .map(panels)
        .collect();
    Some(dots(&title, &about, &GROUPS, &panels))
}

/// Rates and CPU times of all peers in one cell.
fn panels(rows: &[&Row]) -> [DotPanel; 2] {
    let (connections, depth) = (
        several(rows[0].subject.conns, "connection"),
        rows[0].subject.depth,
    );
    let panel =
        |title: String, figure: fn(&Row) -> (f64, Option<Interval>), show: fn(f64) -> String| {
            let dot = |row: &&Row| {
                let (value, interval) = figure(row);
                let peer = &row.subject.peer;
                Dot {
                    name: format!("{peer}: {}", show(value)),
                    value,
                    interval,
                    group: group(peer),
                }
            };
            DotPanel {
                title,
                dots: rows.iter().map(dot).collect(),
            }
        };
    [
        panel(
            format!("{connections} × {depth} in flight: calls/s, more is better"),
            |row| (row.figures.calls_per_s, row.figures.calls_per_s_interval),
            format_rate,
        ),
        panel(
            "server CPU, µs per call, less is better".into(),
            |row| {
                let interval = row.figures.server_cpu_us_per_call_interval;
                (row.figures.server_cpu_us_per_call, interval)
            },
            significant,
        ),
    ]
}

/// ringcall stands out against the limit and against all others.
const GROUPS: [&str; 3] = ["ringcall", "raw: bytes echoed unread", "others"];

fn group(peer: &str) -> usize {
    let begins = |name| peer.starts_with(name);
    ["ringcall", "raw"]
        .into_iter()
        .position(begins)
        .unwrap_or(2)
}
