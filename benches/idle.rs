//! `cargo bench --bench idle`: what connections cost that do nothing.
//!
//! One caller is busy; then thousands of connections are opened beside it, each as far as its first
//! call would need, and the caller is measured again.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use harness::cell::Cell;
use harness::client::{Arrivals, Client, Plan};
use harness::count::page::Page;
use harness::cpu::CpuUsage;
use harness::descriptors;
use harness::options::{self, Common, Effort};
use harness::pairs::{self, Compared, Condition, Pair, Report};
use harness::point::Point;
use harness::report::Method;
use harness::report::environment::Environment;
use harness::report::row::median;
use harness::runs;
use harness::servers::process::{self, Command, ServerProcess, Start, Transport};
use harness::servers::{self, Peer};
use harness::work::{Work, Workload};
use loadgen::report::document::Table;
use loadgen::target::placement::{Placement, pin};
use loadgen::units::significant;
use ringcall::Idle;
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

const NAME: &str = "idle";
/// Long enough for a server to let go of thousands of connections, too.
const WARM_UP: Duration = Duration::from_millis(300);
/// Time for rounds that replace disturbed ones.
const REPLACING_MAX: Duration = Duration::from_secs(35);

/// How many connections were idle.
#[derive(Serialize)]
struct IdleConnections {
    idle_connections_asked: usize,
    idle_connections: usize,
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
    /// The busy caller, alone and beside them.
    p50_us: Compared,
    /// See there.
    p99_us: Compared,
}

/// One run of one server.
struct Run {
    /// Without idle connections, and with them.
    rss_bytes: [u64; 2],
    heap_bytes: [i64; 2],
    pair: Pair,
}

/// How each server is measured.
#[derive(Clone, Copy)]
struct Setting {
    idle_connections: usize,
    measured: Duration,
    placement: Option<Placement>,
}

fn main() -> ExitCode {
    process::run_bench(NAME, |options: &Options| options.command.as_ref(), measure)
}

fn measure(options: &Options) -> io::Result<()> {
    let (runs, measured) = match options.common.effort() {
        Effort::Quick => (1, Duration::from_millis(500)),
        Effort::Usual => (7, Duration::from_millis(500)),
        Effort::Full => (15, Duration::from_secs(2)),
    };
    let placement = Placement::choose(&ringcall::environment());
    let environment = Environment::of(NAME, placement);
    if let Some(placement) = placement {
        pin(&[placement.client])?;
    }
    let asked = options.connections as usize;
    let setting = Setting {
        idle_connections: permitted(asked, &options.peers)?,
        measured,
        placement,
    };
    let mut client = Client::new();
    let (all, rounds) = pairs::measure(
        &options.peers,
        runs,
        REPLACING_MAX,
        |peer| peer.name(),
        |peer, first| run_once(&mut client, *peer, setting, first),
        |run| &run.pair,
    );
    let (rows, failed) = pairs::rows(
        &options.peers,
        all,
        |peer| peer.name(),
        |peer, runs| Row::of(peer.name(), runs, setting.idle_connections),
    );
    let table = table(&rows);
    let legend = format!(
        "One caller, alone and, in the same server, *beside* {} idle TCP connections that could call at once \
         ({asked} were asked for). Memory is the server's own; that of the kernel's sockets is not in it.",
        setting.idle_connections,
    );
    let report = Report {
        environment,
        method: Method::new(runs, measured, WARM_UP, placement.is_some(), rounds),
        setting: IdleConnections {
            idle_connections_asked: asked,
            idle_connections: setting.idle_connections,
        },
        rows,
        failed,
    };
    report.publish(NAME, &options.common, &table, &legend)
}

/// Idle connections that the limit of descriptors permits, after raising it where that is allowed.
/// Servers inherit it.
fn permitted(asked: usize, peers: &[&dyn Peer]) -> io::Result<usize> {
    let each = peers.iter().map(|peer| peer.descriptors_per_connection());
    let each = each.max().unwrap_or(1);
    let count = descriptors::raise_for(asked * each) / each;
    if count == 0 {
        return Err(io::Error::other(format!(
            "there is no room for a single idle connection: {}",
            descriptors::remedy()
        )));
    }
    if count < asked {
        options::say(format_args!(
            "{count} idle connections instead of {asked}: {}",
            descriptors::remedy()
        ));
    }
    Ok(count)
}

fn run_once(
    client: &mut Client,
    peer: &dyn Peer,
    setting: Setting,
    first: Condition,
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
    let placement = setting.placement;
    let cpus: Vec<usize> = placement.iter().map(|placement| placement.server).collect();
    let page = Page::new()?;
    let start = Start {
        point,
        cpus: &cpus,
        counters: Some(&page),
    };
    let server = ServerProcess::start(peer, &start)?;
    let usage = || CpuUsage::now(server.pid(), placement);
    let plan = |measured| Plan {
        cell: point.cell,
        work: point.work,
        arrivals: Arrivals::Closed,
        warm_up: WARM_UP,
        measured,
    };
    let mut drive = |measured| runs::drive(client, peer, &server, &plan(measured), &usage);
    // Before anything counts, so that neither state is that of a server which has just begun.
    drive(Duration::from_millis(1))?;
    let memory = || Ok::<_, io::Error>((rss_bytes(&server)?, page.live_bytes()));
    let alone = memory()?;
    let (mut idle, mut beside) = (Vec::new(), alone);
    let pair = first.measure(|state| match state {
        Condition::Alone => {
            idle.clear();
            drive(setting.measured)
        }
        Condition::Beside => {
            for _ in 0..setting.idle_connections {
                idle.push(open_idle(peer, &server).map_err(descriptors::explain)?);
            }
            let outcome = drive(setting.measured)?;
            beside = memory()?;
            Ok(outcome)
        }
    })?;
    drop(idle);
    server.stop()?;
    Ok(Run {
        rss_bytes: [alone.0, beside.0],
        heap_bytes: [alone.1, beside.1],
        pair,
    })
}

/// A connection that could call at once, and does not.
fn open_idle(peer: &dyn Peer, server: &ServerProcess) -> io::Result<Socket> {
    let socket = server.address().connect()?;
    peer.caller().greet(&socket)?;
    Ok(socket)
}

fn rss_bytes(server: &ServerProcess) -> io::Result<u64> {
    let process = procfs::process::Process::new(server.pid() as i32).map_err(io::Error::other)?;
    let status = process.status().map_err(io::Error::other)?;
    let kib = status.vmrss.unwrap_or(0);
    Ok(kib * 1024)
}

impl Row {
    fn of(peer: &str, runs: &[Run], connections: usize) -> Self {
        let over = |figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(figure)).value;
        let latency_us =
            |quantile| Compared::of_latency_us(runs.iter().map(|run| &run.pair), quantile);
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
            p50_us: latency_us(0.5),
            p99_us: latency_us(0.99),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    const HEADINGS: [&str; 10] = [
        "server",
        "RSS B/connection",
        "heap B/connection",
        "RSS alone MiB",
        "p50 µs",
        "beside",
        "×",
        "p99 µs",
        "beside",
        "×",
    ];
    let line = |row: &Row| {
        let memory = [
            row.peer.clone(),
            significant(row.rss_bytes_per_connection),
            significant(row.heap_bytes_per_connection),
            significant(row.rss_bytes_alone / f64::from(1 << 20)),
        ];
        let latencies = [&row.p50_us, &row.p99_us];
        let latencies = latencies.into_iter().flat_map(Compared::cells);
        memory.into_iter().chain(latencies).collect()
    };
    Table::new(&HEADINGS, rows.iter().map(line))
}
