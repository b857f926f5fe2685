//! Says how a load goes, on standard error: a bar on a terminal, a line for each interval elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::generator::Interval;
use crate::results::Spread;
use crate::units::{format_ns, format_per_s, or_dash};

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
        let p99 = response.percentile_ns(99.0);
        let p99 = or_dash(p99, |ns| format_ns(ns as f64));
        let text = format!("{}: {}/s, p99 {p99}", self.label, format_per_s(per_s));
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

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
