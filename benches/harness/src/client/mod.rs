//! The one client that drives every server.
//!
//! It is built to cost less than any server, so that the server is what is measured: request
//! frames are encoded before the run, and a call costs the client a patched call id, a check of the
//! answer's header and one count in a histogram. Payloads that come back are not read.
//!
//! Every call is recorded, none is sampled. The clock is read once per turn of the loop: a call's
//! time runs from the turn that queued it to the turn that saw its answer. The reading comes before
//! the turn's work, so the client's own handling counts as latency, for every server alike.

mod calls;
mod frames;
pub(crate) mod handshake;
pub(crate) mod recorder;
mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::address::Address;
use crate::cell::Cell;
use crate::cpu::{CpuLoad, CpuUsage};
use crate::descriptors;
use crate::servers::Frames;
use crate::uring;
use crate::uring::buffers::Buffers;
use crate::uring::ring::{Completions, Ring};
use crate::wire::Answer;
use crate::work::Work;

/// Drives servers that take frames. Its ring is made for the first run and used for all: peers that
/// have clients of their own can be measured where io_uring is forbidden.
#[derive(Default)]
pub struct Client {
    io: Option<Io>,
}

/// A ring with its buffers.
struct Io {
    ring: Ring,
    buffers: Buffers,
    completions: Completions,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections, depth, and how the loop waits.
    pub cell: Cell,
    /// What is asked.
    pub work: Work,
    /// When calls are made.
    pub arrivals: Arrivals,
    /// Time that is driven but not measured.
    pub warm_up: Duration,
    /// Time that is measured.
    pub measured: Duration,
}

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Each caller calls again as soon as it has its answer.
    Closed,
    /// At times that were fixed before, whatever the answers do: as independent users call. Only
    /// clients of a peer's own can do so.
    Open(Open),
}

/// A stream of calls of which a few are slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open {
    /// Mean rate of a Poisson process.
    pub calls_per_s: f64,
    /// Share of calls that hold the server's CPU.
    pub slow_share: f64,
    /// How long they hold it.
    pub slow_us: u32,
    /// The same seed gives the same calls at the same times.
    pub seed: u64,
}

/// Reads the CPU times of both sides; called at the begin and at the end of the measured time.
pub type ReadUsage<'a> = &'a dyn Fn() -> io::Result<CpuUsage>;

/// What one run measured.
#[derive(Debug)]
pub struct Outcome {
    /// Calls answered in the measured time.
    pub calls: u64,
    /// The measured time, as the clock had it.
    pub elapsed: Duration,
    /// Latency of each of these calls, in nanoseconds. In an open loop it counts from the time at
    /// which a call was due, and calls that were made slow on purpose are left out.
    pub latency_ns: Histogram<u64>,
    /// Who used the CPUs in that time.
    pub load: CpuLoad,
}

impl Client {
    /// A client without a ring as yet. Make one per process: the ring's buffers are never freed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects to a server of this kind, drives it, and disconnects.
    pub fn run(
        &mut self,
        plan: &Plan,
        peer: &dyn Frames,
        address: &Address,
        usage: ReadUsage<'_>,
    ) -> io::Result<Outcome> {
        if plan.arrivals != Arrivals::Closed {
            return Err(io::Error::other("this client only knows closed loops"));
        }
        let answer_bytes = Answer::frame_bytes(peer.answer_bytes(plan.work)?);
        let io = match &mut self.io {
            Some(made) => made,
            none => none.insert(Io::new()?),
        };
        let mut session = session::Session::new(io, plan.cell, answer_bytes);
        for connection in 0..plan.cell.connections {
            let socket = address.connect().map_err(descriptors::explain)?;
            let answers = handshake::run(&socket, peer)?;
            let numbers = connection * plan.cell.depth..(connection + 1) * plan.cell.depth;
            let requests = numbers.map(|number| peer.request(plan.work, number, &answers));
            session.add(socket, &requests.collect::<io::Result<Vec<_>>>()?)?;
        }
        session.drive(plan, usage)
    }
}

impl Io {
    fn new() -> io::Result<Self> {
        let make = || {
            let ring = Ring::new()?;
            let buffers = Buffers::register(&ring)?;
            Ok(Self {
                ring,
                buffers,
                completions: Completions::new(),
            })
        };
        make().map_err(|error| {
            let why = uring::explain(error);
            io::Error::new(
                why.kind(),
                format!(
                    "the client that drives this server needs a ring: {why}; tonic and tarpc come with \
                     clients that do without one"
                ),
            )
        })
    }
}
