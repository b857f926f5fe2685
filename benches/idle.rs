//! `cargo bench --bench idle`: what connections cost that do nothing.
//!
//! One caller is busy; then thousands of connections are opened beside it, each as far as its first
//! call would need, and the caller is measured again.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use harness::cell::Cell;
use harness::client::{Arrivals, Client, Outcome, Plan};
use harness::count::page::Page;
use harness::cpu::{self, Placement, Usage};
use harness::idle::Idle;
use harness::options::{self, Common, Effort};
use harness::point::Point;
use harness::progress::Progress;
use harness::report::environment::Environment;
use harness::report::row::Middle;
use harness::report::table::{Table, significant};
use harness::runs;
use harness::servers::process::{Serve, ServerProcess, Start, Transport};
use harness::servers::{self, Peer};
use harness::work::{Work, Workload};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use socket2::Socket;

/// Measures a busy caller beside idle connections, and their memory.
#[derive(Parser)]
#[command(name = NAME)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Servers to compare
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "raw,ringcall,ringcall-epoll,tonic",
        value_parser = servers::find
    )]
    peers: Vec<&'static dyn Peer>,
    /// Idle connections; fewer when the limit of descriptors does not permit them
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=25_000))]
    connections: u32,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one server until standard input closes
    #[command(hide = true)]
    Serve(Serve),
}

const NAME: &str = "idle";
/// Descriptors that a server or this process needs besides idle connections.
const DESCRIPTORS_BESIDES: u64 = 200;

/// All that was found.
#[derive(Serialize)]
struct Report {
    environment: Environment,
    idle_connections_asked: usize,
    idle_connections: usize,
    runs: usize,
    seconds: f64,
    rows: Vec<Row>,
}

/// One server. Medians over the runs.
#[derive(Serialize)]
struct Row {
    peer: String,
    /// Resident memory that each idle connection adds to the server.
    rss_bytes_per_connection: f64,
    /// Heap that it adds.
    heap_bytes_per_connection: f64,
    /// Resident memory of the server without them.
    rss_bytes_alone: f64,
    p50_us_alone: f64,
    p50_us_beside: f64,
    p99_us_alone: f64,
    p99_us_beside: f64,
}

/// One run of one server.
struct Run {
    rss_bytes: [u64; 2],
    heap_bytes: [i64; 2],
    outcomes: [Outcome; 2],
}

fn main() -> ExitCode {
    let options: Options = options::begin(NAME);
    let result = match &options.command {
        Some(Command::Serve(serve)) => serve.run(),
        None => measure(&options),
    };
    options::end(NAME, result)
}

fn measure(options: &Options) -> io::Result<()> {
    let (runs, measured) = match options.common.effort() {
        Effort::Quick => (1, Duration::from_millis(500)),
        Effort::Usual => (3, Duration::from_secs(1)),
        Effort::Full => (7, Duration::from_secs(3)),
    };
    let asked = options.connections as usize;
    let count = asked.min(permitted()?);
    if count < asked {
        options::say(format_args!(
            "the limit of descriptors (`ulimit -Hn`) permits {count} idle connections, not {asked}"
        ));
    }
    let placement = Placement::choose()?;
    if let Some(placement) = placement {
        cpu::pin(&[placement.client])?;
    }
    let mut client = Client::new();
    let mut all: Vec<Vec<Run>> = options.peers.iter().map(|_| Vec::new()).collect();
    let mut progress = Progress::new(runs * options.peers.len());
    for _ in 0..runs {
        for (peer, runs) in options.peers.iter().zip(&mut all) {
            progress.next(&peer.name());
            let run = run_once(&mut client, *peer, count, measured, placement)?;
            progress.tell(peer.name(), &run.outcomes[1]);
            runs.push(run);
        }
    }
    drop(progress);
    let rows = options.peers.iter().zip(&all);
    let report = Report {
        environment: Environment::of(NAME, placement),
        idle_connections_asked: asked,
        idle_connections: count,
        runs,
        seconds: measured.as_secs_f64(),
        rows: rows
            .map(|(peer, runs)| Row::of(peer.name(), runs, count))
            .collect(),
    };
    options
        .common
        .publish(NAME, &report.to_markdown(), &report)?;
    options.common.say_how_to_get_more(NAME);
    Ok(())
}

