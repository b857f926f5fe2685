//! What a server does under load: latency, answers, CPU time and waiting against the rate.

use super::axis::{Axis, Quantity, time};
use super::figure::{
    BLUE, Dash, Figure, GREEN, GREY, HEIGHT_PX, Marker, ORANGE, PURPLE, Point, Rule, Series, Shape,
};
use crate::analysis::Estimate;
use crate::analysis::median::Median;
use plotters::style::{BLACK, RGBColor};

/// A load and its latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HockeyPoint {
    /// Calls per second that were offered.
    pub offered_per_s: f64,
    /// p50, p99 and p99.9 of the response time with their bounds, in nanoseconds.
    pub percentiles_ns: [Option<Estimate>; 3],
    /// Whether the measurement is valid.
    pub is_valid: bool,
}

/// A line that latency has to stay under.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// As it was written.
    pub text: String,
    /// The limit.
    pub limit_ns: f64,
}

impl Objective {
    /// The line across a picture of latencies.
    pub(super) fn rule(&self) -> Rule {
        Rule {
            at: self.limit_ns,
            is_vertical: false,
            text: format!("objective {}", self.text),
            dash: Dash::Solid,
        }
    }
}

/// Offered rate against latency on a logarithmic scale, with the objective and the knee.
pub fn hockey_stick(
    points: &[HockeyPoint],
    objective: Option<&Objective>,
    knee_per_s: Option<f64>,
    capacity_per_s: Option<f64>,
) -> String {
    let looks: [(&str, RGBColor, Dash, Marker); 3] = [
        ("p50", BLUE, Dash::Solid, Marker::Circle),
        ("p99", ORANGE, Dash::Long, Marker::Square),
        ("p99.9", PURPLE, Dash::Short, Marker::Triangle),
    ];
    let mut series = Vec::new();
    for (at, (name, colour, dash, marker)) in looks.into_iter().enumerate() {
        let marks: Vec<Point> = points
            .iter()
            .filter_map(|point| {
                let estimate = point.percentiles_ns[at]?;
                Some(Point {
                    bounds: Some((estimate.lower, estimate.upper)),
                    is_hollow: !point.is_valid,
                    ..Point::new(point.offered_per_s, estimate.value)
                })
            })
            .collect();
        if marks.is_empty() {
            continue;
        }
        let valid = marks.iter().filter(|point| !point.is_hollow).copied();
        series.push(through_medians("", dash, colour, valid));
        series.push(marked(name, marker, colour, marks));
    }
    if points.iter().any(|point| !point.is_valid) {
        // Without points, it only stands in the legend.
        series.push(marked("hollow: invalid", Marker::Circle, BLACK, Vec::new()));
    }
    let marks = || series.iter().flat_map(|series| &series.points);
    let bounds = marks().filter_map(|point| point.bounds);
    let latencies = marks()
        .map(|point| point.y)
        .chain(bounds.flat_map(|(low, high)| [low, high]));
    let limit = objective.map(|objective| objective.limit_ns);
    let y = Axis::log(
        "Response time (log scale)",
        Quantity::TimeNs,
        latencies.chain(limit),
    );
    let x = rate_axis(
        "Offered rate (calls/s)",
        points.iter().map(|point| point.offered_per_s),
    );
    let vertical = |at, text: &str, dash| Rule {
        at,
        is_vertical: true,
        text: text.to_owned(),
        dash,
    };
    let mut rules: Vec<Rule> = objective.map(Objective::rule).into_iter().collect();
    rules.extend(knee_per_s.map(|at| vertical(at, "knee", Dash::Short)));
    rules.extend(capacity_per_s.map(|at| vertical(at, "rate at objective", Dash::Long)));
    figure("Latency against offered rate", x, y, series, rules)
}

/// A load and its answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AchievedPoint {
    /// Calls per second that were offered.
    pub offered_per_s: f64,
    /// Calls per second that were answered.
    pub achieved_per_s: f64,
    /// Whether the measurement is valid.
    pub is_valid: bool,
}

