//! Runs the peers against each other, alternated.

use std::io;

use crate::cell::Cell;
use crate::client::{Client, Outcome, Plan};
use crate::cpu::{Placement, Usage};
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
    /// One outcome per round, in the order of time.
    pub outcomes: Vec<Outcome>,
    /// What its servers counted, one per round.
    pub counters: Vec<Counters>,
}

/// One run of each peer, right after each other.
type Round = Vec<(Outcome, Counters)>;

impl Runner {
    /// Runs A B A B …, each time with a fresh server process, so that neither what else the
    /// machine does nor where a process landed in memory falls on one peer alone.
    ///
    /// A round in which other processes used the CPUs is repeated, up to a limit; then those
    /// count that were disturbed least. What decides is CPU time, never the result. `tell` hears of
    /// each outcome. Also returned: how many rounds do not count.
    pub fn measure(
        &self,
        client: &mut Client,
        transport: Transport,
        plan: &Plan,
        mut tell: impl FnMut(&str, &Outcome),
    ) -> io::Result<(Vec<Series>, usize)> {
        let mut all = self.empty_series();
        let mut rounds: Vec<Round> = Vec::new();
        let mut calm = 0;
        while calm < self.runs && rounds.len() < self.runs * ROUNDS_PER_RUN_MAX {
            let mut round = Round::new();
            for (peer, series) in self.peers.iter().zip(&all) {
                let (outcome, counters) = self
                    .run_once(client, *peer, transport, plan)
                    .map_err(|error| in_context(&series.peer, plan.cell, &error))?;
                tell(&series.peer, &outcome);
                round.push((outcome, counters));
            }
            calm += usize::from(round.iter().all(|(outcome, _)| outcome.load.is_calm));
            rounds.push(round);
        }
        let replaced = rounds.len() - self.runs;
        for round in least_disturbed(rounds, self.runs) {
            for (series, (outcome, counters)) in all.iter_mut().zip(round) {
                series.outcomes.push(outcome);
                series.counters.push(counters);
            }
        }
        Ok((all, replaced))
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
        let usage = || Usage::now(server.pid(), self.placement);
        let outcome = client.run(plan, peer, server.address(), &usage)?;
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

/// The `count` rounds whose worst run was disturbed least, still in the order of time.
fn least_disturbed(rounds: Vec<Round>, count: usize) -> Vec<Round> {
    let disturbance = |round: &Round| {
        let shares = round.iter().map(|(outcome, _)| outcome.load.others);
        shares.flatten().fold(0.0, f64::max)
    };
    let mut order: Vec<(usize, Round)> = rounds.into_iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| disturbance(a).total_cmp(&disturbance(b)));
    order.truncate(count);
    order.sort_by_key(|(time, _)| *time);
    order.into_iter().map(|(_, round)| round).collect()
}

fn in_context(peer: &str, cell: Cell, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{peer} at {cell}: {error}"))
}

/// Rounds that are tried for each that counts.
const ROUNDS_PER_RUN_MAX: usize = 3;
