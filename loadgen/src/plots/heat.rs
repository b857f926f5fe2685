//! Latency over time: how many calls took how long, and when.

use hdrhistogram::Histogram;
use plotters::prelude::*;

use super::axis::{Axis, Quantity};
use super::figure::{
    Area, Drawn, HEIGHT_PX, LABEL_SIZE, MARGIN_PX, TITLE_PX, WIDTH_PX, draw, draw_text, font,
};

/// The calls of an interval.
#[derive(Clone, Copy, Debug)]
pub struct HeatColumn<'a> {
    /// Its beginning, since that of the run.
    pub start_s: f64,
    /// Its end.
    pub end_s: f64,
    /// Response times in nanoseconds.
    pub values_ns: &'a Histogram<u64>,
}

/// A map of time and latency; dark is many calls. Shades are logarithmic: one slow call among ten
/// thousand is seen.
pub fn heat_map(columns: &[HeatColumn<'_>]) -> String {
    draw("Response time over time", HEIGHT_PX, |area| {
        map(area, columns)
    })
}

fn map(area: &Area<'_>, columns: &[HeatColumn<'_>]) -> Drawn {
    let filled = || columns.iter().filter(|column| !column.values_ns.is_empty());
    let y = Axis::log(
        "Response time (log scale)",
        Quantity::TimeNs,
        filled().flat_map(|column| [column.values_ns.min() as f64, column.values_ns.max() as f64]),
    );
    let x = Axis::linear(
        "Time (s)",
        Quantity::Number,
        columns.iter().map(|column| column.end_s),
    );
    let x = Axis {
        high: columns
            .iter()
            .map(|column| column.end_s)
            .fold(1e-3, f64::max),
        ..x
    };
    let rows = rows(&y);
    let counts: Vec<Vec<u64>> = columns
        .iter()
        .map(|column| {
            let count = |row: &(f64, f64)| {
                let (low, high) = (row.0.ceil() as u64, row.1.ceil() as u64 - 1);
                column.values_ns.count_between(low, high.max(low))
            };
            rows.iter().map(count).collect()
        })
        .collect();
    let most = counts.iter().flatten().copied().max().unwrap_or(0).max(2);
    draw_scale(area, most)?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(TITLE_PX + 34)
        .margin_right(MARGIN_PX)
        .margin_bottom(8)
        .margin_left(6)
        .x_label_area_size(46)
        .y_label_area_size(74)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(&x.label)
        .y_desc(&y.label)
        .label_style(font(LABEL_SIZE))
        .axis_desc_style(font(LABEL_SIZE))
        .draw()?;
    for (column, counts) in columns.iter().zip(&counts) {
        let cells = rows.iter().zip(counts).filter(|(_, count)| **count > 0);
        chart.draw_series(cells.map(|((low, high), count)| {
            let corners = [(column.start_s, *low), (column.end_s.min(x.high), *high)];
            Rectangle::new(corners, shade(*count, most).filled())
        }))?;
    }
    Ok(())
}

/// Ranges of latency, from low to high.
fn rows(axis: &Axis) -> Vec<(f64, f64)> {
    let edges = |row: u32| axis.low * (axis.high / axis.low).powf(f64::from(row) / f64::from(ROWS));
    (0..ROWS).map(|row| (edges(row), edges(row + 1))).collect()
}

/// From pale to dark, evenly in brightness: it reads the same in greyscale.
fn shade(count: u64, most: u64) -> RGBColor {
    let share = ((count as f64).ln_1p() / (most as f64).ln_1p()).clamp(0.0, 1.0);
    let between = |pale: f64, dark: f64| (pale + (dark - pale) * share) as u8;
    RGBColor(
        between(222.0, 8.0),
        between(235.0, 29.0),
        between(247.0, 88.0),
    )
}

/// The legend: what the shades mean.
fn draw_scale(area: &Area<'_>, most: u64) -> Drawn {
    let y = TITLE_PX + 12;
    draw_text(area, "calls in a cell: 1", (16, y))?;
    let (left, width) = (140, 160);
    for step in 0..width {
        let count = (most as f64).powf(f64::from(step) / f64::from(width));
        let corners = [(left + step, y - 7), (left + step + 1, y + 7)];
        area.draw(&Rectangle::new(corners, shade(count as u64, most).filled()))?;
    }
    draw_text(area, &most.to_string(), (left + width + 6, y))?;
    draw_text(area, "white: none", (WIDTH_PX as i32 / 2 + 20, y))
}

const ROWS: u32 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_calls_are_drawn_and_empty_ones_are_not() {
        let mut values_ns = Histogram::<u64>::new(3).unwrap();
        values_ns.record_n(50_000, 1000).unwrap();
        values_ns.record(5_000_000).unwrap();
        let empty = Histogram::<u64>::new(3).unwrap();
        let column = |at: u32, values_ns| HeatColumn {
            start_s: f64::from(at),
            end_s: f64::from(at) + 1.0,
            values_ns,
        };
        let columns = [column(0, &values_ns), column(1, &empty)];
        let count = |svg: &str| svg.matches("<rect").count();
        let with = count(&heat_map(&columns));
        let without = count(&heat_map(&[column(0, &empty), column(1, &empty)]));
        assert_eq!(with, without + 2);
    }

    #[test]
    fn every_latency_lies_in_one_row() {
        let axis = Axis::log("", Quantity::TimeNs, [1e3, 1e9]);
        let rows = rows(&axis);
        assert!(
            rows.windows(2)
                .all(|pair| (pair[0].1 - pair[1].0).abs() < 1e-6 * pair[0].1)
        );
        assert!(rows[0].0 <= 1e3 && rows[rows.len() - 1].1 >= 1e9);
    }
}
