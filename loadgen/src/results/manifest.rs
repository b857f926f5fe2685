//! `manifest.json`: what was asked for, and of which machine and build.

use serde::{Deserialize, Serialize};

/// What a measurement was, so that it can be judged and repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When the measurement began, RFC 3339 in UTC.
    pub started_utc: String,
    /// The last part of the folder's name.
    pub name: String,
    /// The subcommand: `run`, `sweep`, `search`, `compare`.
    pub study: String,
    /// The arguments, without the program's name; of paths only the last part.
    pub arguments: Vec<String>,
    /// Seed of schedules and of all other random choices.
    pub seed: u64,
    /// The program that measured.
    pub build: Build,
    /// The machine that it ran on.
    pub machine: Machine,
    /// Which CPUs did what.
    pub pinning: Pinning,
    /// The agents that made the calls, when it was not this machine.
    #[serde(default)]
    pub agents: Vec<AgentInfo>,
    /// The load of the first point; the points of a study differ from it in the columns of
    /// `points.csv`.
    pub load: LoadSettings,
    /// What a reader of the figures must know, as sentences.
    pub caveats: Vec<String>,
}

/// An agent that took part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its program.
    pub build: Build,
    /// Its machine.
    pub machine: Machine,
    /// A CPU for each of its threads.
    pub cpus: Vec<Option<usize>>,
}

/// The program that measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Version of the package.
    pub version: String,
    /// Short commit, with `-dirty` when anything but results was changed; `unknown` outside a
    /// repository.
    pub commit: String,
    /// `release` or `debug`.
    pub profile: String,
    /// The compiler; empty in folders of before it was noted.
    #[serde(default)]
    pub rustc: String,
}

/// What the figures depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// The processor's name for itself.
    pub cpu_model: Option<String>,
    /// CPUs in the affinity mask.
    pub cpus_allowed: Vec<usize>,
    /// CPUs' worth of time that the control groups allow, if they set a quota.
    pub quota_cpus: Option<f64>,
    /// Governor of the first allowed CPU; often unknown in virtual machines.
    pub governor: Option<String>,
    /// What the kernel keeps time with, such as `tsc`.
    pub clock_source: Option<String>,
    /// What keeps other work from the CPUs.
    pub isolation: Isolation,
    /// `RLIMIT_MEMLOCK` in bytes.
    pub memlock_bytes: LimitPair,
    /// `RLIMIT_NOFILE` in descriptors.
    pub nofile: LimitPair,
    /// io_uring.
    pub io_uring: Uring,
}

/// What keeps other work from the CPUs that measure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated_cpus: Vec<usize>,
    /// CPUs without a periodic tick (`nohz_full=`).
    pub tickless_cpus: Vec<usize>,
    /// Whether a hypervisor may take the CPUs away.
    pub is_virtual: bool,
}

/// A limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitPair {
    /// What holds now.
    pub soft: Option<u64>,
    /// What it may be raised to.
    pub hard: Option<u64>,
}

/// Whether io_uring can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Uring {
    /// It can.
    Usable {
        /// What the engine found.
        features: Vec<String>,
    },
    /// It can't.
    Refused {
        /// What failed, and the error.
        failure: String,
        /// The likely cause.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
}

/// Which CPUs did what; `None`: not pinned, or not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinning {
    /// A CPU for each thread of the generator.
    pub generator_cpus: Vec<Option<usize>>,
    /// The server's, if this program started it.
    pub server_cpus: Option<Vec<usize>>,
}

/// A load, as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadSettings {
    /// What is spoken.
    pub protocol: Protocol,
    /// `tcp` or `unix`.
    pub transport: String,
    /// Whether this program started the server, for this measurement alone.
    pub is_own_server: bool,
    /// The server's shards, where it told.
    pub server_shards: Option<u32>,
    /// What its shards do when they have nothing to do, if this program started it.
    pub server_idle: Option<String>,
    /// The methods and their shares.
    pub methods: Vec<MethodShare>,
    /// Open or closed loop.
    pub loop_kind: LoopKind,
    /// Times between calls, as on the command line: `uniform`, `poisson`, `gamma:2`, `trace`;
    /// `closed` for a closed loop.
    pub arrival: String,
    /// Calls per second, all methods and threads together; `None` in a closed loop.
    pub rate_per_s: Option<f64>,
    /// Callers of a closed loop.
    pub closed_callers: Option<u32>,
    /// Connections, over all threads.
    pub conns: u32,
    /// Most calls in flight on each connection.
    pub depth: u32,
    /// Calls after which a connection is replaced; `None`: never.
    pub churn_calls: Option<u64>,
    /// Sizes of payloads, as on the command line.
    pub payload: String,
    /// Service times asked of the server, as on the command line.
    pub service_time: Option<String>,
    /// Time before the measurement, under the same load.
    pub warmup_s: f64,
    /// Time that is measured.
    pub duration_s: f64,
    /// Time after which a call has failed.
    pub timeout_s: f64,
    /// Length of an interval of the time series.
    pub interval_s: f64,
    /// Threads of the generator.
    pub threads: u32,
    /// The objective, as on the command line.
    pub slo: Option<String>,
}

/// A method and how often it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodShare {
    /// Its name.
    pub method: String,
    /// Its share of all calls, from 0 to 1.
    pub share_ratio: f64,
}

/// What is spoken.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// This project's.
    #[default]
    Ringcall,
    /// gRPC, by tonic.
    Tonic,
}

/// Whether calls wait for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopKind {
    /// Calls come at times that were fixed before.
    Open,
    /// Each caller waits for its answer before it calls again.
    Closed,
}

impl std::fmt::Display for LoopKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open loop",
            Self::Closed => "closed loop",
        })
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ringcall => "ringcall",
            Self::Tonic => "tonic",
        })
    }
}
