//! One load over its time: calls, response times, failures.

use std::collections::BTreeMap;

use super::{View, plot, rate, section};
use crate::plots::{
    self, FailureLine, QuantilePoint, TimePoint, failures_over_time, percentiles_over_time,
    rates_over_time,
};
use crate::report::document::{Block, Section, Table};
use crate::report::evidence::Point;
use crate::results::{ErrorRow, IntervalRow, is_reportable};
use crate::units::{format_count, several};

impl View<'_> {
    /// Calls and response times of the load at the capacity; `None` where there is one interval.
    pub(super) fn over_time(&self) -> Option<Section> {
        let point = self.at_capacity?;
        let rates = rates(point);
        if rates.len() < 2 {
            return None;
        }
        let at = rate(point.summary.offered_per_s);
        let times = percentiles_over_time(&quantiles(point), self.leading().as_ref());
        let blocks = vec![
            plot(
                "rates_over_time",
                rates_over_time(&rates),
                &format!(
                    "Point {}, at {at}. Where fewer are answered than sent, calls wait.",
                    point.row.point
                ),
            ),
            plot(
                "times_over_time",
                times,
                "The same load. A percentile is drawn where 100 calls of a stretch lie beyond it.",
            ),
        ];
        Some(section("Calls and response times over time", blocks))
    }

    /// Why calls failed and when; `None` if none did.
    pub(super) fn failures(&self) -> Option<Section> {
        let failing = || {
            let points = self.evidence.points.iter();
            points.filter(|point| !point.errors.is_empty())
        };
        let worst = failing().max_by_key(|point| point.summary.counts.error)?;
        let head = [
            "point", "load", "calls", "said by", "first at", "last at", "why",
        ];
        let rows = failing().flat_map(|point| {
            by_text(&point.errors)
                .into_iter()
                .map(|((text, is_of_server), errors)| {
                    let calls: u64 = errors.iter().map(|error| error.count).sum();
                    let starts = || errors.iter().map(|error| error.start_s);
                    vec![
                        point.row.point.to_string(),
                        point.row.label.clone(),
                        format_count(calls),
                        if is_of_server {
                            "the server"
                        } else {
                            "this side"
                        }
                        .into(),
                        format!("{:.1} s", starts().fold(f64::INFINITY, f64::min)),
                        format!("{:.1} s", starts().fold(0.0, f64::max)),
                        text,
                    ]
                })
        });
        let table = Table::new(&head, rows);
        let title = format!(
            "Failures by text, point by point ({})",
            several(table.rows.len(), "row")
        );
        let caption = format!(
            "Point {}, {}, in which most calls failed.",
            worst.row.point, worst.row.label
        );
        let svg = failures_over_time(&lines(worst));
        let blocks = vec![
            plot("failures_over_time", svg, &caption),
            Block::Folded { title, table },
        ];
        Some(section("Failures", blocks))
    }

    /// The objective that plots of latency show.
    pub(super) fn leading(&self) -> Option<plots::Objective> {
        let slo = self.slo.as_ref()?;
        let (_, limit_ns) = slo.leading_quantile()?;
        let is_leading = |text: &String| text.starts_with('p');
        let texts = slo.objectives().iter().map(ToString::to_string);
        let text = texts.into_iter().find(is_leading)?;
        Some(plots::Objective { text, limit_ns })
    }
}

/// Rows of a point's window in few stretches.
fn stretches(point: &Point) -> impl Iterator<Item = &[IntervalRow]> {
    let is_whole = |row: &&IntervalRow| row.length_s > 0.0 && row.start_s < point.summary.window_s;
    let count = point.intervals.iter().take_while(is_whole).count();
    point.intervals[..count].chunks(count.div_ceil(STRETCHES_MAX).max(1))
}

fn rates(point: &Point) -> Vec<TimePoint> {
    let time_point = |rows: &[IntervalRow]| {
        let length_s: f64 = rows.iter().map(|row| row.length_s).sum();
        let per_s =
            |of: fn(&IntervalRow) -> u64| rows.iter().map(of).sum::<u64>() as f64 / length_s;
        TimePoint {
            at_s: rows[0].start_s + length_s / 2.0,
            sent_per_s: per_s(|row| row.sent),
            answered_per_s: per_s(|row| row.answered),
            failed_per_s: per_s(|row| row.error + row.timeout),
        }
    };
    stretches(point).map(time_point).collect()
}

fn quantiles(point: &Point) -> Vec<QuantilePoint> {
    let is_in_window = |start_s: f64| start_s < point.summary.window_s;
    let intervals = point.responses.iter();
    let intervals = intervals.filter(|interval| is_in_window(interval.start_s));
    let quantile_point = |interval: &crate::report::evidence::Interval| {
        let values_ns = &interval.values_ns;
        let at = |percentile: f64| {
            let is_told = is_reportable(values_ns.len(), percentile);
            is_told.then(|| values_ns.value_at_percentile(percentile) as f64)
        };
        QuantilePoint {
            at_s: f64::midpoint(interval.start_s, interval.end_s),
            percentiles_ns: [50.0, 99.0, 99.9].map(at),
        }
    };
    intervals.map(quantile_point).collect()
}

type Failure = (String, bool);

fn by_text(errors: &[ErrorRow]) -> BTreeMap<Failure, Vec<&ErrorRow>> {
    let mut by_text: BTreeMap<Failure, Vec<&ErrorRow>> = BTreeMap::new();
    for error in errors {
        let key = (error.text.clone(), error.is_of_server);
        by_text.entry(key).or_default().push(error);
    }
    by_text
}

/// A line for each of the most frequent texts.
fn lines(point: &Point) -> Vec<FailureLine> {
    let mut all: Vec<_> = by_text(&point.errors).into_iter().collect();
    let calls = |errors: &[&ErrorRow]| errors.iter().map(|error| error.count).sum::<u64>();
    all.sort_by_key(|(_, errors)| std::cmp::Reverse(calls(errors)));
    all.truncate(LINES_MAX);
    let line = |((text, _), errors): (Failure, Vec<&ErrorRow>)| {
        let per_s = |rows: &[IntervalRow]| {
            let length_s: f64 = rows.iter().map(|row| row.length_s).sum();
            let numbers: Vec<u32> = rows.iter().map(|row| row.interval).collect();
            let within = errors
                .iter()
                .filter(|error| numbers.contains(&error.interval));
            let count: u64 = within.map(|error| error.count).sum();
            (rows[0].start_s + length_s / 2.0, count as f64 / length_s)
        };
        FailureLine {
            name: shortened(&text),
            points: stretches(point).map(per_s).collect(),
        }
    };
    all.into_iter().map(line).collect()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(NAME_LETTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// More than a picture can show.
const STRETCHES_MAX: usize = 240;
/// Texts that a picture tells apart.
const LINES_MAX: usize = 5;
/// So that a name fits beside others into a legend.
const NAME_LETTERS_MAX: usize = 70;
