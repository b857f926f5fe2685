//! The summary as bars.

use std::io;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Report;
use super::peers::is_telling;
use super::row::Row;
use super::table::{rate, significant};
use crate::servers::process::Transport;

/// Draws rates and CPU times of all peers, over TCP.
pub(super) fn draw(report: &Report, path: &Path) -> io::Result<()> {
    let rows: Vec<&Row> = report
        .cells
        .iter()
        .filter(|row| is_telling(&row.subject) && row.subject.transport == Transport::Tcp)
        .collect();
    let panels: Vec<&[&Row]> = rows
        .chunk_by(|a, b| (a.subject.conns, a.subject.depth) == (b.subject.conns, b.subject.depth))
        .collect();
    if panels.is_empty() {
        return Ok(());
    }
    let peers = panels.iter().map(|rows| rows.len()).max().unwrap_or(0) as u32;
    let panel_height = TITLE + peers * BAR + GAP;
    let size = (2 * PANEL, panels.len() as u32 * panel_height);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE).map_err(io::Error::other)?;
    for (rows, panel) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
        let (left, right) = panel.split_horizontally(PANEL);
        let cell = format!(
            "{} × {} in flight",
            rows[0].subject.conns, rows[0].subject.depth
        );
        let rates = Bars {
            title: format!("{cell}: calls/s (longer is better)"),
            value: |row| row.calls_per_s,
            show: rate,
        };
        let cpu = Bars {
            title: "server CPU, µs per call (shorter is better)".into(),
            value: |row| row.server_cpu_us_per_call,
            show: significant,
        };
        rates.draw(&left, rows).map_err(io::Error::other)?;
        cpu.draw(&right, rows).map_err(io::Error::other)?;
    }
    area.present().map_err(io::Error::other)
}

/// One figure of several peers.
struct Bars {
    title: String,
    value: fn(&Row) -> f64,
    show: fn(f64) -> String,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Bars {
    fn draw(
        &self,
        area: &Area<'_>,
        rows: &[&Row],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let text = |weight| {
            ("sans-serif", TEXT, weight)
                .into_font()
                .color(&BLACK)
                .pos(Pos::new(HPos::Left, VPos::Center))
        };
        area.draw(&Text::new(
            self.title.clone(),
            (MARGIN, TITLE as i32 / 2),
            text(FontStyle::Bold),
        ))?;
        let longest = rows.iter().map(|row| (self.value)(row)).fold(0.0, f64::max);
        for (number, row) in rows.iter().enumerate() {
            let top = (TITLE + number as u32 * BAR) as i32;
            let middle = top + BAR as i32 / 2;
            let value = (self.value)(row);
            let end = BARS_AT + (value / longest * f64::from(BARS_LEN)) as i32;
            area.draw(&Text::new(
                row.subject.peer.clone(),
                (MARGIN, middle),
                text(FontStyle::Normal),
            ))?;
            area.draw(&Rectangle::new(
                [
                    (BARS_AT, top + 3),
                    (end.max(BARS_AT + 1), top + BAR as i32 - 3),
                ],
                colour(&row.subject.peer).filled(),
            ))?;
            area.draw(&Text::new(
                (self.show)(value),
                (end + 6, middle),
                text(FontStyle::Normal),
            ))?;
        }
        Ok(())
    }
}

/// ringcall stands out, the limit is pale, all others are grey.
fn colour(peer: &str) -> RGBColor {
    if peer.starts_with("ringcall") {
        RGBColor(0x1f, 0x6f, 0xb5)
    } else if peer.starts_with("raw") {
        RGBColor(0xb9, 0xd3, 0xea)
    } else {
        RGBColor(0xa0, 0xa0, 0xa0)
    }
}

/// Pixels.
const PANEL: u32 = 520;
const TITLE: u32 = 34;
const BAR: u32 = 24;
const GAP: u32 = 14;
const TEXT: u32 = 14;
const MARGIN: i32 = 12;
const BARS_AT: i32 = 125;
const BARS_LEN: i32 = 310;
