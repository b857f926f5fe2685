//! `cargo bench -p ringcall-benches --bench vs_raw`: servers against the raw baseline.
//!
//! Every server runs in a child process on the first CPU, the client on the second. The peers take
//! turns, and ratios compare medians of several runs and neighbouring runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ringcall_benches::cell::Cell;
use ringcall_benches::client::{Client, Plan};
use ringcall_benches::cpu::{self, Placement};
use ringcall_benches::report::Report;
use ringcall_benches::report::environment::Environment;
use ringcall_benches::report::row::Row;
use ringcall_benches::runs::Runner;
use ringcall_benches::servers::process::{Serve, Transport};
use ringcall_benches::servers::{self, Peer};

/// Measures servers against the raw baseline, alternated, each pinned in a process of its own.
#[derive(Parser)]
#[command(name = "vs_raw")]
struct Options {
    /// Servers to compare, the baseline first; one named twice shows the noise of the machine
    #[arg(long, value_delimiter = ',', default_value = servers::DEFAULT, value_parser = servers::find)]
    peers: Vec<&'static dyn Peer>,
    /// What to measure: CONNECTIONSxDEPTH, with /spin or /spin:50us for loops that don't park
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "64x1,64x16,16x32,1x64,1x1/spin"
    )]
    cells: Vec<Cell>,
    /// Kinds of sockets
    #[arg(long, value_delimiter = ',', default_value = "tcp")]
    transports: Vec<Transport>,
    /// Runs of each server in each cell. Many short runs beat few long ones: what the machine does
    /// meanwhile falls on neighbours alike
    #[arg(long, default_value = "21", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Measured seconds of each run
    #[arg(long, default_value = "0.25", value_parser = seconds)]
    seconds: Duration,
    /// Seconds before them that are driven but not measured
    #[arg(long, default_value = "0.05", value_parser = seconds)]
    warm_up: Duration,
    /// Payload of a request
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(..=MIB))]
    payload_bytes: u32,
    /// Short runs: shows that all works, and rough figures
    #[arg(long, conflicts_with_all = ["runs", "seconds", "warm_up"])]
    quick: bool,
    /// How to print the result on standard output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Also writes the table to this file, as markdown
    #[arg(long)]
    out: Option<PathBuf>,
    /// Given by `cargo bench`. Without it, as under `cargo test --benches`, runs are quick
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one server until standard input closes
    #[command(name = SERVE, hide = true)]
    Serve(Serve),
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

const SERVE: &str = "serve";
const MIB: i64 = 1 << 20;

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.command {
        Some(Command::Serve(serve)) => serve.run(),
        None => compare(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vs_raw: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> io::Result<()> {
    let placement = Placement::choose()?;
    match placement {
        Some(placement) => cpu::pin(placement.client)?,
        None => eprintln!("only one CPU may be used: server and client share it, unpinned"),
    }
    let (runs, measured, warm_up) = options.effort();
    let payload_bytes = options.payload_bytes as usize;
    let runner = Runner {
        subcommand: SERVE,
        peers: options.peers.clone(),
        runs,
        placement,
    };
    let mut client = Client::new()?;
    let mut rows = Vec::new();
    let mut rounds_replaced = 0;
    for &transport in &options.transports {
        for &cell in &options.cells {
            let plan = Plan {
                cell,
                payload_bytes,
                warm_up,
                measured,
            };
            let (all, replaced) =
                runner.measure(&mut client, transport, &plan, |peer, outcome| {
                    let rate = outcome.calls as f64 / outcome.elapsed.as_secs_f64();
                    let note = if outcome.load.is_calm {
                        ""
                    } else {
                        " (disturbed)"
                    };
                    eprintln!(
                        "{cell} {transport} {} {peer}: {rate:.0} calls/s{note}",
                        cell.idle
                    );
                })?;
            rounds_replaced += replaced;
            rows.extend(Row::of_cell(transport, cell, &all));
        }
    }
    let environment = Environment::of(
        command_line(),
        placement,
        runs,
        measured,
        warm_up,
        payload_bytes,
    );
    options.print(&Report {
        environment,
        rounds_replaced,
        rows,
    })
}

impl Options {
    /// Runs, measured time and warm-up.
    fn effort(&self) -> (usize, Duration, Duration) {
        const QUICK: (usize, Duration, Duration) =
            (2, Duration::from_millis(200), Duration::from_millis(50));
        if self.quick || !self.bench {
            QUICK
        } else {
            (self.runs.into(), self.seconds, self.warm_up)
        }
    }

    fn print(&self, report: &Report) -> io::Result<()> {
        let text = match self.format {
            Format::Table => report.to_markdown(),
            Format::Json => report.to_json()?,
        };
        writeln!(io::stdout(), "{text}")?;
        match &self.out {
            Some(path) => std::fs::write(path, report.to_markdown()),
            None => Ok(()),
        }
    }
}

/// What repeats this measurement; the program's own path says nothing to others.
fn command_line() -> String {
    let options = std::env::args()
        .skip(1)
        .filter(|option| option != "--bench");
    ["cargo bench -p ringcall-benches --bench vs_raw --".to_owned()]
        .into_iter()
        .chain(options)
        .collect::<Vec<_>>()
        .join(" ")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() && seconds <= SECONDS_MAX => Ok(time),
        _ => Err(format!(
            "must be more than 0 and at most {SECONDS_MAX} seconds"
        )),
    }
}

/// One hour: longer runs say nothing more.
const SECONDS_MAX: f64 = 3600.0;
