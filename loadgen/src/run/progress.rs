//! Says how a load goes, on standard error: a bar on a terminal, a line for each interval elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::generator::Interval;
use crate::results::Spread;
use crate::units::{format_count, format_ns, format_per_s};

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    /// Whether others say which load this is, and what came out.
    is_part: bool,
    warmup: Duration,
    duration: Duration,
    begun: Option<Instant>,
}

impl Progress {
    pub(super) fn new(label: &str, is_part: bool, warmup: Duration, duration: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new((warmup + duration).as_millis() as u64).with_style(style)
        });
        Self {
            bar,
            label: label.to_owned(),
            is_part,
            warmup,
            duration,
            begun: None,
        }
    }

    pub(super) fn begin(&mut self) {
        self.begun = Some(Instant::now());
        let text = format!("{}: warm-up {:?}", self.label, self.warmup);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.is_part => (),
            None => eprintln!("{text}, then {:?} measured", self.duration),
        }
    }

    pub(super) fn tick(&self) {
        if let (Some(bar), Some(begun)) = (&self.bar, self.begun) {
            bar.set_position(begun.elapsed().as_millis() as u64);
        }
    }

    pub(super) fn interval(&self, interval: &Interval, response: &Spread) {
        let length_s = interval.length.as_secs_f64();
        if interval.start >= self.duration || length_s == 0.0 {
            return;
        }
        let per_s = interval.record.answered as f64 / length_s;
        let text = format!(
            "{}: {}/s, {}{}",
            self.label,
            format_per_s(per_s),
            percentiles(response),
            failed(interval)
        );
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.is_part => (),
            None => {
                let end = interval.start + interval.length;
                eprintln!("{:>8.1} s  {text}", end.as_secs_f64());
            }
        }
    }
}

/// The p99, and the highest percentile that so many calls tell.
pub(super) fn percentiles(response: &Spread) -> String {
    let p99 = response.show(99.0);
    let highest = response
        .highest()
        .filter(|highest| highest.percentile > 99.0);
    let highest = highest.map(|highest| {
        let ns = format_ns(highest.ns as f64);
        format!(", p{} {ns}", highest.percentile)
    });
    format!("p99 {p99}{}", highest.unwrap_or_default())
}

/// How many calls of an interval failed, and why most of them did; empty if none.
pub(super) fn failed(interval: &Interval) -> String {
    let counts = interval.record.total().counts;
    let failed = counts.failed();
    let most = interval
        .record
        .failures
        .iter()
        .max_by_key(|failure| failure.count);
    match most {
        _ if failed == 0 => String::new(),
        None => format!(", {} without an answer in time", format_count(failed)),
        Some(most) => format!(
            ", {} FAILED, most with: {}",
            format_count(failed),
            most.text
        ),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Record;
    use crate::results::Kind;

    fn interval(calls: u64) -> Interval {
        let mut record = Record::new(1);
        record.methods[0]
            .times
            .record_many(Kind::Response, 90_000, calls);
        Interval {
            number: 0,
            start: Duration::ZERO,
            length: Duration::from_secs(1),
            record,
        }
    }

    #[test]
    fn the_highest_percentile_that_may_be_told_is_shown() {
        let text = |calls| {
            let total = interval(calls).record.total();
            percentiles(&Spread::of(total.times.of(Kind::Response)))
        };
        assert_eq!(text(9_999), "p99 –");
        assert_eq!(text(10_000), "p99 90.0 µs");
        assert_eq!(text(100_000), "p99 90.0 µs, p99.9 90.0 µs");
        assert_eq!(text(1_000_000), "p99 90.0 µs, p99.99 90.0 µs");
    }

    #[test]
    fn failures_are_shown_with_what_most_of_them_have() {
        let mut interval = interval(1);
        assert_eq!(failed(&interval), "");
        interval.record.methods[0].counts.timeout = 1200;
        assert_eq!(failed(&interval), ", 1 200 without an answer in time");
        interval.record.methods[0].counts.error = 3;
        interval.record.failures.add("rare", true, 1);
        interval.record.failures.add("usual", true, 2);
        assert_eq!(failed(&interval), ", 1 203 FAILED, most with: usual");
    }
}
