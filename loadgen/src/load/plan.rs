//! What a load is.

use std::time::Duration;

use super::arrival::Arrival;
use super::work::Workload;
use crate::results::Protocol;

/// A load, as it was asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where the server listens.
    pub address: String,
    /// What calls ask for.
    pub workload: Workload,
    /// When calls are made.
    pub arrivals: Arrivals,
    /// Connections, over all threads; at least one for each.
    pub conns: usize,
    /// Most calls in flight on each connection.
    pub depth: usize,
    /// Calls after which a connection is replaced.
    pub churn_calls: Option<u64>,
    /// Time before the measurement, under the same load.
    pub warmup: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// Time after which a call has failed.
    pub timeout: Duration,
    /// Whether a server that can't be reached does not end the load.
    pub keeps_going: bool,
    /// Length of an interval.
    pub interval: Duration,
    /// A CPU for each thread. A thread without one gives its CPU away while nothing is due.
    pub cpus: Vec<Option<usize>>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Process of the server, if it is known and runs on this machine.
    pub server_pid: Option<u32>,
    /// Which part of the arrivals is this program's.
    pub part: Part,
    /// Response times in nanoseconds from which on a call is slow, for [`super::slices`]; usually none.
    pub limits_ns: Vec<u64>,
}

/// Which part of a load falls to one of several generators that share it. Connections and callers of
/// a [`Plan`] are already those of the part; rates and seeds are those of the whole, from which each
/// generator takes other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of the part, from 0.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// What falls to it of things that are counted.
    pub(crate) fn share(self, all: usize) -> usize {
        all / self.of + usize::from(self.number < all % self.of)
    }
}

/// When calls are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// At times that are fixed before.
    Open {
        /// How the times between calls are distributed.
        arrival: Arrival,
        /// Mean rate, over all threads; without meaning for a trace.
        rate_per_s: f64,
    },
    /// When the answer to the previous call has come.
    Closed {
        /// Callers over all threads.
        callers: usize,
    },
}

impl Plan {
    /// What is wrong with it.
    ///
    /// # Errors
    /// In words for the user.
    pub fn check(&self) -> Result<(), String> {
        if self.duration < TIME_MIN || self.interval < TIME_MIN || self.timeout < TIMEOUT_MIN {
            return Err(format!(
                "--duration and --interval take at least {TIME_MIN:?}, --timeout at least {TIMEOUT_MIN:?}"
            ));
        }
        match self.arrivals {
            Arrivals::Closed { callers: 0 } => {
                Err("--closed 0 calls nothing; use at least 1".into())
            }
            Arrivals::Closed { callers } if callers > self.conns * self.depth => Err(format!(
                "--closed has more callers than --conns × --depth = {} calls can be in flight; raise one of them",
                self.conns * self.depth
            )),
            Arrivals::Closed { .. } | Arrivals::Open { .. } => Ok(()),
        }
    }
}

/// A shorter window has no interval to speak of.
const TIME_MIN: Duration = Duration::from_millis(10);
/// Calls that take too long are found in steps of a millisecond.
const TIMEOUT_MIN: Duration = Duration::from_millis(5);
