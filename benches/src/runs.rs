//! Runs the peers against each other, alternated.

use std::io;

use crate::cell::Cell;
use crate::client::{Client, Outcome, Plan};
use crate::cpu::Placement;
use crate::servers::process::{ServerProcess, Transport};
use crate::servers::{Counters, Peer};

/// Everything that stays the same for all runs.
pub struct Runner {
    /// The command of this program that runs a server.
    pub subcommand: &'static str,
    /// The peers, the baseline first. One named twice shows the noise of the machine.
    pub peers: Vec<&'static dyn Peer>,
    /// Runs of each peer.
    pub runs: usize,
    /// Where the two sides are pinned; `None` for nowhere.
    pub placement: Option<Placement>,
}

/// One peer's part of a measurement.
pub struct Series {
    /// The peer's name, numbered when it takes part twice.
    pub peer: String,
    /// One outcome per run, in the order of time.
    pub outcomes: Vec<Outcome>,
    /// What its servers counted, one per run.
    pub counters: Vec<Counters>,
}

impl Runner {
    /// Runs A B A B …, each time with a fresh server process, so that neither what else the
    /// machine does nor where a process landed in memory falls on one peer alone. `tell` hears of
    /// each outcome.
    pub fn measure(
        &self,
        client: &mut Client,
        transport: Transport,
        plan: &Plan,
        mut tell: impl FnMut(&str, usize, &Outcome),
    ) -> io::Result<Vec<Series>> {
        let mut all = self.empty_series();
        for run in 0..self.runs {
            for (peer, series) in self.peers.iter().zip(&mut all) {
                let (outcome, counters) = self
                    .run_once(client, *peer, transport, plan)
                    .map_err(|error| in_context(&series.peer, plan.cell, &error))?;
                tell(&series.peer, run, &outcome);
                series.outcomes.push(outcome);
                series.counters.push(counters);
            }
        }
        Ok(all)
    }

    fn run_once(
        &self,
        client: &mut Client,
        peer: &dyn Peer,
        transport: Transport,
        plan: &Plan,
    ) -> io::Result<(Outcome, Counters)> {
        let cpu = self.placement.map(|placement| placement.server);
        let server = ServerProcess::start(self.subcommand, peer, transport, plan.cell.idle, cpu)?;
        let outcome = client.run(plan, peer, server.address(), &|| server.cpu_time())?;
        Ok((outcome, server.stop()?))
    }

    fn empty_series(&self) -> Vec<Series> {
        let label = |index: usize, peer: &&dyn Peer| {
            let earlier = self.peers[..index].iter();
            match earlier.filter(|other| other.name() == peer.name()).count() {
                0 => peer.name().to_owned(),
                repeats => format!("{}#{}", peer.name(), repeats + 1),
            }
        };
        let series = |(index, peer)| Series {
            peer: label(index, peer),
            outcomes: Vec::with_capacity(self.runs),
            counters: Vec::with_capacity(self.runs),
        };
        self.peers.iter().enumerate().map(series).collect()
    }
}

fn in_context(peer: &str, cell: Cell, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{peer} at {cell}: {error}"))
}
