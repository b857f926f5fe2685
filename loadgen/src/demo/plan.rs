//! What the demonstration measures.

use std::fmt;
use std::time::Duration;

use crate::load::{Arrivals, Load};

/// A row of the table to be.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) transport: Transport,
    pub(super) mode: Mode,
    pub(super) load: Load,
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

    fn shape(self) -> (usize, usize, Arrivals) {
        match self {
            Self::Closed => (1, 1, Arrivals::Closed),
            Self::ClosedPipelined => (16, 16, Arrivals::Closed),
            Self::Open => (16, 64, OPEN_ARRIVALS),
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
        self.load.warm_up + self.load.measure
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
        let (conns, depth, arrivals) = mode.shape();
        Step {
            transport,
            mode,
            load: Load {
                address: address.to_owned(),
                conns,
                depth,
                arrivals,
                payload_bytes: PAYLOAD_BYTES,
                warm_up: WARM_UP,
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
const OPEN_ARRIVALS: Arrivals = Arrivals::Poisson {
    per_second: 20_000.0,
    seed: 1,
};
