//! The whole distribution of times, with room for its tail.

use hdrhistogram::Histogram;

use super::axis::{Axis, Quantity};
use super::figure::{BLUE, Dash, Figure, GREEN, HEIGHT_PX, ORANGE, Point};
use super::load::line;
use crate::analysis::bounds::TAIL_CALLS_MIN;

/// A distribution.
#[derive(Clone, Copy, Debug)]
pub struct SpectrumLine<'a> {
    /// What it is of.
    pub name: &'a str,
    /// Its values in nanoseconds.
    pub values_ns: &'a Histogram<u64>,
}

/// Percentiles on an axis of 1 ÷ (1 − p), up to where too few values lie beyond.
pub fn spectrum(title: &str, lines: &[SpectrumLine<'_>]) -> String {
    let looks = [
        (BLUE, Dash::Solid),
        (ORANGE, Dash::Long),
        (GREEN, Dash::Short),
    ];
    let series: Vec<_> = lines
        .iter()
        .zip(looks.into_iter().cycle())
        .map(|(of, (colour, dash))| line(of.name, dash, colour, points(of.values_ns)))
        .collect();
    let all = || series.iter().flat_map(|series| &series.points);
    let x = Axis {
        low: 1.0,
        ..Axis::log(
            "Percentile, on an axis of 1 ÷ (1 − p)",
            Quantity::Nines,
            all().map(|point| point.x),
        )
    };
    let y = Axis::log(
        "Time (log scale)",
        Quantity::TimeNs,
        all().map(|point| point.y),
    );
    Figure {
        title: title.to_owned(),
        x,
        y,
        series,
        rules: Vec::new(),
        height_px: HEIGHT_PX,
    }
    .render()
}

fn points(values_ns: &Histogram<u64>) -> Vec<Point> {
    let last = values_ns.len() as f64 / TAIL_CALLS_MIN;
    let steps = (0..).map(|step| 10f64.powf(f64::from(step) / STEPS_PER_DECADE));
    steps
        .take_while(|distance| *distance <= last)
        .map(|distance| {
            let ns = values_ns.value_at_quantile(1.0 - 1.0 / distance);
            Point::new(distance, ns.max(1) as f64)
        })
        .collect()
}

const STEPS_PER_DECADE: f64 = 24.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_ends_where_too_few_values_lie_beyond() {
        let mut values_ns = Histogram::new(3).unwrap();
        for value in 1..=100_000 {
            values_ns.record(value).unwrap();
        }
        let points = points(&values_ns);
        let last = points.last().unwrap();
        assert!((900.0..=1000.0 + 1e-6).contains(&last.x), "{last:?}");
        let median = points.iter().find(|point| point.x >= 2.0).unwrap();
        assert!((49_900.0..56_000.0).contains(&median.y), "{median:?}");
        let name = "response";
        let svg = spectrum(
            "t",
            &[SpectrumLine {
                name,
                values_ns: &values_ns,
            }],
        );
        assert!(svg.contains("99.9 %") && svg.contains(name) && !svg.contains("99.99 %"));
    }
}
