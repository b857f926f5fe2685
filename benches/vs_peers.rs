//! `cargo bench --bench vs_peers`: ringcall, what one would use instead, and the physical limit.
//!
//! Every server runs in a child process on the first CPU, the client on the second. The peers take
//! turns, and ratios compare runs of the same round.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use harness::cell::Cell;
use harness::client::Client;
use harness::options::{self, Common, Effort};
use harness::point::Point;
use harness::progress::Progress;
use harness::report::environment::Environment;
use harness::report::row::{FailedRow, Row};
use harness::report::{Method, Report};
use harness::rounds::Rounds;
use harness::runs::Runner;
use harness::servers::process::{self, Command, Transport};
use harness::servers::{self, Peer};
use harness::work::{Work, Workload};
use loadgen::target::placement::{Placement, pin};
use loadgen::units::several;

/// Compares servers, alternated, each pinned in a process of its own.
///
/// Without options: the points of the grid that tell most, in some minutes. `--full`: all of it.
/// Naming any of cells, workloads, transports and sizes measures all combinations of those.
#[derive(Parser)]
#[command(name = NAME)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Servers to compare; one named twice shows the noise of the machine
    #[arg(long, value_delimiter = ',', value_parser = servers::find)]
    peers: Vec<&'static dyn Peer>,
    /// CONNECTIONSxDEPTH, with /spin or /spin:50us for loops that don't park
    #[arg(long, value_delimiter = ',')]
    cells: Vec<Cell>,
    /// What is asked
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Kinds of sockets
    #[arg(long, value_enum, value_delimiter = ',')]
    transports: Vec<Transport>,
    /// Payloads of the message that carries the body
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(8..=MIB as i64))]
    payload_bytes: Vec<u32>,
    /// Runs of each server at each point. Many short runs beat few long ones: what the machine
    /// does meanwhile falls on all servers of a round alike
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    runs: Option<u16>,
    /// Measured seconds of each run
    #[arg(long, value_parser = seconds, allow_negative_numbers = true)]
    seconds: Option<Duration>,
    /// Seconds before them that are driven but not measured
    #[arg(long, default_value = "0.05", value_parser = seconds, allow_negative_numbers = true)]
    warm_up: Duration,
    /// Leaves out the runs that count allocations and system calls
    #[arg(long)]
    no_counts: bool,
    /// What the files of the result are called, without their endings
    #[arg(long, default_value = NAME, requires = "out", value_parser = options::bare_file_name)]
    name: String,
    #[command(subcommand)]
    command: Option<Command>,
}

const NAME: &str = "vs_peers";
const MIB: u32 = 1 << 20;

fn main() -> ExitCode {
    process::run_bench(NAME, |options: &Options| options.command.as_ref(), compare)
}

