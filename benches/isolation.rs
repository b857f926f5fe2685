//! `cargo bench --bench isolation`: what a few slow calls do to all the others.
//!
//! One call in a hundred holds the server's CPU for a millisecond. Calls come at times that were
//! fixed before (an open loop), and a call's time counts from when it was due, so waiting behind a
//! slow one is seen in full. That is the weak side of one thread per core: a call can only wait for
//! the thread that its connection belongs to.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use harness::cell::Cell;
use harness::client::{Arrivals, Client, Open, Outcome, Plan};
use harness::cpu::CpuUsage;
use harness::options::{Common, Effort};
use harness::pairs::{self, Compared, Condition, Pair, Report};
use harness::point::Point;
use harness::report::Method;
use harness::report::environment::Environment;
use harness::runs;
use harness::servers::process::{self, Command, ServerProcess, Start, Transport};
use harness::servers::{self, Peer};
use harness::work::{Work, Workload};
use loadgen::report::document::Table;
use loadgen::target::placement::{Placement, pin};
use loadgen::units::{format_rate, percent};
use ringcall::Idle;
use serde::Serialize;

/// Measures quick calls beside slow ones.
#[derive(Parser)]
#[command(name = NAME)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Servers to compare; those with a client of their own
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ringcall-tokio,tonic",
        value_parser = servers::find_with_own_client
    )]
    peers: Vec<&'static dyn Peer>,
    #[command(subcommand)]
    command: Option<Command>,
}

const NAME: &str = "isolation";
/// How long a slow call holds the CPU.
const SLOW_US: u32 = 1000;
/// Share of calls that are slow, in the state that has any.
const SLOW_SHARE: f64 = 0.01;
/// Calls per second and CPU of the server: all servers have time to spare, so that what calls wait
/// for is the slow ones.
const CALLS_PER_S_AND_CPU: f64 = 4000.0;
const CONNECTIONS: usize = 64;
/// CPUs of a server at most: one client must be able to keep it busy.
const SERVER_CPUS_MAX: usize = 8;
const WARM_UP: Duration = Duration::from_millis(200);
/// Time for rounds that replace disturbed ones.
const REPLACING_MAX: Duration = Duration::from_secs(35);

/// Which calls were slow.
#[derive(Serialize)]
struct SlowCalls {
    slow_us: u32,
    slow_share: f64,
}

/// The calls that were not slow, of one server: without slow ones, and beside them.
#[derive(Serialize)]
struct Row {
    peer: String,
    server_cpus: usize,
    offered_calls_per_s: f64,
    answered_calls_per_s: Compared,
    p50_us: Compared,
    p99_us: Compared,
    p999_us: Compared,
    max_us: Compared,
}

/// A server, on so many CPUs.
struct Subject {
    peer: &'static dyn Peer,
    server_cpus: usize,
}

fn main() -> ExitCode {
    process::run_bench(NAME, |options: &Options| options.command.as_ref(), measure)
}

fn measure(options: &Options) -> io::Result<()> {
    let (runs, measured) = match options.common.effort() {
        Effort::Quick => (2, Duration::from_millis(500)),
        Effort::Usual => (11, Duration::from_secs(1)),
        Effort::Full => (21, Duration::from_secs(3)),
    };
    let environment = ringcall::environment();
    let placement = Placement::choose(&environment);
    let described = Environment::of(NAME, placement);
    let cpus = environment.cpus;
    let subjects = subjects(&options.peers, cpus.len());
    let mut seed = 0;
    let (all, rounds) = pairs::measure(
        &subjects,
        runs,
        REPLACING_MAX,
        |subject| subject.peer.name(),
        |subject, first| {
            seed += 1;
            first.measure(|state| run_once(subject, &cpus, state, seed, measured))
        },
        |pair| pair,
    );
    let (rows, failed) = pairs::rows(&subjects, all, |subject| subject.peer.name(), Row::of);
    let table = table(&rows);
    let legend = format!(
        "Echo calls of 64 bytes over {CONNECTIONS} TCP connections, {} per second and CPU of the server, at \
         the times of a Poisson process. *beside*: {} of all calls hold the server's CPU for {SLOW_US} µs. \
         All figures are of the other calls, from the time at which they were due.",
        format_rate(CALLS_PER_S_AND_CPU),
        percent(SLOW_SHARE),
    );
    let report = Report {
        environment: described,
        // With more CPUs nobody looks at the others.
        method: Method::new(runs, measured, WARM_UP, placement.is_some(), rounds),
        setting: SlowCalls {
            slow_us: SLOW_US,
            slow_share: SLOW_SHARE,
        },
        rows,
        failed,
    };
    report.publish(NAME, &options.common, &table, &legend)
}

