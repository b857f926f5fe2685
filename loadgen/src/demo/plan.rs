//! What the demonstration measures.

use std::fmt;
use std::time::Duration;

use crate::load::arrival::Arrival;
use crate::load::generator::{Arrivals, Part, Plan};
use crate::load::work::Workload;
use crate::results::Protocol;

/// A row of the table to be.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) transport: Transport,
    pub(super) mode: Mode,
    pub(super) load: Load,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) address: String,
    pub(super) conns: usize,
    pub(super) depth: usize,
    /// Calls per second; `None` in a closed loop.
    pub(super) rate_per_s: Option<f64>,
    pub(super) measure: Duration,
}

impl Load {
    /// The same for the generator, with one thread.
    pub(super) fn plan(&self, cpu: Option<usize>, server_pid: u32) -> Plan {
        Plan {
            protocol: Protocol::Ringcall,
            address: self.address.clone(),
            workload: Workload::echo(PAYLOAD_BYTES as u32),
            arrivals: match self.rate_per_s {
                Some(rate_per_s) => Arrivals::Open {
                    arrival: Arrival::Poisson,
                    rate_per_s,
                },
                None => Arrivals::Closed {
                    callers: self.conns * self.depth,
                },
            },
            conns: self.conns,
            depth: self.depth,
            churn_calls: None,
            warmup: WARM_UP,
            duration: self.measure,
            timeout: CALL_TIMEOUT,
            keeps_going: false,
            interval: self.measure,
            cpus: vec![cpu],
            seed: SEED,
            server_pid: Some(server_pid),
            part: Part::WHOLE,
            limits_ns: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One call after the other.
    Closed,
    /// Many connections with many calls each.
    ClosedPipelined,
    /// At times that were fixed before.
    Open,
}

impl Transport {
    /// As it stands in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        }
    }
}

impl Mode {
    /// As it stands in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClosedPipelined => "closed-pipelined",
            Self::Open => "open",
        }
    }

    fn shape(self) -> (usize, usize, Option<f64>) {
        match self {
            Self::Closed => (1, 1, None),
            Self::ClosedPipelined => (16, 16, None),
            Self::Open => (16, 64, Some(OPEN_RATE_PER_S)),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed loop",
            Self::ClosedPipelined => "closed loop, pipelined",
            Self::Open => "open loop, Poisson",
        })
    }
}

impl Step {
    /// Time that it takes.
    pub(super) fn duration(&self) -> Duration {
        WARM_UP + self.load.measure
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.transport.name(), self.mode)
    }
}

/// All rows, sharing the time; the addresses are those of the two transports.
pub(super) fn steps(addresses: [(Transport, &str); 2], measure_in_all: Duration) -> Vec<Step> {
    let modes = [Mode::Closed, Mode::ClosedPipelined, Mode::Open];
    let count = (addresses.len() * modes.len()) as u32;
    let step = |transport, address: &str, mode: Mode| {
        let (conns, depth, rate_per_s) = mode.shape();
        Step {
            transport,
            mode,
            load: Load {
                address: address.to_owned(),
                conns,
                depth,
                rate_per_s,
                measure: measure_in_all / count,
            },
        }
    };
    let of_transport = |(transport, address)| modes.map(|mode| step(transport, address, mode));
    addresses.into_iter().flat_map(of_transport).collect()
}

/// Bytes that each call carries there and back.
pub(super) const PAYLOAD_BYTES: usize = 64;
/// Connections are made and caches filled in this time of each row.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);
/// Well below what one CPU serves, so that the response times are those of a server at ease.
const OPEN_RATE_PER_S: f64 = 20_000.0;
/// The same calls at the same times, each time.
const SEED: u64 = 1;
/// Time after which a call has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
