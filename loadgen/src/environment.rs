//! `loadgen env`: what this machine offers, and what is wrong with it for measuring. Manifests take
//! theirs from here.

use std::fs::read_to_string;

use ringcall::{Environment, IoUring, ResourceLimit};
use serde::Serialize;

use crate::cli::{EnvArgs, Format};
use crate::failure::Failure;
use crate::results::{Build, Isolation, LimitPair, Machine, Uring};
use crate::target::placement::parse_list;
use crate::{print, print_json};

/// Looks and prints.
///
/// # Errors
/// When standard output can't be written to.
pub fn run(args: &EnvArgs) -> Result<(), Failure> {
    let environment = ringcall::environment();
    match args.format {
        Format::Text => {
            let mut text = environment.to_string();
            let machine = machine_of(&environment);
            text += &format!("clock         {}\n", known(machine.clock_source.as_deref()));
            text += &format!("isolated CPUs {}\n", list(&machine.isolation.isolated_cpus));
            text += &format!("tickless CPUs {}\n", list(&machine.isolation.tickless_cpus));
            let caveats = caveats_of(&machine);
            if !caveats.is_empty() {
                text += "\nFor measuring:\n";
            }
            for caveat in caveats {
                text += &format!("- {caveat}\n");
            }
            print(&text)?;
        }
        Format::Json => print_json(&Report::new(&environment))?,
    }
    Ok(())
}

/// The machine, as manifests describe it.
pub fn machine() -> Machine {
    machine_of(&ringcall::environment())
}

/// What a reader of figures from this machine must know.
pub fn caveats() -> Vec<String> {
    caveats_of(&machine())
}

fn machine_of(environment: &Environment) -> Machine {
    let cpus_in =
        |path| read_to_string(path).map_or_else(|_| Vec::new(), |list| parse_list(list.trim()));
    let flags = read_to_string("/proc/cpuinfo").unwrap_or_default();
    Machine {
        kernel: environment.kernel.clone(),
        cpu_model: environment.cpu_model.clone(),
        cpus_allowed: environment.cpus.clone(),
        quota_cpus: environment.quota_cpus,
        governor: environment.governor.clone(),
        clock_source: read_to_string(CLOCK_SOURCE)
            .ok()
            .map(|name| name.trim().to_owned()),
        isolation: Isolation {
            isolated_cpus: cpus_in("/sys/devices/system/cpu/isolated"),
            tickless_cpus: cpus_in("/sys/devices/system/cpu/nohz_full"),
            is_virtual: flags.split_whitespace().any(|flag| flag == "hypervisor"),
        },
        memlock_bytes: environment.memlock.into(),
        nofile: environment.nofile.into(),
        io_uring: Uring::from(&environment.io_uring),
    }
}

fn caveats_of(machine: &Machine) -> Vec<String> {
    let mut caveats = Vec::new();
    if machine.isolation.is_virtual {
        caveats.push(
            "this is a virtual machine: its host may take CPUs away for milliseconds, which shows in the tail; compare \
             `loadgen selftest`"
                .into(),
        );
    }
    if machine.isolation.isolated_cpus.is_empty() {
        caveats.push(
            "no CPU is isolated: other programs and the kernel's own work share those that measure; boot with \
             isolcpus= and nohz_full= for quiet ones"
                .into(),
        );
    }
    match machine.clock_source.as_deref() {
        Some("tsc" | "arch_sys_counter") | None => (),
        Some(other) => caveats.push(format!(
            "the kernel keeps time with {other}, so each look at the clock may be a system call; tsc is quicker"
        )),
    }
    if cfg!(debug_assertions) {
        caveats.push(
            "this is a debug build: its figures mean nothing; use cargo run --release".into(),
        );
    }
    caveats
}

/// The program that measures.
pub fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION").into(),
        commit: env!("LOADGEN_COMMIT").into(),
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
        .into(),
        rustc: RUSTC.into(),
    }
}

/// The compiler that built this program.
pub const RUSTC: &str = env!("LOADGEN_RUSTC");

/// The time, RFC 3339 in UTC.
pub fn now_utc() -> String {
    jiff::Timestamp::now().to_string()
}

/// `2026-11-21T04:02:14.25Z` as `2026-11-21 04:02:14 UTC`.
pub fn to_the_second(utc: &str) -> String {
    let whole = utc.split('.').next().unwrap_or(utc);
    format!("{} UTC", whole.trim_end_matches('Z').replace('T', " "))
}

