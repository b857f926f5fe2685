//! What more shards bring, and how evenly they work.

use plotters::style::BLACK;

use super::axis::{Axis, Quantity};
use super::figure::{
    BLUE, Dash, Figure, GREEN, GREY, HEIGHT_PX, Marker, Point, Rule, Series, Shape,
};
use super::load::{line, marked};
use crate::analysis::usl::{Fit, Point as Throughput};

/// Throughput against shards, with the fitted law and where it lies with 95 % confidence.
pub fn scaling(points: &[Throughput], fit: Option<&Fit>) -> String {
    let shards_max = points.iter().map(|point| point.shards).fold(1.0, f64::max);
    let counts = || {
        (0..=CURVE_STEPS)
            .map(|step| 1.0 + (shards_max - 1.0) * f64::from(step) / f64::from(CURVE_STEPS))
    };
    let mut series = Vec::new();
    if let Some(fit) = fit {
        let band: Vec<Point> = counts()
            .filter_map(|shards| {
                let band = fit.band(shards, 0.95)?;
                Some(Point {
                    bounds: Some((band.lower, band.upper)),
                    ..Point::new(shards, band.value)
                })
            })
            .collect();
        if !band.is_empty() {
            series.push(Series {
                name: "95 % band".into(),
                shape: Shape::Band,
                colour: BLUE,
                points: band,
            });
        }
        let linear = [1.0, shards_max]
            .map(|shards| Point::new(shards, fit.parameters.lambda_per_s * shards));
        series.push(line("linear", Dash::Short, GREY, linear.into()));
        let law = counts().map(|shards| Point::new(shards, fit.parameters.rate_per_s(shards)));
        series.push(line(
            "Universal Scalability Law",
            Dash::Solid,
            BLACK,
            law.collect(),
        ));
    }
    let measured = points
        .iter()
        .map(|point| Point::new(point.shards, point.rate_per_s));
    series.push(marked("measured", Marker::Square, BLUE, measured.collect()));
    let rates: Vec<f64> = series
        .iter()
        .flat_map(|series| &series.points)
        .flat_map(|point| [point.y, point.bounds.map_or(0.0, |(_, high)| high)])
        .collect();
    Figure {
        title: "Throughput against shards".into(),
        x: shard_axis(shards_max),
        y: Axis::linear("Achieved rate (calls/s)", Quantity::Rate, rates),
        series,
        rules: Vec::new(),
        height_px: HEIGHT_PX,
    }
    .render()
}

/// How far measurements lie from the fitted law.
pub fn residuals(points: &[Throughput], fit: &Fit) -> String {
    let marks: Vec<Point> = points
        .iter()
        .zip(&fit.residuals)
        .map(|(point, residual)| Point::new(point.shards, *residual))
        .collect();
    let shards_max = points.iter().map(|point| point.shards).fold(1.0, f64::max);
    let largest = marks.iter().map(|mark| mark.y.abs()).fold(0.01, f64::max);
    Figure {
        title: "Residuals of the fit".into(),
        x: shard_axis(shards_max),
        y: Axis::linear("Measured ÷ law − 1", Quantity::Percent, [-largest, largest]),
        series: vec![marked("measured", Marker::Square, BLUE, marks)],
        rules: vec![Rule {
            at: 0.0,
            is_vertical: false,
            text: String::new(),
            dash: Dash::Solid,
        }],
        height_px: 250,
    }
    .render()
}

/// Requests of each shard, as a share of what each would have if all had the same.
pub fn imbalance(requests: &[u64]) -> String {
    let mean = requests.iter().sum::<u64>() as f64 / requests.len().max(1) as f64;
    let bars: Vec<Point> = requests
        .iter()
        .enumerate()
        .map(|(shard, requests)| Point::new(shard as f64, *requests as f64 / mean.max(1.0)))
        .collect();
    let y = Axis::linear(
        "Requests ÷ mean of all shards",
        Quantity::Percent,
        bars.iter().map(|bar| bar.y).chain([1.0]),
    );
    let x = Axis {
        low: -0.6,
        high: requests.len() as f64 - 0.4,
        ..Axis::linear("Shard", Quantity::Number, [requests.len() as f64])
    };
    let series = vec![Series {
        name: "requests".into(),
        shape: Shape::Bars,
        colour: GREEN,
        points: bars,
    }];
    let even = Rule {
        at: 1.0,
        is_vertical: false,
        text: "even".into(),
        dash: Dash::Long,
    };
    Figure {
        title: "Load of each shard".into(),
        x,
        y,
        series,
        rules: vec![even],
        height_px: 300,
    }
    .render()
}

fn shard_axis(shards_max: f64) -> Axis {
    Axis {
        low: 0.5,
        high: shards_max + 0.5,
        ..Axis::linear("Shards", Quantity::Number, [shards_max])
    }
}

const CURVE_STEPS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fit_is_shown_with_its_band_and_residuals() {
        let shards = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0];
        let points: Vec<_> = shards
            .iter()
            .enumerate()
            .map(|(at, &shards)| Throughput {
                shards,
                rate_per_s: 1e5 * shards / (1.0 + 0.05 * (shards - 1.0))
                    * (1.0 + 0.01 * (at % 3) as f64),
            })
            .collect();
        let fit = Fit::new(&points, 1).unwrap();
        let svg = scaling(&points, Some(&fit));
        for text in [
            "95 % band",
            "Universal Scalability Law",
            "linear",
            "measured",
            "Shards",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(residuals(&points, &fit).contains("Residuals"));
        assert!(!scaling(&points, None).contains("Law"));
    }

    #[test]
    fn shards_are_compared_with_their_mean() {
        let svg = imbalance(&[100, 300]);
        assert!(svg.contains("even") && svg.contains("150 %"), "{svg}");
        assert!(imbalance(&[]).contains("<svg") && imbalance(&[0, 0]).contains("<svg"));
    }
}
