//! From runs to tables and pictures.

pub mod environment;
mod peers;
mod picture;
pub mod row;
pub mod table;

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use environment::Environment;
use row::Row;

/// All that one comparison of peers found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub environment: Environment,
    /// How it was measured.
    pub method: Method,
    /// One per peer and point of the grid.
    pub cells: Vec<Row>,
}

/// How a comparison was measured.
#[derive(Debug, Serialize)]
pub struct Method {
    /// Runs of each peer.
    pub runs: usize,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// Seconds before them that were not measured.
    pub warm_up_seconds: f64,
    /// Rounds that were repeated, because other processes had used the CPUs.
    pub rounds_replaced: usize,
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

    /// Draws what the summary tells of TCP.
    pub fn draw(&self, path: &Path) -> io::Result<()> {
        picture::draw(&self.cells, path)
    }
}

impl Method {
    /// As told, in seconds.
    pub fn new(runs: usize, measured: Duration, warm_up: Duration, rounds_replaced: usize) -> Self {
        Self {
            runs,
            seconds: measured.as_secs_f64(),
            warm_up_seconds: warm_up.as_secs_f64(),
            rounds_replaced,
        }
    }
}
