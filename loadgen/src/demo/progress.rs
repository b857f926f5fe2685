//! Says how far the demonstration is, on standard error.

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, a line for each step elsewhere.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    steps: usize,
    begun: usize,
    start: Instant,
}

impl Progress {
    /// Begins; `expected` is how long it will take.
    pub(super) fn new(steps: usize, expected: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(expected.as_millis() as u64).with_style(style)
        });
        Self {
            bar,
            steps,
            begun: 0,
            start: Instant::now(),
        }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, step: &impl Display) {
        self.begun += 1;
        let text = format!("{}/{} {step}", self.begun, self.steps);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => eprintln!("{text}"),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.start.elapsed().as_millis() as u64);
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