/// Achieved against offered rate.
pub fn achieved(points: &[AchievedPoint]) -> String {
    let marks: Vec<Point> = points
        .iter()
        .map(|point| Point {
            is_hollow: !point.is_valid,
            ..Point::new(point.offered_per_s, point.achieved_per_s)
        })
        .collect();
    let high = marks.iter().map(|point| point.x).fold(0.0, f64::max);
    let x = rate_axis("Offered rate (calls/s)", marks.iter().map(|point| point.x));
    let y = rate_axis(
        "Achieved rate (calls/s)",
        marks.iter().flat_map(|point| [point.x, point.y]),
    );
    let ideal = vec![Point::new(0.0, 0.0), Point::new(high, high)];
    let mut series = vec![line("all answered", Dash::Short, GREY, ideal)];
    series.extend(split_by_validity("achieved", Marker::Circle, BLUE, marks));
    figure("Achieved against offered rate", x, y, series, Vec::new())
}

/// A load and the CPU time of the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuPoint {
    /// Calls per second that were answered.
    pub achieved_per_s: f64,
    /// CPUs in use.
    pub cpus: f64,
    /// Whether the measurement is valid.
    pub is_valid: bool,
}

/// CPUs in use against achieved rate, with the line of the utilisation law.
pub fn cpu(points: &[CpuPoint], cpu_s_per_call: Option<f64>, cpus: Option<f64>) -> String {
    let marks: Vec<Point> = points
        .iter()
        .map(|point| Point {
            is_hollow: !point.is_valid,
            ..Point::new(point.achieved_per_s, point.cpus)
        })
        .collect();
    let x = rate_axis("Achieved rate (calls/s)", marks.iter().map(|point| point.x));
    let y = Axis::linear(
        "Server CPUs in use",
        Quantity::Number,
        marks.iter().map(|point| point.y).chain(cpus),
    );
    let mut series = Vec::new();
    if let Some(cost_s) = cpu_s_per_call {
        let end = x.high.min(y.high / cost_s);
        let ends = vec![Point::new(0.0, 0.0), Point::new(end, end * cost_s)];
        let name = format!("utilisation law: {} per call", time(round3(cost_s * 1e9)));
        series.push(line(&name, Dash::Long, BLACK, ends));
    }
    series.extend(split_by_validity("measured", Marker::Square, GREEN, marks));
    let full = cpus.map(|at| Rule {
        at,
        is_vertical: false,
        text: "all CPUs of the server busy".into(),
        dash: Dash::Solid,
    });
    figure(
        "Server CPU against rate",
        x,
        y,
        series,
        full.into_iter().collect(),
    )
}

/// A load and how long its calls waited in the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WaitPoint {
    /// Calls per second.
    pub rate_per_s: f64,
    /// Mean response time beyond that of an idle server, in nanoseconds.
    pub wait_ns: f64,
    /// What the model of random service times says (M/M/1 per shard).
    pub random_ns: f64,
    /// What the model of equal service times says (M/D/1 per shard).
    pub fixed_ns: f64,
}

/// Measured wait against models of waiting.
pub fn wait(points: &[WaitPoint]) -> String {
    let of = |pick: fn(&WaitPoint) -> f64| {
        let points = points
            .iter()
            .map(move |point| (point.rate_per_s, pick(point)));
        let drawn = points.filter(|(_, ns)| ns.is_finite() && *ns > 0.0);
        drawn
            .map(|(rate, ns)| Point::new(rate, ns))
            .collect::<Vec<_>>()
    };
    let mut series = vec![
        line(
            "M/M/1 per shard",
            Dash::Long,
            GREY,
            of(|point| point.random_ns),
        ),
        line(
            "M/D/1 per shard",
            Dash::Short,
            BLACK,
            of(|point| point.fixed_ns),
        ),
        marked("measured", Marker::Circle, BLUE, of(|point| point.wait_ns)),
    ];
    series.retain(|series| !series.points.is_empty());
    let values = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.y));
    let y = Axis::log("Mean wait (log scale)", Quantity::TimeNs, values);
    let x = rate_axis(
        "Offered rate (calls/s)",
        points.iter().map(|point| point.rate_per_s),
    );
    figure("Measured wait against the model", x, y, series, Vec::new())
}

fn figure(title: &str, x: Axis, y: Axis, series: Vec<Series>, rules: Vec<Rule>) -> String {
    Figure {
        title: title.to_owned(),
        x,
        y,
        series,
        rules,
        height_px: HEIGHT_PX,
    }
    .render()
}