fn compare(options: &Options) -> io::Result<()> {
    let placement = Placement::choose(&ringcall::environment());
    let environment = Environment::of(NAME, placement);
    match placement {
        Some(placement) => pin(&[placement.client])?,
        None => options::say("only one CPU may be used: server and client share it, unpinned"),
    }
    let points = options.points();
    points
        .iter()
        .try_for_each(|point| point.work.check())
        .map_err(io::Error::other)?;
    let runner = options.runner(placement);
    runner.exclusions(&points)?.iter().for_each(options::say);
    let mut client = Client::new();
    let (mut cells, mut failed, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    let mut progress = Progress::new(points.len());
    for point in points {
        progress.next(&point);
        let measured = runner.measure(&mut client, point, |peer, outcome| {
            progress.tell(peer, outcome);
        });
        rounds.push(measured.rounds);
        cells.extend(Row::of_point(point, &measured.series));
        for failure in measured.failures {
            options::say(format_args!(
                "{} at {point}: {}",
                failure.peer, failure.error
            ));
            failed.push(FailedRow::of(point, failure));
        }
    }
    drop(progress);
    let rounds: Rounds = rounds.into_iter().sum();
    let report = Report {
        environment,
        method: Method::new(
            runner.runs,
            runner.measured,
            runner.warm_up,
            placement.is_some(),
            rounds,
        ),
        cells,
        failed,
    };
    publish(options, &report)?;
    if rounds.disturbed > 0 {
        options::say(format_args!("warning: {}", report.method.noise()));
    }
    options.common.say_how_to_get_more(NAME);
    if report.failed.is_empty() {
        return Ok(());
    }
    let failures = several(report.failed.len(), "measurement");
    Err(io::Error::other(format!(
        "{failures} failed, as said above"
    )))
}

/// Files come first, so that nothing is lost when whoever reads the output has gone.
fn publish(options: &Options, report: &Report) -> io::Result<()> {
    let common = &options.common;
    if let (Some(folder), Some(summary)) = (&common.out, report.to_summary()) {
        options::write(folder, &format!("{}-summary.md", options.name), &summary)?;
        if let Some(svg) = report.to_svg() {
            options::write(folder, &format!("{}.svg", options.name), &svg)?;
        }
    }
    common.publish(&options.name, &report.to_markdown(), report)
}

impl Options {
    fn runner(&self, placement: Option<Placement>) -> Runner {
        // Many short runs: what the machine does meanwhile falls on all peers of a round, and the
        // median of eleven has an interval that one run can't stretch.
        let (runs, measured_ms) = match self.common.effort() {
            Effort::Quick => (11, 200),
            Effort::Usual => (11, 100),
            Effort::Full => (11, 200),
        };
        let default_peers = match self.common.effort() {
            Effort::Quick => "raw,ringcall,tonic",
            Effort::Usual | Effort::Full => {
                "raw,ringcall,raw-epoll,ringcall-epoll,glommio,ringcall-tokio,tarpc,tonic,\
                 tonic-threads"
            }
        };
        let default_peers = || {
            let names = default_peers.split(',');
            names.map(|name| servers::find(name).expect("a peer's name"))
        };
        Runner {
            peers: if self.peers.is_empty() {
                default_peers().collect()
            } else {
                self.peers.clone()
            },
            runs: self.runs.map_or(runs, usize::from),
            warm_up: self.warm_up,
            measured: self.seconds.unwrap_or(Duration::from_millis(measured_ms)),
            counts: !self.no_counts,
            placement,
        }
    }

    /// What to measure, grouped as the tables are.
    fn points(&self) -> Vec<Point> {
        let is_chosen = !self.cells.is_empty()
            || !self.workloads.is_empty()
            || !self.transports.is_empty()
            || !self.payload_bytes.is_empty();
        match self.common.effort() {
            _ if is_chosen => self.combinations(),
            Effort::Quick => grid(Workload::Echo, 64, Transport::Tcp, "1x1,64x1,64x16"),
            Effort::Usual => telling(),
            Effort::Full => everything(),
        }
    }

    fn combinations(&self) -> Vec<Point> {
        fn or<T: Clone>(chosen: &[T], default: T) -> Vec<T> {
            if chosen.is_empty() {
                vec![default]
            } else {
                chosen.to_vec()
            }
        }
        let mut points = Vec::new();
        for workload in or(&self.workloads, Workload::Echo) {
            for payload_bytes in or(&self.payload_bytes, 64) {
                for transport in or(&self.transports, Transport::Tcp) {
                    let cells = or(&self.cells, "64x16".parse().expect("a cell"));
                    points.extend(cells.into_iter().map(|cell| Point {
                        work: Work {
                            workload,
                            payload_bytes: payload_bytes as usize,
                        },
                        transport,
                        cell,
                    }));
                }
            }
        }
        points
    }
}

/// The points that tell most.
fn telling() -> Vec<Point> {
    use Transport::{Tcp, Unix};
    use Workload::{Echo, Get, Order};
    [
        grid(Echo, 64, Tcp, "1x1,1x1/spin,64x1,64x16,256x1,1x64"),
        grid(Echo, 64, Unix, "64x1,64x16"),
        grid(Order, 64, Tcp, "64x16"),
        grid(Echo, KIB4, Tcp, "64x1,64x16"),
        grid(Echo, MIB, Tcp, "1x1"),
        grid(Get, 64, Tcp, "64x1,64x16"),
    ]
    .concat()
}

/// The whole grid. 1 MiB only where a few of them are on their way at once: more would measure
/// how memory is copied past every cache.
fn everything() -> Vec<Point> {
    const CELLS: &str = "1x1,1x16,1x64,16x1,16x16,16x64,64x1,64x16,64x64,256x1,256x16,256x64";
    let mut points = Vec::new();
    for workload in [Workload::Echo, Workload::Get, Workload::Put] {
        for transport in [Transport::Tcp, Transport::Unix] {
            points.extend(grid(workload, 64, transport, "1x1/spin"));
            points.extend(grid(workload, 64, transport, CELLS));
            points.extend(grid(workload, KIB4, transport, CELLS));
            points.extend(grid(workload, MIB, transport, "1x1,16x1"));
        }
    }
    points.extend(grid(Workload::Order, 64, Transport::Tcp, CELLS));
    points
}

const KIB4: u32 = 4096;

fn grid(workload: Workload, payload_bytes: u32, transport: Transport, cells: &str) -> Vec<Point> {
    let work = Work {
        workload,
        payload_bytes: payload_bytes as usize,
    };
    let cells = cells.split(',').map(|cell| cell.parse().expect("a cell"));
    cells
        .map(|cell| Point {
            work,
            transport,
            cell,
        })
        .collect()
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
