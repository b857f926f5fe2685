//! One load over its time: what was asked and answered, and how long that took.

use super::axis::{Axis, Quantity};
use super::figure::{BLUE, Dash, Figure, GREEN, GREY, ORANGE, PURPLE, Point, Rule, Series};
use super::load::{Objective, line};

/// A stretch of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimePoint {
    /// Its middle, in seconds since the beginning of the window.
    pub at_s: f64,
    /// Calls per second that were sent.
    pub sent_per_s: f64,
    /// Calls per second that were answered.
    pub answered_per_s: f64,
    /// Calls per second that failed.
    pub failed_per_s: f64,
}

/// Quantiles of a stretch of a load, in nanoseconds, where enough calls ended in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantilePoint {
    /// Its middle, in seconds since the beginning of the window.
    pub at_s: f64,
    /// p50, p99 and p99.9 of the response time.
    pub percentiles_ns: [Option<f64>; 3],
}

/// Calls per second over time.
pub fn rates_over_time(points: &[TimePoint]) -> String {
    let lines = [
        (
            "sent",
            Dash::Short,
            GREY,
            (|point| point.sent_per_s) as fn(&TimePoint) -> f64,
        ),
        ("answered", Dash::Solid, BLUE, |point| point.answered_per_s),
        ("failed", Dash::Long, ORANGE, |point| point.failed_per_s),
    ];
    let series: Vec<Series> = lines
        .into_iter()
        .map(|(name, dash, colour, of)| {
            let points = points.iter().map(|point| Point::new(point.at_s, of(point)));
            line(name, dash, colour, points.collect())
        })
        .filter(|series| series.points.iter().any(|point| point.y > 0.0))
        .collect();
    let rates = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.y));
    let y = Axis::linear("Calls per second", Quantity::Rate, rates);
    figure(
        "Calls over time",
        points.iter().map(|point| point.at_s),
        y,
        series,
        Vec::new(),
    )
}

/// Response times over time on a logarithmic scale, with the objective.
pub fn percentiles_over_time(points: &[QuantilePoint], objective: Option<&Objective>) -> String {
    let looks = [
        ("p50", Dash::Solid, BLUE),
        ("p99", Dash::Long, ORANGE),
        ("p99.9", Dash::Short, PURPLE),
    ];
    let series: Vec<Series> = looks
        .into_iter()
        .enumerate()
        .map(|(at, (name, dash, colour))| {
            let known = points
                .iter()
                .filter_map(|point| Some(Point::new(point.at_s, point.percentiles_ns[at]?)));
            line(name, dash, colour, known.collect())
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let times = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.y));
    let limit_ns = objective.map(|objective| objective.limit_ns);
    let y = Axis::log(
        "Response time (log scale)",
        Quantity::TimeNs,
        times.chain(limit_ns),
    );
    let rule = objective.map(Objective::rule);
    let times_s = points.iter().map(|point| point.at_s);
    figure(
        "Response times over time",
        times_s,
        y,
        series,
        rule.into_iter().collect(),
    )
}

/// Calls that failed alike, over time.
pub struct FailureLine {
    /// Why they did, in a few words.
    pub name: String,
    /// The middle of a stretch in seconds, and calls per second in it.
    pub points: Vec<(f64, f64)>,
}

/// Failures per second over time, by their texts.
pub fn failures_over_time(lines: &[FailureLine]) -> String {
    let looks = [
        (Dash::Solid, ORANGE),
        (Dash::Long, BLUE),
        (Dash::Short, PURPLE),
        (Dash::Solid, GREEN),
        (Dash::Long, GREY),
    ];
    let series: Vec<Series> = lines
        .iter()
        .zip(looks.into_iter().cycle())
        .map(|(failures, (dash, colour))| {
            let points = failures
                .points
                .iter()
                .map(|&(at_s, per_s)| Point::new(at_s, per_s));
            line(&failures.name, dash, colour, points.collect())
        })
        .collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let y = Axis::linear(
        "Failed calls per second",
        Quantity::Rate,
        points().map(|point| point.y),
    );
    let times_s: Vec<f64> = points().map(|point| point.x).collect();
    figure(
        "Failures over time",
        times_s.into_iter(),
        y,
        series,
        Vec::new(),
    )
}

fn figure(
    title: &str,
    times_s: impl Iterator<Item = f64>,
    y: Axis,
    series: Vec<Series>,
    rules: Vec<Rule>,
) -> String {
    Figure {
        title: title.into(),
        x: Axis::linear(
            "Time since the beginning of the window (s)",
            Quantity::Seconds,
            times_s,
        ),
        y,
        series,
        rules,
        height_px: HEIGHT_PX,
    }
    .render()
}

/// Two of them are seen at once.
const HEIGHT_PX: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_occur_is_not_in_the_legend() {
        let point = |at_s, failed_per_s| TimePoint {
            at_s,
            sent_per_s: 10.0,
            answered_per_s: 10.0,
            failed_per_s,
        };
        let calm = rates_over_time(&[point(0.5, 0.0), point(1.5, 0.0)]);
        assert!(
            calm.contains("answered") && !calm.contains("failed"),
            "{calm}"
        );
        assert!(rates_over_time(&[point(0.5, 1.0)]).contains("failed"));
        let quantiles = QuantilePoint {
            at_s: 0.5,
            percentiles_ns: [Some(1e5), Some(2e6), None],
        };
        let times = percentiles_over_time(&[quantiles], None);
        assert!(
            times.contains("p99: 2.00 ms at 0.5 s") && !times.contains("p99.9"),
            "{times}"
        );
        let failures = FailureLine {
            name: "no such key".into(),
            points: vec![(0.5, 3.0), (1.5, 0.0)],
        };
        assert!(failures_over_time(&[failures]).contains("no such key: 3.00 calls/s at 0.5 s"));
    }

    #[test]
    fn nothing_can_be_drawn() {
        assert!(rates_over_time(&[]).starts_with("<svg"));
        assert!(percentiles_over_time(&[], None).starts_with("<svg"));
        assert!(failures_over_time(&[]).starts_with("<svg"));
    }
}
