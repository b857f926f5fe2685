//! Load generator and sample server of ringcall.
//!
//! [`cli`] reads the command line and hands over to [`demo`], [`run`], [`study`], [`report`],
//! [`serve`], [`fleet`] or [`environment`]. The sample services are in [`samples`], and the same for gRPC in
//! [`tonic`]. [`load`] makes calls and measures them; it knows nothing of processes and tables.
//! [`results`] is what a measurement leaves behind. [`analysis`] says what it means; it is pure.
//! [`study`] decides which load comes next, [`plots`] draws, and [`report`] writes what it all means
//! for capacity. [`target`] places and starts what is measured. The benches of ringcall use [`analysis`],
//! [`plots`], [`units`], the tables of [`report`] and what [`results`] say of a machine too.
#![warn(clippy::print_stdout)]

pub mod analysis;
pub mod cli;
#[cfg(test)]
mod commit; // for its test: the build script is what uses it
pub mod demo;
pub mod environment;
pub mod failure;
pub mod fleet;
pub mod load;
pub mod plots;
pub mod report;
pub mod results;
pub mod run;
pub mod samples;
pub mod selftest;
pub mod serve;
pub mod study;
pub mod target;
pub mod tonic;
pub mod units;

use std::io::{self, Write};

/// Writes a text to standard output.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a value to standard output as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}