/// Each on one CPU, and where there are more than two on all but the client's.
fn subjects(peers: &[&'static dyn Peer], cpus: usize) -> Vec<Subject> {
    let mut server_cpus = vec![1];
    let most = cpus.saturating_sub(1).min(SERVER_CPUS_MAX);
    if most > 1 {
        server_cpus.push(most);
    }
    let on = |server_cpus| peers.iter().map(move |&peer| Subject { peer, server_cpus });
    server_cpus.into_iter().flat_map(on).collect()
}

fn run_once(
    subject: &Subject,
    allowed: &[usize],
    state: Condition,
    seed: u64,
    measured: Duration,
) -> io::Result<Outcome> {
    let &Subject { peer, server_cpus } = subject;
    let point = Point {
        work: Work {
            workload: Workload::Echo,
            payload_bytes: 64,
        },
        transport: Transport::Tcp,
        cell: Cell {
            connections: CONNECTIONS,
            depth: 1,
            idle: Idle::Park,
        },
    };
    let (cpus, client_cpu) = place(allowed, server_cpus);
    let server = ServerProcess::start(
        peer,
        &Start {
            point,
            cpus,
            counters: None,
        },
    )?;
    let plan = Plan {
        cell: point.cell,
        work: point.work,
        arrivals: Arrivals::Open(Open {
            calls_per_s: CALLS_PER_S_AND_CPU * server_cpus as f64,
            slow_share: match state {
                Condition::Alone => 0.0,
                Condition::Beside => SLOW_SHARE,
            },
            slow_us: SLOW_US,
            seed,
        }),
        warm_up: WARM_UP,
        measured,
    };
    // Two CPUs can be watched; a server of more has the machine for itself, or not.
    let watched = match (cpus, client_cpu) {
        (&[server], Some(client)) => Some(Placement { server, client }),
        _ => None,
    };
    let usage = || CpuUsage::now(server.pid(), watched);
    // The client runs on a thread of its own, so that this one may start servers anywhere.
    let outcome = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            if let Some(cpu) = client_cpu {
                pin(&[cpu])?;
            }
            runs::drive(&mut Client::new(), peer, &server, &plan, &usage)
        });
        client.join().expect("the client does not panic")
    })?;
    server.stop()?;
    Ok(outcome)
}

/// CPUs of the server, and that of the client; nothing is pinned when there is only one.
fn place(allowed: &[usize], server_cpus: usize) -> (&[usize], Option<usize>) {
    match allowed.split_at_checked(server_cpus) {
        Some((servers, [client, ..])) => (servers, Some(*client)),
        _ => (&[], None),
    }
}

impl Row {
    fn of(subject: &Subject, pairs: &[Pair]) -> Self {
        let latency_us = |quantile| Compared::of_latency_us(pairs.iter(), quantile);
        Self {
            peer: subject.peer.name().to_owned(),
            server_cpus: subject.server_cpus,
            offered_calls_per_s: CALLS_PER_S_AND_CPU * subject.server_cpus as f64,
            answered_calls_per_s: Compared::of(pairs.iter(), |run| {
                run.calls as f64 / run.elapsed.as_secs_f64()
            }),
            p50_us: latency_us(0.5),
            p99_us: latency_us(0.99),
            p999_us: latency_us(0.999),
            max_us: latency_us(1.0),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    const HEADINGS: [&str; 11] = [
        "server",
        "CPUs",
        "p50 µs",
        "beside",
        "×",
        "p99 µs",
        "beside",
        "×",
        "p99.9 µs",
        "beside",
        "×",
    ];
    let line = |row: &Row| {
        let subject = [row.peer.clone(), row.server_cpus.to_string()];
        let latencies = [&row.p50_us, &row.p99_us, &row.p999_us];
        let latencies = latencies.into_iter().flat_map(Compared::cells);
        subject.into_iter().chain(latencies).collect()
    };
    Table::new(&HEADINGS, rows.iter().map(line))
}
