//! The command line.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ringcall::{Engine, Idle};

use crate::failure::Failure;
use crate::fleet::agent::{self, AgentArgs};
use crate::report::ReportArgs;
use crate::results::Protocol;
use crate::run::args::RunArgs;
use crate::study::args::{CompareArgs, SearchArgs, SweepArgs};
use crate::study::commands;
use crate::units::{parse_idle, parse_time};
use crate::{demo, environment, report, run, selftest, serve};

/// Load generator and sample server of ringcall
///
/// Without a subcommand it runs the demonstration.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: DemoArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the sample server on one CPU from another, for a few seconds (the default)
    ///
    /// Starts the sample server in a process of its own on the first CPU that this one may use,
    /// calls it from another CPU over TCP and over a unix socket, and prints a table: calls per
    /// second, latency, and CPU time of the server per call. With one CPU both share it.
    Demo(DemoArgs),
    /// Measure one load: latency from intended times, rate, and what the server needs for it
    ///
    /// Without --target it starts the sample server on a CPU of its own. The schedule is fixed
    /// before the first call; response times count from the times in it, so that neither a slow
    /// server nor a slow generator hides. Results are kept in a folder below --out.
    Run(Box<RunArgs>),
    /// Measure loads along an axis: rates, connections × depth, or shards
    ///
    /// Loads come in shuffled order, so that a machine that changes meanwhile does not look like an
    /// effect of the axis. Writes a report.
    Sweep(Box<SweepArgs>),
    /// Find the highest rate that meets an objective, and write the capacity report
    ///
    /// Doubles the rate until a load fails, halves the gap until it is 2 % wide, and confirms the
    /// answer. A load passes only if it is valid, at least 99 % of its calls were answered in time,
    /// and the upper 95 % confidence bound of the percentile meets the objective; one that does not
    /// is tried once more.
    Search(Box<SearchArgs>),
    /// Compare two servers, or two result folders: is B worse than A? Exit code 5 if it is
    ///
    /// Each round measures A, B, B, A or B, A, A, B, as a coin decides, so that the test is exact
    /// whatever the machine does. Without --against, A is compared with itself: that shows the noise
    /// floor of the machine.
    Compare(Box<CompareArgs>),
    /// Serve the sample services until SIGTERM or SIGINT
    ///
    /// Prints one line to standard output for each address, `listening tcp://127.0.0.1:43121`, then
    /// `memory ceiling 1412 MiB`: the most that peers can make it take, beside what it takes by itself
    /// and what its services keep. It logs to standard error as RUST_LOG says. On a signal it takes no new calls, finishes those
    /// in flight and exits with 0; a second signal ends it at once.
    ///
    /// Methods, types and errors of the services, for clients in any language, are listed in the
    /// appendix "sample services" of docs/PROTOCOL.md.
    ///
    /// One shard runs on each CPU that the process may use, by its affinity mask (`taskset`) and
    /// its control group's quota.
    Serve(ServeArgs),
    /// Build the report of result folders again: report.html, report.md and plots
    ///
    /// Prints where report.html is. Points of further folders fill parts that the first has no
    /// measurements for, such as a sweep over shards.
    Report(ReportArgs),
    /// Make calls for a coordinator on another host: `run --agents` and the studies
    ///
    /// Prints where it listens, and serves one coordinator at a time until SIGTERM or SIGINT. It ends
    /// a load whose coordinator is silent for 5 s.
    Agent(AgentArgs),
    /// Try the generator itself: its highest rate here, its arrivals, its clock, and how still the
    /// machine is
    ///
    /// Starts the sample server on one CPU as a target that does nothing, and loads it from another.
    Selftest(SelftestArgs),
    /// Say what this machine offers, and what to do about what is missing
    Env(EnvArgs),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 2 wrong command line, 3 an objective was not met, \
    4 the measurement is invalid, 5 a regression was found, 1 any other failure.";

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// With words for the user.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            None => demo::run(&self.demo),
            Some(Command::Demo(args)) => demo::run(&args),
            Some(Command::Run(args)) => run::run(&args),
            Some(Command::Sweep(args)) => commands::sweep(&args),
            Some(Command::Search(args)) => commands::search(&args),
            Some(Command::Compare(args)) => commands::compare(&args),
            Some(Command::Serve(args)) => serve::run(&args),
            Some(Command::Report(args)) => report::run(&args),
            Some(Command::Agent(args)) => agent::run(&args),
            Some(Command::Selftest(args)) => selftest::run(&args),
            Some(Command::Env(args)) => environment::run(&args),
        }
    }
}

/// Options of `loadgen demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// How to print the results; progress goes to standard error
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Time to measure, shared by all rows of the table; warm-up comes on top
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
}

/// Options of `loadgen serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Addresses to listen on: tcp://HOST:PORT (0: a free port), unix:/PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", required = true, num_args = 1..)]
    pub(crate) listen: Vec<String>,
    /// Number of shards [default: one for each CPU]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<NonZeroUsize>,
    /// What moves the bytes; auto is uring where it is allowed, else epoll
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineName,
    /// What an idle shard does: park (sleep at once), spin (never sleep), or spin:TIME (look for
    /// work that long, then sleep)
    #[arg(long, value_name = "HOW", default_value = "spin:50us", value_parser = parse_idle)]
    pub(crate) idle: Idle,
    /// Memory that peers may make each shard hold, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory_per_shard: Option<usize>,
    /// Connections that each shard accepts at once
    #[arg(long, value_name = "N")]
    pub(crate) connections_max: Option<NonZeroUsize>,
    /// What to speak: ringcall, or gRPC by tonic with one runtime per shard, for comparison
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: Protocol,
    /// Whether each shard stays on a CPU of its own
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub(crate) pin: bool,
    /// End also when standard input ends, so that a parent process never leaves it behind
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

impl ServeArgs {
    pub(crate) fn engine(&self) -> Engine {
        match self.engine {
            EngineName::Auto => Engine::Auto,
            EngineName::Uring => Engine::Uring,
            EngineName::Epoll => Engine::Epoll,
        }
    }
}

/// Options of `loadgen selftest`.
#[derive(Args, Debug)]
pub struct SelftestArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Time for each of its loads
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
}

/// Options of `loadgen env`.
#[derive(Args, Debug)]
pub struct EnvArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// How results are printed to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object, and nothing else
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    Auto,
    Uring,
    Epoll,
}

/// A number of bytes, or of KiB, MiB or GiB.
fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: Option<usize> = match &text[digits.len()..] {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let size = digits.parse().ok().zip(unit);
    size.and_then(|(count, unit): (usize, usize)| count.checked_mul(unit))
        .ok_or_else(|| "use a number of bytes, KiB, MiB or GiB, such as 256MiB".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = parse_time(text).filter(|time| (DURATION_MIN..=DURATION_MAX).contains(time));
    time.ok_or_else(|| {
        format!("use a time from {DURATION_MIN:?} to {DURATION_MAX:?}, such as 8s or 500ms")
    })
}

const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_bounded() {
        assert_eq!(parse_duration("2.5s"), Ok(Duration::from_millis(2500)));
        for wrong in ["0s", "-1s", "8", "nans", "infs", "61m", "x", ""] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_demonstration_is_the_default() {
        let alone = Cli::try_parse_from(["loadgen", "--format", "json"]).unwrap();
        assert!(alone.command.is_none() && alone.demo.format == Format::Json);
        let named = Cli::try_parse_from(["loadgen", "demo", "--duration", "1s"]).unwrap();
        assert!(matches!(named.command, Some(Command::Demo(_))));
    }
}