/// Idle connections that the limit of descriptors permits, after raising it where that is allowed.
/// Servers inherit it.
fn permitted() -> io::Result<usize> {
    let wanted = |limit: Option<u64>| Rlimit {
        current: limit,
        maximum: limit,
    };
    let most = getrlimit(Resource::Nofile).maximum;
    // Beyond the hard limit only with privileges; up to it always.
    if setrlimit(Resource::Nofile, wanted(Some(DESCRIPTORS_WANTED))).is_err() {
        setrlimit(Resource::Nofile, wanted(most))?;
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Ok(usize::try_from(now.saturating_sub(DESCRIPTORS_BESIDES)).unwrap_or(usize::MAX))
}

/// Enough for the most connections that can be asked for.
const DESCRIPTORS_WANTED: u64 = 32_768;

fn run_once(
    client: &mut Client,
    peer: &dyn Peer,
    count: usize,
    measured: Duration,
    placement: Option<Placement>,
) -> io::Result<Run> {
    let point = Point {
        work: Work {
            workload: Workload::Echo,
            payload_bytes: 64,
        },
        transport: Transport::Tcp,
        cell: Cell {
            connections: 1,
            depth: 1,
            idle: Idle::Park,
        },
    };
    let cpus: Vec<usize> = placement.iter().map(|placement| placement.server).collect();
    let page = Page::new()?;
    let start = Start {
        point,
        cpus: &cpus,
        counters: Some(&page),
    };
    let server = ServerProcess::start(peer, &start)?;
    let usage = || Usage::now(server.pid(), placement);
    let plan = Plan {
        cell: point.cell,
        work: point.work,
        arrivals: Arrivals::Closed,
        warm_up: Duration::from_millis(100),
        measured,
    };
    let alone = runs::drive(client, peer, &server, &plan, &usage)?;
    let (rss_alone, heap_alone) = (rss_bytes(&server)?, page.live_bytes());
    let connect = || -> io::Result<Socket> {
        let socket = server.address().connect()?;
        peer.caller().greet(&socket)?;
        Ok(socket)
    };
    let idle: Vec<Socket> = (0..count).map(|_| connect()).collect::<io::Result<_>>()?;
    let beside = runs::drive(client, peer, &server, &plan, &usage)?;
    let run = Run {
        rss_bytes: [rss_alone, rss_bytes(&server)?],
        heap_bytes: [heap_alone, page.live_bytes()],
        outcomes: [alone, beside],
    };
    drop(idle);
    server.stop()?;
    Ok(run)
}

fn rss_bytes(server: &ServerProcess) -> io::Result<u64> {
    let process = procfs::process::Process::new(server.pid() as i32).map_err(io::Error::other)?;
    let status = process.status().map_err(io::Error::other)?;
    let kib = status.vmrss.unwrap_or(0);
    Ok(kib * 1024)
}

impl Row {
    fn of(peer: &str, runs: &[Run], connections: usize) -> Self {
        let over = |figure: &dyn Fn(&Run) -> f64| Middle::of(runs.iter().map(figure)).median;
        let quantile_us = |which: usize, quantile: f64| {
            over(&|run| run.outcomes[which].latency_ns.value_at_quantile(quantile) as f64 / 1e3)
        };
        let connections = connections as f64;
        Self {
            peer: peer.to_owned(),
            rss_bytes_per_connection: over(&|run| {
                (run.rss_bytes[1] as f64 - run.rss_bytes[0] as f64) / connections
            }),
            heap_bytes_per_connection: over(&|run| {
                (run.heap_bytes[1] - run.heap_bytes[0]) as f64 / connections
            }),
            rss_bytes_alone: over(&|run| run.rss_bytes[0] as f64),
            p50_us_alone: quantile_us(0, 0.5),
            p50_us_beside: quantile_us(1, 0.5),
            p99_us_alone: quantile_us(0, 0.99),
            p99_us_beside: quantile_us(1, 0.99),
        }
    }
}

impl Report {
    fn to_markdown(&self) -> String {
        const HEADINGS: [&str; 8] = [
            "server",
            "RSS B/connection",
            "heap B/connection",
            "RSS alone MiB",
            "p50 µs alone",
            "p50 µs beside",
            "p99 µs alone",
            "p99 µs beside",
        ];
        let mut table = Table::new(&HEADINGS, 1);
        for row in &self.rows {
            table.push([
                row.peer.clone(),
                significant(row.rss_bytes_per_connection),
                significant(row.heap_bytes_per_connection),
                significant(row.rss_bytes_alone / f64::from(1 << 20)),
                significant(row.p50_us_alone),
                significant(row.p50_us_beside),
                significant(row.p99_us_alone),
                significant(row.p99_us_beside),
            ]);
        }
        format!(
            "{}\n\n{table}\nOne caller, alone and *beside* {} idle TCP connections that could call \
             at once ({} were asked for). Memory is the server's own; that of the kernel's sockets \
             is not in it. Medians of {} runs of {} s, alternated.\n",
            self.environment,
            self.idle_connections,
            self.idle_connections_asked,
            self.runs,
            self.seconds,
        )
    }
}