/// The arguments of this process, without what is nobody's business: of paths only the last part,
/// and no host but this one.
pub fn arguments() -> Vec<String> {
    std::env::args()
        .skip(1)
        .map(|argument| redacted(&argument))
        .collect()
}

/// Without what is nobody else's business: names of hosts and folders. `HOST` and `DIR` stand for them.
fn redacted(argument: &str) -> String {
    if let Some((option, value)) = argument.split_once('=')
        && option.starts_with("--")
    {
        return format!("{option}={}", redacted(value));
    }
    if argument.starts_with("tcp://") || argument.starts_with("unix:") {
        let addresses = argument.split(',').map(redacted_address);
        return addresses.collect::<Vec<_>>().join(",");
    }
    match argument.rsplit_once('/') {
        Some((before, last)) => {
            let scheme = before.split_once(':').map_or("", |(scheme, _)| scheme);
            let colon = if scheme.is_empty() { "" } else { ":" };
            format!("{scheme}{colon}DIR/{last}")
        }
        None => argument.to_owned(),
    }
}

fn redacted_address(address: &str) -> String {
    if let Some(address) = address.strip_prefix("tcp://") {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let is_here = host.starts_with("127.") || host == "localhost" || host == "[::1]";
        let host = if is_here { host } else { "HOST" };
        return format!("tcp://{host}:{port}");
    }
    match address.rsplit_once('/') {
        Some((_, last)) => format!("unix:DIR/{last}"),
        None => address.to_owned(),
    }
}

fn known(text: Option<&str>) -> &str {
    text.unwrap_or("unknown")
}

fn list(cpus: &[usize]) -> String {
    if cpus.is_empty() {
        return "none".into();
    }
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    cpus.join(" ")
}

/// The environment as it is written in JSON.
#[derive(Serialize)]
struct Report {
    kernel: Option<String>,
    cpu_model: Option<String>,
    cpus: Vec<usize>,
    quota_cpus: Option<f64>,
    governor: Option<String>,
    clock_source: Option<String>,
    isolation: Isolation,
    memlock_bytes: LimitPair,
    nofile: LimitPair,
    io_uring: Uring,
    advice: Vec<String>,
    caveats: Vec<String>,
}

impl Report {
    fn new(environment: &Environment) -> Self {
        let machine = machine_of(environment);
        let caveats = caveats_of(&machine);
        Self {
            kernel: machine.kernel,
            cpu_model: machine.cpu_model,
            cpus: machine.cpus_allowed,
            quota_cpus: machine.quota_cpus,
            governor: machine.governor,
            clock_source: machine.clock_source,
            isolation: machine.isolation,
            memlock_bytes: machine.memlock_bytes,
            nofile: machine.nofile,
            io_uring: machine.io_uring,
            advice: environment.advice.clone(),
            caveats,
        }
    }
}

impl From<ResourceLimit> for LimitPair {
    fn from(limit: ResourceLimit) -> Self {
        Self {
            soft: limit.soft,
            hard: limit.hard,
        }
    }
}

impl From<&IoUring> for Uring {
    fn from(io_uring: &IoUring) -> Self {
        match io_uring.clone() {
            IoUring::Usable { features } => Self::Usable { features },
            IoUring::Refused {
                failure,
                cause,
                remedy,
            } => Self::Refused {
                failure,
                cause,
                remedy,
            },
        }
    }
}

const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_no_fractions() {
        let expected = "2026-11-21 04:02:14 UTC";
        assert_eq!(to_the_second("2026-11-21T04:02:14.25Z"), expected);
        assert_eq!(to_the_second("2026-11-21T04:02:14Z"), expected);
    }

    #[test]
    fn arguments_keep_neither_paths_nor_hosts() {
        assert_eq!(redacted("--out=/home/ada/results"), "--out=DIR/results");
        assert_eq!(redacted("/home/ada/results"), "DIR/results");
        assert_eq!(redacted("unix:/run/ada/x.sock"), "unix:DIR/x.sock");
        assert_eq!(redacted("unix:@name"), "unix:@name");
        assert_eq!(redacted("trace:/home/ada/t.txt"), "trace:DIR/t.txt");
        let agents = "tcp://a.example.org:1,tcp://b.example.org:2";
        assert_eq!(redacted(agents), "tcp://HOST:1,tcp://HOST:2");
        assert_eq!(redacted("tcp://db7.example.org:7411"), "tcp://HOST:7411");
        assert_eq!(redacted("tcp://127.0.0.1:7411"), "tcp://127.0.0.1:7411");
        assert_eq!(redacted("p99<500us"), "p99<500us");
    }
}
