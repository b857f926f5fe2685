//! Several curves of one percentile over each other.

use super::axis::{Axis, Quantity};
use super::figure::{
    BLUE, Dash, Figure, GREEN, GREY, HEIGHT_PX, Marker, ORANGE, PURPLE, Point, Series,
};
use super::load::{Objective, marked, through_medians};
use crate::analysis::Estimate;

/// The loads of one study.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayCurve {
    /// Whose they are.
    pub name: String,
    /// Calls per second that were offered, and the percentile with its bounds, in nanoseconds. Only valid
    /// loads belong here.
    pub points: Vec<(f64, Estimate)>,
}

/// Offered rate against a percentile on a logarithmic scale, for each study.
pub fn overlay(percentile: &str, curves: &[OverlayCurve], objective: Option<&Objective>) -> String {
    let looks = [
        (Dash::Solid, Marker::Circle, BLUE),
        (Dash::Long, Marker::Square, ORANGE),
        (Dash::Short, Marker::Triangle, PURPLE),
        (Dash::Solid, Marker::Square, GREEN),
        (Dash::Long, Marker::Triangle, GREY),
    ];
    let mut series: Vec<Series> = Vec::new();
    for (curve, (dash, marker, colour)) in curves.iter().zip(looks.into_iter().cycle()) {
        let points = curve.points.iter().map(|(rate_per_s, estimate)| Point {
            bounds: Some((estimate.lower, estimate.upper)),
            ..Point::new(*rate_per_s, estimate.value)
        });
        let points: Vec<Point> = points.collect();
        series.push(through_medians("", dash, colour, points.iter().copied()));
        series.push(marked(&curve.name, marker, colour, points));
    }
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let bounds = points().flat_map(|(_, estimate)| [estimate.lower, estimate.upper]);
    let limit_ns = objective.map(|objective| objective.limit_ns);
    let label = format!("{percentile} response time (log scale)");
    Figure {
        title: format!("{percentile} against offered rate"),
        x: Axis::log(
            "Offered rate (calls/s, log scale)",
            Quantity::Rate,
            points().map(|(rate_per_s, _)| *rate_per_s),
        ),
        y: Axis::log(&label, Quantity::TimeNs, bounds.chain(limit_ns)),
        series,
        rules: objective.map(Objective::rule).into_iter().collect(),
        height_px: HEIGHT_PX,
    }
    .render()
}

/// The loads of one side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlaySide {
    /// Its name.
    pub name: String,
    /// The place of each load in the order of measurement, its p99 with bounds in nanoseconds, and whether
    /// it is a measurement.
    pub loads: Vec<(u32, Estimate, bool)>,
}

/// The p99 of each load of both sides of a comparison, in the order of measurement.
pub fn sides(sides: &[OverlaySide]) -> String {
    let looks = [(Marker::Circle, BLUE), (Marker::Square, ORANGE)];
    let series = sides.iter().zip(looks).map(|(side, (marker, colour))| {
        let points = side.loads.iter().map(|(number, p99, is_valid)| Point {
            bounds: Some((p99.lower, p99.upper)),
            is_hollow: !is_valid,
            ..Point::new(f64::from(*number), p99.value)
        });
        marked(&side.name, marker, colour, points.collect())
    });
    let loads = || sides.iter().flat_map(|side| &side.loads);
    let numbers = loads().map(|(number, ..)| f64::from(*number));
    let bounds = loads().flat_map(|(_, p99, _)| [p99.lower, p99.upper]);
    Figure {
        title: "p99 of each load of A and B".into(),
        x: Axis::linear("Load", Quantity::Number, numbers),
        y: Axis::log("p99 response time (log scale)", Quantity::TimeNs, bounds),
        series: series.collect(),
        rules: Vec::new(),
        height_px: HEIGHT_PX,
    }
    .render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_curve_is_named() {
        let curve = |name: &str, ns: f64| OverlayCurve {
            name: name.into(),
            points: vec![(
                1000.0,
                Estimate {
                    value: ns,
                    lower: ns,
                    upper: ns,
                },
            )],
        };
        let svg = overlay("p99", &[curve("one", 1e6), curve("two", 2e6)], None);
        assert!(svg.contains("one: 1.00 ms at 1 000 calls/s"), "{svg}");
        assert!(svg.contains("two"));
        assert!(overlay("p99", &[], None).starts_with("<svg"));
        assert!(sides(&[]).starts_with("<svg"));
    }
}
