//! The summary as a picture: a dot for each peer, with its interval, on logarithmic axes.
//!
//! Peers differ by a factor of fifty, so on a linear axis the best could not be told apart. Dots
//! instead of bars: on a logarithmic axis the length of a bar means nothing.

use std::error::Error;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::peers::is_telling;
use super::row::{Interval, Row};
use super::table::{rate, several, significant};
use super::{Intervals, Report};
use crate::point::Bytes;
use crate::servers::process::Transport;

/// Draws rates and CPU times of all peers, over TCP.
pub(super) fn draw(report: &Report, path: &Path) -> io::Result<()> {
    let rows: Vec<&Row> = report
        .cells
        .iter()
        .filter(|row| is_telling(&row.subject) && row.subject.transport == Transport::Tcp)
        .collect();
    let cell = |row: &Row| (row.subject.conns, row.subject.depth);
    let panels: Vec<&[&Row]> = rows.chunk_by(|a, b| cell(a) == cell(b)).collect();
    if panels.is_empty() {
        return Ok(());
    }
    draw_panels(report, &panels, path).map_err(io::Error::other)
}

type Failure = Box<dyn Error + Send + Sync>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_panels(report: &Report, panels: &[&[&Row]], path: &Path) -> Result<(), Failure> {
    let height = |rows: &[&Row]| TITLE + rows.len() as u32 * LINE + AXIS + GAP;
    let heights = panels.iter().map(|rows| height(rows)).sum::<u32>();
    let area = SVGBackend::new(path, (2 * PANEL, HEADER + heights)).into_drawing_area();
    area.fill(&WHITE)?;
    let (header, mut rest) = area.split_vertically(HEADER);
    draw_header(&header, report, panels[0][0])?;
    for rows in panels {
        let (panel, below) = rest.split_vertically(height(rows));
        rest = below;
        let (left, right) = panel.split_horizontally(PANEL);
        let (conns, depth) = (rows[0].subject.conns, rows[0].subject.depth);
        let connections = several(conns, "connection");
        Dots {
            title: format!("{connections} × {depth} in flight: calls/s, more is better"),
            value: |row| (row.figures.calls_per_s, row.figures.calls_per_s_interval),
            show: rate,
        }
        .draw(&left, rows)?;
        Dots {
            title: "server CPU, µs per call, less is better".into(),
            value: |row| {
                let interval = row.figures.server_cpu_us_per_call_interval;
                (row.figures.server_cpu_us_per_call, interval)
            },
            show: significant,
        }
        .draw(&right, rows)?;
    }
    Ok(area.present()?)
}

/// What is shown, of when, and what colours mean.
fn draw_header(area: &Area<'_>, report: &Report, first: &Row) -> Result<(), Failure> {
    let subject = &first.subject;
    let (workload, transport) = (subject.workload, subject.transport);
    let size = Bytes(subject.payload_bytes);
    let title = format!("{workload} of {size} over {transport}, logarithmic axes");
    write_text(area, title, (MARGIN, 20), FontStyle::Bold, &BLACK)?;
    let environment = &report.environment;
    let runs = report.method.runs;
    let figures = match report.method.intervals {
        Intervals::Confidence => format!("medians of {runs} runs with 95 % confidence"),
        Intervals::Range => format!("medians and range of {runs} runs"),
        Intervals::None => "a single run".to_owned(),
    };
    let date = environment.measured_at.split('T').next().unwrap_or("");
    let (cpu_model, kernel) = (&environment.cpu_model, &environment.kernel);
    let about = format!("{figures}; {date}, {cpu_model}, Linux {kernel}");
    write_text(area, about, (MARGIN, 42), FontStyle::Normal, &GREY)?;
    for (number, (colour, meaning)) in LEGEND.into_iter().enumerate() {
        let x = MARGIN + 5 + number as i32 * LEGEND_WIDTH;
        area.draw(&Circle::new((x, 64), DOT, colour.filled()))?;
        write_text(
            area,
            meaning.into(),
            (x + 12, 64),
            FontStyle::Normal,
            &BLACK,
        )?;
    }
    Ok(())
}

/// One figure of several peers.
struct Dots {
    title: String,
    value: fn(&Row) -> (f64, Option<Interval>),
    show: fn(f64) -> String,
}

impl Dots {
    fn draw(&self, area: &Area<'_>, rows: &[&Row]) -> Result<(), Failure> {
        let at = (MARGIN, TITLE as i32 / 2);
        write_text(area, self.title.clone(), at, FontStyle::Bold, &BLACK)?;
        let values = rows.iter().map(|row| (self.value)(row));
        let bounds = values.map(|(value, interval)| interval.unwrap_or((value, value)));
        let axis = Axis::around(bounds);
        axis.draw(area, rows.len() as u32)?;
        for (number, row) in rows.iter().enumerate() {
            let y = (TITLE + number as u32 * LINE + LINE / 2) as i32;
            let (value, interval) = (self.value)(row);
            let (low, high) = interval.unwrap_or((value, value));
            let peer = row.subject.peer.clone();
            let colour = colour(&peer);
            write_text(area, peer, (MARGIN, y), FontStyle::Normal, &BLACK)?;
            let line = |from, to| PathElement::new([from, to], colour.stroke_width(2));
            let (left, right) = (axis.x(low), axis.x(high));
            area.draw(&line((left, y), (right, y)))?;
            area.draw(&line((left, y - CAP), (left, y + CAP)))?;
            area.draw(&line((right, y - CAP), (right, y + CAP)))?;
            area.draw(&Circle::new((axis.x(value), y), DOT, colour.filled()))?;
            let at = (right + 10, y);
            write_text(area, (self.show)(value), at, FontStyle::Normal, &BLACK)?;
        }
        Ok(())
    }
}

