//! What a bench shows while it measures: a bar on a terminal, lines elsewhere.

use std::fmt::Display;

use indicatif::{ProgressBar, ProgressStyle};
use loadgen::units::format_rate;

use crate::client::Outcome;

/// Shows which of some points is being measured, and how the runs go.
pub struct Progress {
    bar: ProgressBar,
    points: usize,
}

impl Progress {
    /// For so many points.
    ///
    /// # Panics
    /// Never: the template is constant.
    pub fn new(points: usize) -> Self {
        let style = "[{elapsed_precise}] {wide_bar} {pos}/{len}, about {eta} left: {msg}";
        let bar = ProgressBar::new(points as u64);
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        Self { bar, points }
    }

    /// The next point begins.
    pub fn next(&mut self, point: &impl Display) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        self.bar.set_message(point.to_string());
        if self.bar.is_hidden() {
            eprintln!("[{}/{}] {point}", self.bar.position() + 1, self.points);
        }
    }

    /// A run has ended.
    pub fn tell(&self, peer: &str, outcome: &Outcome) {
        let point = self.bar.message();
        let point = point.split(" – ").next().unwrap_or_default();
        let calls_per_s = outcome.calls as f64 / outcome.elapsed.as_secs_f64();
        let note = if outcome.load.is_calm {
            ""
        } else {
            ", disturbed"
        };
        self.bar.set_message(format!(
            "{point} – {peer} {}/s{note}",
            format_rate(calls_per_s)
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
