//! `cargo bench --bench isolation`: what a few slow calls do to all the others.
//!
//! One call in a hundred holds the server's CPU for a millisecond. Calls come at times that were
//! fixed before (an open loop), and a call's time counts from when it was due, so waiting behind a
//! slow one is seen in full. That is the weak side of one thread per core: a call can only wait for
//! the thread that its connection belongs to.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use harness::cell::Cell;
use harness::client::{Arrivals, Client, Open, Outcome, Plan};
use harness::cpu::{self, Placement, Usage};
use harness::idle::Idle;
use harness::options::{self, Common, Effort};
use harness::point::Point;
use harness::progress::Progress;
use harness::report::environment::Environment;
use harness::report::row::Middle;
use harness::report::table::{Table, percent, rate, significant};
use harness::runs;
use harness::servers::process::{Serve, ServerProcess, Start, Transport};
use harness::servers::{self, Peer};
use harness::work::{Work, Workload};
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

#[derive(Subcommand)]
enum Command {
    /// Runs one server until standard input closes
    #[command(hide = true)]
    Serve(Serve),
}

const NAME: &str = "isolation";
/// How long a slow call holds the CPU.
const SLOW_US: u32 = 1000;
/// Share of calls that are slow, in the runs that have any.
const SLOW_SHARE: f64 = 0.01;
/// Calls per second and CPU of the server: all servers have time to spare, so that what calls wait
/// for is the slow ones.
const CALLS_PER_S_AND_CPU: f64 = 4000.0;
const CONNECTIONS: usize = 64;
/// CPUs of a server at most: one client must be able to keep it busy.
const SERVER_CPUS_MAX: usize = 8;

/// All that was found.
#[derive(Serialize)]
struct Report {
    environment: Environment,
    runs: usize,
    seconds: f64,
    slow_us: u32,
    rows: Vec<Row>,
}

/// The calls that were not slow, of one server. Medians over the runs.
#[derive(Serialize)]
struct Row {
    peer: String,
    server_cpus: usize,
    offered_calls_per_s: f64,
    slow_share: f64,
    answered_calls_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

/// A kind of run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    server_cpus: usize,
    peer: usize,
    has_slow: bool,
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
        Effort::Quick => (2, Duration::from_millis(500)),
        Effort::Usual => (5, Duration::from_secs(1)),
        Effort::Full => (11, Duration::from_secs(5)),
    };
    let settings = settings(options.peers.len())?;
    let mut outcomes: BTreeMap<Setting, Vec<Outcome>> = BTreeMap::new();
    let mut progress = Progress::new(runs);
    for run in 0..runs {
        progress.next(&format_args!("run {}", run + 1));
        for &setting in &settings {
            let peer = options.peers[setting.peer];
            let outcome = run_once(peer, setting, run as u64, measured)?;
            progress.tell(peer.name(), &outcome);
            outcomes.entry(setting).or_default().push(outcome);
        }
    }
    drop(progress);
    let rows = outcomes.iter().map(|(setting, outcomes)| {
        let peer = options.peers[setting.peer].name();
        Row::of(peer, *setting, outcomes)
    });
    let report = Report {
        environment: Environment::of(NAME, Placement::choose()?),
        runs,
        seconds: measured.as_secs_f64(),
        slow_us: SLOW_US,
        rows: rows.collect(),
    };
    options
        .common
        .publish(NAME, &report.to_markdown(), &report)?;
    options.common.say_how_to_get_more(NAME);
    Ok(())
}

/// Without slow calls and with them, on one CPU, and where there are more than two on all but the
/// client's.
fn settings(peers: usize) -> io::Result<Vec<Setting>> {
    let mut server_cpus = vec![1];
    let most = (cpu::allowed()?.len() - 1).min(SERVER_CPUS_MAX);
    if most > 1 {
        server_cpus.push(most);
    }
    let mut settings = Vec::new();
    for server_cpus in server_cpus {
        for has_slow in [false, true] {
            settings.extend((0..peers).map(|peer| Setting {
                server_cpus,
                peer,
                has_slow,
            }));
        }
    }
    Ok(settings)
}

fn run_once(
    peer: &dyn Peer,
    setting: Setting,
    seed: u64,
    measured: Duration,
) -> io::Result<Outcome> {
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
    let (server_cpus, client_cpu) = place(setting.server_cpus)?;
    let server = ServerProcess::start(
        peer,
        &Start {
            point,
            cpus: &server_cpus,
            counters: None,
        },
    )?;
    let plan = Plan {
        cell: point.cell,
        work: point.work,
        arrivals: Arrivals::Open(Open {
            calls_per_s: CALLS_PER_S_AND_CPU * setting.server_cpus as f64,
            slow_share: if setting.has_slow { SLOW_SHARE } else { 0.0 },
            slow_us: SLOW_US,
            seed,
        }),
        warm_up: Duration::from_millis(100),
        measured,
    };
    let usage = || Usage::now(server.pid(), None);
    // The client runs on a thread of its own, so that this one may start servers anywhere.
    let outcome = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            if let Some(cpu) = client_cpu {
                cpu::pin(&[cpu])?;
            }
            runs::drive(&mut Client::new(), peer, &server, &plan, &usage)
        });
        client.join().expect("the client does not panic")
    })?;
    server.stop()?;
    Ok(outcome)
}

/// CPUs of the server, and that of the client; nothing is pinned when there is only one.
fn place(server_cpus: usize) -> io::Result<(Vec<usize>, Option<usize>)> {
    let mut allowed = cpu::allowed()?;
    if allowed.len() <= server_cpus {
        return Ok((Vec::new(), None));
    }
    let client = allowed[server_cpus];
    allowed.truncate(server_cpus);
    Ok((allowed, Some(client)))
}

impl Row {
    fn of(peer: &str, setting: Setting, outcomes: &[Outcome]) -> Self {
        let over =
            |figure: &dyn Fn(&Outcome) -> f64| Middle::of(outcomes.iter().map(figure)).median;
        let quantile_us =
            |quantile: f64| over(&|run| run.latency_ns.value_at_quantile(quantile) as f64 / 1e3);
        Self {
            peer: peer.to_owned(),
            server_cpus: setting.server_cpus,
            offered_calls_per_s: CALLS_PER_S_AND_CPU * setting.server_cpus as f64,
            slow_share: if setting.has_slow { SLOW_SHARE } else { 0.0 },
            answered_calls_per_s: over(&|run| run.calls as f64 / run.elapsed.as_secs_f64()),
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            max_us: over(&|run| run.latency_ns.max() as f64 / 1e3),
        }
    }
}

impl Report {
    fn to_markdown(&self) -> String {
        const HEADINGS: [&str; 9] = [
            "server",
            "CPUs",
            "offered/s",
            "slow",
            "answered/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
        ];
        let mut table = Table::new(&HEADINGS, 1);
        for row in &self.rows {
            table.push([
                row.peer.clone(),
                row.server_cpus.to_string(),
                rate(row.offered_calls_per_s),
                percent(row.slow_share),
                rate(row.answered_calls_per_s),
                significant(row.p50_us),
                significant(row.p99_us),
                significant(row.p999_us),
                significant(row.max_us),
            ]);
        }
        format!(
            "{}\n\n{table}\nEcho calls of 64 bytes over {CONNECTIONS} TCP connections, at the times \
             of a Poisson process; a *slow* one holds the server's CPU for {} µs. All figures are of \
             the other calls, from the time at which they were due; medians of {} runs of {} s, \
             alternated. A server of several CPUs has the first ones, the client the next.\n",
            self.environment, self.slow_us, self.runs, self.seconds,
        )
    }
}
