//! The loads of a search, one after the other.

use super::axis::{Axis, Quantity};
use super::figure::{
    BLUE, Dash, Figure, GREEN, GREY, HEIGHT_PX, Marker, ORANGE, Point, Rule, Series,
};
use super::load::marked;

/// A load of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimelineLoad {
    /// Calls per second that were to be offered.
    pub rate_per_s: f64,
    /// What it showed.
    pub outcome: TimelineOutcome,
}

/// What a load of a search has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineOutcome {
    /// The objective was met.
    Passed,
    /// It was not.
    Failed,
    /// It may or may not have been.
    Unsure,
    /// It was no measurement of the server.
    Unmeasured,
}

/// The rate of each load in the order of the loads, and the answer.
pub fn timeline(loads: &[TimelineLoad], answer_per_s: Option<f64>) -> String {
    let looks = [
        (TimelineOutcome::Passed, "passed", Marker::Circle, GREEN),
        (TimelineOutcome::Failed, "failed", Marker::Square, ORANGE),
        (TimelineOutcome::Unsure, "unsure", Marker::Triangle, BLUE),
        (
            TimelineOutcome::Unmeasured,
            "hollow: says nothing of the server",
            Marker::Circle,
            GREY,
        ),
    ];
    let series = looks.into_iter().map(|(outcome, name, marker, colour)| {
        let numbered = loads.iter().enumerate();
        let points = numbered.filter(|(_, load)| load.outcome == outcome);
        let point = |(at, load): (usize, &TimelineLoad)| Point {
            is_hollow: outcome == TimelineOutcome::Unmeasured,
            ..Point::new(at as f64 + 1.0, load.rate_per_s)
        };
        marked(name, marker, colour, points.map(point).collect())
    });
    let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
    let rates = loads.iter().map(|load| load.rate_per_s);
    Figure {
        title: "The search, load by load".into(),
        x: Axis::linear("Load", Quantity::Number, [loads.len() as f64]),
        y: Axis::log("Rate (calls/s, log scale)", Quantity::Rate, rates),
        series,
        rules: answer_per_s
            .map(|at| Rule {
                at,
                is_vertical: false,
                text: "the answer".into(),
                dash: Dash::Long,
            })
            .into_iter()
            .collect(),
        height_px: HEIGHT_PX,
    }
    .render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_named_that_occurs() {
        let load = |rate_per_s, outcome| TimelineLoad {
            rate_per_s,
            outcome,
        };
        let loads = [
            load(1000.0, TimelineOutcome::Passed),
            load(2000.0, TimelineOutcome::Failed),
            load(2000.0, TimelineOutcome::Unmeasured),
        ];
        let svg = timeline(&loads, Some(1000.0));
        for text in ["passed", "failed", "hollow", "the answer"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("unsure") && !svg.contains("NaN"));
        assert!(timeline(&[], None).starts_with("<svg"));
    }
}
