//! From runs to tables and pictures.

pub mod environment;
mod peers;
mod picture;
pub mod row;
pub mod run;

use std::time::Duration;

use loadgen::analysis::median::RUNS_FOR_CONFIDENCE;
use loadgen::units::{percent, several};
use serde::Serialize;

use crate::cpu;
use crate::rounds::Rounds;
use environment::Environment;
use row::{FailedRow, Row};

/// All that one comparison of peers found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub environment: Environment,
    /// How it was measured.
    pub method: Method,
    /// One per peer and point of the grid.
    pub cells: Vec<Row>,
    /// What could not be measured.
    pub failed: Vec<FailedRow>,
}

/// How a comparison was measured.
#[derive(Debug, Serialize)]
pub struct Method {
    /// Runs of each peer at each point.
    pub runs: usize,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// Seconds before them that were not measured.
    pub warm_up_seconds: f64,
    /// What intervals are.
    pub intervals: Intervals,
    /// Share of the two CPUs above which other processes disturb a run of this length; `None` when
    /// nothing was pinned.
    pub others_tolerated: Option<f64>,
    /// Rounds that count, at all points together.
    pub rounds_kept: usize,
    /// Those among them that were disturbed all the same.
    pub rounds_disturbed: usize,
    /// Rounds that were repeated, because other processes had used the CPUs.
    pub rounds_replaced: usize,
}

/// What intervals are; that depends on the number of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Intervals {
    /// Where the median lies with 95 % confidence, whatever the distribution.
    #[serde(rename = "95 % confidence")]
    Confidence,
    /// The lowest and the highest run: too few for confidence.
    #[serde(rename = "range")]
    Range,
    /// There is only one run.
    #[serde(rename = "none")]
    None,
}

impl Report {
    /// All tables, with their environment above them; readable as plain text too.
    pub fn to_markdown(&self) -> String {
        peers::render(self)
    }

    /// One small table of the points that most people ask for; `None` when they were not measured.
    pub fn to_summary(&self) -> Option<String> {
        peers::summary(self)
    }

    /// What the summary tells of TCP as a picture; `None` when it was not measured.
    pub fn to_svg(&self) -> Option<String> {
        picture::draw(self)
    }
}

impl Method {
    /// As told, for rounds of all points together.
    pub fn new(
        runs: usize,
        measured: Duration,
        warm_up: Duration,
        is_pinned: bool,
        rounds: Rounds,
    ) -> Self {
        Self {
            runs,
            seconds: measured.as_secs_f64(),
            warm_up_seconds: warm_up.as_secs_f64(),
            intervals: match runs {
                ..=1 => Intervals::None,
                2..RUNS_FOR_CONFIDENCE => Intervals::Range,
                _ => Intervals::Confidence,
            },
            others_tolerated: is_pinned.then(|| cpu::others_tolerated(measured)),
            rounds_kept: rounds.kept,
            rounds_disturbed: rounds.disturbed,
            rounds_replaced: rounds.replaced,
        }
    }

    /// Says how far other processes disturbed the runs.
    pub fn noise(&self) -> String {
        let Some(tolerated) = self.others_tolerated else {
            return "Nothing was pinned, so nobody knows what other processes disturbed.".into();
        };
        format!(
            "A round is disturbed when others have more than {} of the two CPUs during one of its \
             runs, as far as runs of this length can tell: {} replaced, {} of the {} kept {}.",
            percent(tolerated),
            self.rounds_replaced,
            self.rounds_disturbed,
            several(self.rounds_kept, "round"),
            if self.rounds_disturbed == 1 {
                "was disturbed all the same"
            } else {
                "were disturbed all the same"
            },
        )
    }
}