fn rate_axis(label: &str, values: impl Iterator<Item = f64>) -> Axis {
    Axis::linear(
        label,
        Quantity::Rate,
        values.filter(|value| value.is_finite()),
    )
}

pub(super) fn line(name: &str, dash: Dash, colour: RGBColor, points: Vec<Point>) -> Series {
    Series {
        name: name.to_owned(),
        shape: Shape::Line(dash),
        colour,
        points,
    }
}

pub(super) fn marked(name: &str, marker: Marker, colour: RGBColor, points: Vec<Point>) -> Series {
    Series {
        name: name.to_owned(),
        shape: Shape::Marks(marker),
        colour,
        points,
    }
}

/// Two series, so that the legend tells what hollow points are.
fn split_by_validity(
    name: &str,
    marker: Marker,
    colour: RGBColor,
    points: Vec<Point>,
) -> impl Iterator<Item = Series> {
    let (invalid, valid): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| point.is_hollow);
    [
        marked(name, marker, colour, valid),
        marked("invalid", marker, colour, invalid),
    ]
    .into_iter()
    .filter(|series| !series.points.is_empty())
}

/// A line through the medians of points at about the same x, so that repeated loads at one rate
/// don't make it jump.
pub(super) fn through_medians(
    name: &str,
    dash: Dash,
    colour: RGBColor,
    points: impl Iterator<Item = Point>,
) -> Series {
    let mut points: Vec<Point> = points.collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    let medians = points
        .chunk_by(|a, b| b.x - a.x <= SAME_RATE * b.x)
        .map(|group| {
            let x = group.iter().map(|point| point.x).sum::<f64>() / group.len() as f64;
            let median = Median::of(group.iter().map(|point| point.y));
            Point::new(x, median.expect("no group is empty").value)
        });
    line(name, dash, colour, medians.collect())
}

fn round3(number: f64) -> f64 {
    let unit = 10f64.powf(number.log10().floor() - 2.0);
    (number / unit).round() * unit
}

/// Rates that differ by less than this share are one rate.
const SAME_RATE: f64 = 0.03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_through_medians_of_equal_rates() {
        let points = [(100.0, 5.0), (101.0, 1.0), (99.5, 3.0), (200.0, 9.0)];
        let points = points.into_iter().map(|(x, y)| Point::new(x, y));
        let series = through_medians("", Dash::Solid, BLUE, points);
        let ys: Vec<_> = series.points.iter().map(|point| point.y).collect();
        assert_eq!(ys, [3.0, 9.0]);
    }

    #[test]
    fn the_hockey_stick_names_what_it_shows() {
        let estimate = |ns: f64| {
            Some(Estimate {
                value: ns,
                lower: 0.9 * ns,
                upper: 1.2 * ns,
            })
        };
        let point = |rate: f64, is_valid| HockeyPoint {
            offered_per_s: rate,
            percentiles_ns: [estimate(50e3), estimate(90e3), None],
            is_valid,
        };
        let objective = Objective {
            text: "p99<1ms".into(),
            limit_ns: 1e6,
        };
        let points = [point(1e3, true), point(2e3, false)];
        let svg = hockey_stick(&points, Some(&objective), Some(1e3), Some(1.5e3));
        for text in [
            "p50",
            "p99",
            "objective p99&lt;1ms",
            "knee",
            "rate at objective",
            "hollow: invalid",
            "Offered rate (calls/s)",
            "Response time (log scale)",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(!svg.contains("p99.9"), "nothing of it was measured");
        assert!(!svg.contains("NaN"));
        // One outline for each of two percentiles, at either of two rates, and three in the legend.
        let outlines = svg.matches("<polygon").count();
        assert_eq!(outlines, 4 + 3);
        let valid_only = hockey_stick(&points[..1], None, None, None);
        assert!(!valid_only.contains("hollow") && !valid_only.contains("objective"));
    }

    #[test]
    fn pictures_without_points_are_drawn() {
        for svg in [
            hockey_stick(&[], None, None, None),
            achieved(&[]),
            cpu(&[], None, None),
            wait(&[]),
        ] {
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        }
    }
}