/// A logarithmic axis over whole decades.
struct Axis {
    first_decade: i32,
    last_decade: i32,
}

impl Axis {
    fn around(bounds: impl Iterator<Item = Interval>) -> Self {
        let (low, high) = bounds.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), bounds| {
            (low.min(bounds.0), high.max(bounds.1))
        });
        let first_decade = low.max(SMALLEST).log10().floor() as i32;
        Self {
            first_decade,
            last_decade: (high.log10().ceil() as i32).max(first_decade + 1),
        }
    }

    fn x(&self, value: f64) -> i32 {
        let decades = f64::from(self.last_decade - self.first_decade);
        let from_first = value.max(SMALLEST).log10() - f64::from(self.first_decade);
        AXIS_AT + (from_first / decades * f64::from(AXIS_LEN)) as i32
    }

    /// A line for each decade, and what it stands for.
    fn draw(&self, area: &Area<'_>, lines: u32) -> Result<(), Failure> {
        let bottom = (TITLE + lines * LINE) as i32;
        for decade in self.first_decade..=self.last_decade {
            let x = self.x(10_f64.powi(decade));
            let ends = [(x, TITLE as i32), (x, bottom)];
            area.draw(&PathElement::new(ends, PALE.stroke_width(1)))?;
            let at = (x - 6, bottom + AXIS as i32 / 2);
            write_text(area, power_of_ten(decade), at, FontStyle::Normal, &GREY)?;
        }
        Ok(())
    }
}

fn power_of_ten(decade: i32) -> String {
    let value = 10_f64.powi(decade);
    match decade {
        ..0 => format!("{value:.*}", decade.unsigned_abs() as usize),
        0..3 => format!("{value}"),
        3..6 => format!("{} k", value / 1e3),
        6.. => format!("{} M", value / 1e6),
    }
}

fn write_text(
    area: &Area<'_>,
    text: String,
    at: (i32, i32),
    weight: FontStyle,
    colour: &RGBColor,
) -> Result<(), Failure> {
    let style = ("sans-serif", TEXT, weight).into_font().color(colour);
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    Ok(area.draw(&Text::new(text, at, style))?)
}

/// ringcall stands out against the limit and against all others.
fn colour(peer: &str) -> RGBColor {
    let [ringcall, limit, others] = LEGEND.map(|(colour, _)| colour);
    if peer.starts_with("ringcall") {
        ringcall
    } else if peer.starts_with("raw") {
        limit
    } else {
        others
    }
}

const LEGEND: [(RGBColor, &str); 3] = [
    (RGBColor(0x1f, 0x6f, 0xb5), "ringcall"),
    (RGBColor(0xd9, 0x8c, 0x1f), "raw: bytes echoed unread"),
    (RGBColor(0x70, 0x70, 0x70), "others"),
];
const GREY: RGBColor = RGBColor(0x60, 0x60, 0x60);
const PALE: RGBColor = RGBColor(0xd8, 0xd8, 0xd8);

/// Zero has no logarithm; nothing that is measured is below this.
const SMALLEST: f64 = 1e-6;

/// Pixels.
const PANEL: u32 = 540;
const HEADER: u32 = 84;
const TITLE: u32 = 34;
const LINE: u32 = 22;
const AXIS: u32 = 20;
const GAP: u32 = 14;
const TEXT: u32 = 15;
const MARGIN: i32 = 12;
const AXIS_AT: i32 = 130;
const AXIS_LEN: i32 = 320;
const LEGEND_WIDTH: i32 = 230;
const DOT: i32 = 5;
const CAP: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_spans_whole_decades() {
        let axis = Axis::around([(0.38, 0.5), (14.0, 16.0)].into_iter());
        assert_eq!((axis.first_decade, axis.last_decade), (-1, 2));
        assert_eq!((axis.x(0.1), axis.x(100.0)), (AXIS_AT, AXIS_AT + AXIS_LEN));
        // A single value at a decade still has an axis to lie on.
        let axis = Axis::around([(10.0, 10.0)].into_iter());
        assert_eq!((axis.first_decade, axis.last_decade), (1, 2));
    }

    #[test]
    fn decades_are_short() {
        let decades = [-2, 0, 2, 3, 5, 6].map(power_of_ten);
        assert_eq!(decades, ["0.01", "1", "100", "1 k", "100 k", "1 M"]);
    }
}
