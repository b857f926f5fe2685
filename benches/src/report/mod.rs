//! From runs to one table.

pub mod environment;
mod markdown;
pub mod row;

use serde::Serialize;

use environment::Environment;
use row::Row;

/// All that one invocation found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where and how it was measured.
    pub environment: Environment,
    /// Rounds that were repeated, because other processes had used the CPUs.
    pub rounds_replaced: usize,
    /// One row per transport, cell and peer.
    pub rows: Vec<Row>,
}

impl Report {
    /// A table with its environment above it; readable as plain text too.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// The same as one JSON object.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}
