//! What a load is, on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::Format;
use crate::load::arrival::Arrival;
use crate::load::generator::{Arrivals, Part, Plan};
use crate::load::work::Workload;
use crate::results::Protocol;
use crate::units::{parse_rate, parse_time};

/// Options of `loadgen run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// How to print the summary; progress goes to standard error
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// The load, the server, and where results go.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Server to call: tcp://HOST:PORT, unix:/PATH or unix:@NAME [default: start the sample server
    /// on another CPU]
    #[arg(long, value_name = "ADDR")]
    pub(crate) target: Option<String>,
    /// What to speak
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: Protocol,
    /// Methods of the samples and their shares: echo, hello, add, sum, get, put, spin, sleep
    #[arg(long, value_name = "MIX", default_value = "echo")]
    pub(crate) method: String,
    /// Calls per second over all threads, such as 20000, 20k or 1.5M
    #[arg(long, value_name = "R", default_value = "10k", value_parser = parse_rate)]
    pub(crate) rate: f64,
    /// Times between calls: uniform, poisson, gamma:CV, or trace:FILE with a time in seconds on each
    /// line, which takes the place of the rate
    #[arg(long, value_name = "HOW", default_value = "poisson", value_parser = str::parse::<Arrival>)]
    pub(crate) arrival: Arrival,
    /// Closed loop instead: so many callers, each of which waits for its answer
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "arrival"])]
    pub(crate) closed: Option<u32>,
    /// Connections over all threads
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) conns: u32,
    /// Most calls in flight on each connection; a call beyond waits, and its clock runs
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) depth: u32,
    /// Replace a connection after so many calls
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) churn: Option<u64>,
    /// Sizes of payloads: fixed:BYTES, lognormal:MEDIAN:SIGMA or bimodal:SMALL:LARGE:SHARE_OF_LARGE
    #[arg(long, value_name = "SIZES", default_value = "fixed:64")]
    pub(crate) payload: String,
    /// Time that spin and sleep take at the server: fixed:200us or exp:200us
    #[arg(long, value_name = "TIMES")]
    pub(crate) service_time: Option<String>,
    /// Time under load before the measurement; it is in no result
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) warmup: Duration,
    /// Time to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) duration: Duration,
    /// Time after which a call has failed
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) timeout: Duration,
    /// Length of an interval of the time series
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) interval: Duration,
    /// Go on when the server can't be reached, until it can be again: calls fail meanwhile, and are counted.
    /// Otherwise a load ends when that lasts for a second
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// CPUs for the load, one thread on each, such as 2,3; none: one thread that is not pinned
    /// [default: one CPU, apart from the server's]
    #[arg(long, value_name = "CPUS")]
    pub(crate) pin: Option<String>,
    /// Agents that make the calls instead of this machine, such as tcp://10.0.0.8:7500,tcp://10.0.0.9:7500;
    /// rate, connections and callers are those of all together, and --target is seen from them
    #[arg(long, value_name = "ADDRS", value_delimiter = ',', requires = "target", conflicts_with_all = ["pin", "server_pid"])]
    pub(crate) agents: Vec<String>,
    /// Shards of the server that is started
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "target", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) shards: u32,
    /// What a shard of that server does when it has nothing to do: park, spin, or spin:50us. Only with
    /// park is its CPU time that of calls alone
    #[arg(long, value_name = "HOW", default_value = "park", conflicts_with = "target", value_parser = idle)]
    pub(crate) idle: String,
    /// Seed: the same gives the same calls at the same times
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Objectives: p99<500us,err<0.01%. Exit code 3 when one is not met [default of `run`: err<1%]
    #[arg(long, value_name = "SLO")]
    pub(crate) slo: Option<String>,
    /// Process of the server, for its CPU time and memory, when it was started elsewhere
    #[arg(long, value_name = "PID", requires = "target")]
    pub(crate) server_pid: Option<u32>,
    /// Show rate, percentiles and histogram on the whole terminal while it runs
    #[arg(long)]
    pub(crate) tui: bool,
    /// Directory for the result folder
    #[arg(long, value_name = "DIR", default_value = "loadgen-results")]
    pub(crate) out: PathBuf,
    /// Last part of the result folder's name
    #[arg(long, value_name = "NAME", default_value = "run", value_parser = name)]
    pub(crate) name: String,
    /// Whether the loads of a study are closed loops, whatever these options say.
    #[arg(skip)]
    pub(crate) is_closed_study: bool,
}

impl LoadArgs {
    /// What calls ask for.
    ///
    /// # Errors
    /// In words for the user.
    pub(crate) fn workload(&self) -> Result<Workload, String> {
        Workload::parse(&self.method, &self.payload, self.service_time.as_deref())
    }

    /// When calls are made.
    pub(crate) fn arrivals(&self) -> Arrivals {
        match self.closed {
            Some(callers) => Arrivals::Closed {
                callers: callers as usize,
            },
            None => Arrivals::Open {
                arrival: self.arrival.clone(),
                rate_per_s: self.rate,
            },
        }
    }

    /// The load, on a server at an address, from so many threads.
    ///
    /// # Errors
    /// In words for the user.
    pub(crate) fn plan(
        &self,
        address: &str,
        cpus: Vec<Option<usize>>,
        server_pid: Option<u32>,
    ) -> Result<Plan, String> {
        let plan = Plan {
            protocol: self.protocol,
            address: address.to_owned(),
            workload: self.workload()?,
            arrivals: self.arrivals(),
            conns: (self.conns as usize).max(cpus.len()),
            depth: self.depth as usize,
            churn_calls: self.churn,
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            keeps_going: self.keep_going,
            interval: self.interval.min(self.duration),
            cpus,
            seed: self.seed,
            server_pid,
            part: Part::WHOLE,
            limits_ns: Vec::new(),
        };
        plan.check()?;
        if let (
            Arrivals::Open {
                arrival: Arrival::Trace(_),
                ..
            },
            [_, ..],
        ) = (&plan.arrivals, &self.agents[..])
        {
            return Err(
                "--agents and a trace don't go together: traces are files of this machine".into(),
            );
        }
        Ok(plan)
    }
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).ok_or_else(|| "use a time with its unit, such as 200us, 10ms or 5s".into())
}

fn idle(text: &str) -> Result<String, String> {
    crate::units::parse_idle(text).map(|_| text.to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("use up to 64 letters, digits, - and _".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_suffix() {
        assert_eq!(parse_rate("20000"), Ok(20_000.0));
        assert_eq!(parse_rate("20k"), Ok(20_000.0));
        assert_eq!(parse_rate("1.5M"), Ok(1_500_000.0));
        for wrong in ["", "k", "0", "-1", "nan", "1e99", "5x"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
