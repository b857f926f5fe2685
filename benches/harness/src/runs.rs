//! Runs the peers against each other, alternated.

use std::io;
use std::time::{Duration, Instant};

use crate::client::{Arrivals, Client, Outcome, Plan, ReadUsage};
use crate::count::page::Page;
use crate::count::{Counting, PerCall};
use crate::cpu::{Placement, Usage};
use crate::point::Point;
use crate::servers::process::{ServerProcess, Start};
use crate::servers::{Caller, Counters, Peer};

/// Everything that stays the same for all runs.
pub struct Runner {
    /// The peers. One named twice shows the noise of the machine.
    pub peers: Vec<&'static dyn Peer>,
    /// Runs of each peer.
    pub runs: usize,
    /// Time before each run that is driven but not measured.
    pub warm_up: Duration,
    /// Measured time of each run.
    pub measured: Duration,
    /// Whether allocations and system calls are counted, in a run of their own.
    pub counts: bool,
    /// Where the two sides are pinned; `None` for nowhere.
    pub placement: Option<Placement>,
    /// When disturbed rounds are no longer replaced, so that the whole ends in time.
    pub replace_until: Instant,
}

/// One peer's part of a measurement.
pub struct Series {
    /// The peer's name, numbered when it takes part twice.
    pub peer: String,
    /// One outcome per round, in the order of time.
    pub outcomes: Vec<Outcome>,
    /// What its servers counted, one per round.
    pub counters: Vec<Counters>,
    /// What a call costs besides time, if it was counted.
    pub per_call: Option<PerCall>,
}

/// One run of each peer, right after each other.
type Round = Vec<(Outcome, Counters)>;

/// A peer that takes part, and its name in the tables.
struct Entrant {
    peer: &'static dyn Peer,
    label: String,
}

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
        point: Point,
        mut tell: impl FnMut(&str, &Outcome),
    ) -> io::Result<(Vec<Series>, usize)> {
        let entrants = self.entrants(point);
        let mut rounds: Vec<Round> = Vec::new();
        let mut calm = 0;
        while rounds.len() < self.runs || (calm < self.runs && self.may_replace(rounds.len())) {
            let mut round = Round::new();
            for entrant in &entrants {
                let (outcome, counters) = self
                    .run_once(client, entrant.peer, point)
                    .map_err(|error| entrant.in_context(point, &error))?;
                tell(&entrant.label, &outcome);
                round.push((outcome, counters));
            }
            calm += usize::from(round.iter().all(|(outcome, _)| outcome.load.is_calm));
            rounds.push(round);
        }
        let replaced = rounds.len() - self.runs;
        let mut all = self.count_each(client, &entrants, point)?;
        for round in least_disturbed(rounds, self.runs) {
            for (series, (outcome, counters)) in all.iter_mut().zip(round) {
                series.outcomes.push(outcome);
                series.counters.push(counters);
            }
        }
        Ok((all, replaced))
    }

    fn may_replace(&self, rounds: usize) -> bool {
        rounds < self.runs * ROUNDS_PER_RUN_MAX && Instant::now() < self.replace_until
    }

    fn run_once(
        &self,
        client: &mut Client,
        peer: &dyn Peer,
        point: Point,
    ) -> io::Result<(Outcome, Counters)> {
        let server = ServerProcess::start(peer, &self.start(point, None))?;
        let usage = || Usage::now(server.pid(), self.placement);
        let plan = self.plan(point, self.measured);
        let outcome = drive(client, peer, &server, &plan, &usage)?;
        Ok((outcome, server.stop()?))
    }

    fn start<'a>(&'a self, point: Point, counters: Option<&'a Page>) -> Start<'a> {
        let cpus = self
            .placement
            .as_ref()
            .map_or(&[][..], |placement| std::slice::from_ref(&placement.server));
        Start {
            point,
            cpus,
            counters,
        }
    }

    fn plan(&self, point: Point, measured: Duration) -> Plan {
        Plan {
            cell: point.cell,
            work: point.work,
            arrivals: Arrivals::Closed,
            warm_up: self.warm_up,
            measured,
        }
    }

    /// One more run of each peer, with its server counting. Its speed is of no interest.
    fn count_each(
        &self,
        client: &mut Client,
        entrants: &[Entrant],
        point: Point,
    ) -> io::Result<Vec<Series>> {
        let count = |entrant: &Entrant| {
            let per_call = self
                .counts
                .then(|| self.count_once(client, entrant.peer, point));
            Ok(Series {
                peer: entrant.label.clone(),
                outcomes: Vec::with_capacity(self.runs),
                counters: Vec::with_capacity(self.runs),
                per_call: per_call
                    .transpose()
                    .map_err(|error: io::Error| entrant.in_context(point, &error))?,
            })
        };
        entrants.iter().map(count).collect()
    }

    fn count_once(
        &self,
        client: &mut Client,
        peer: &dyn Peer,
        point: Point,
    ) -> io::Result<PerCall> {
        let page = Page::new()?;
        let server = ServerProcess::start(peer, &self.start(point, Some(&page)))?;
        let counting = Counting::new(&page, server.pid());
        let usage = || {
            counting.read()?;
            Usage::now(server.pid(), self.placement)
        };
        let plan = self.plan(point, COUNTED);
        let outcome = drive(client, peer, &server, &plan, &usage)?;
        server.stop()?;
        Ok(counting.per_call(outcome.calls))
    }

    /// The peers that take part at this point.
    fn entrants(&self, point: Point) -> Vec<Entrant> {
        let label = |index: usize, peer: &dyn Peer| {
            let earlier = self.peers[..index].iter();
            match earlier.filter(|other| other.name() == peer.name()).count() {
                0 => peer.name().to_owned(),
                repeats => format!("{}#{}", peer.name(), repeats + 1),
            }
        };
        let peers = self.peers.iter().enumerate();
        peers
            .filter(|(_, peer)| peer.takes_part(&point))
            .map(|(index, &peer)| Entrant {
                peer,
                label: label(index, peer),
            })
            .collect()
    }
}

impl Entrant {
    fn in_context(&self, point: Point, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{} at {point}: {error}", self.label))
    }
}

/// Drives a server with the client that it wants.
pub fn drive(
    client: &mut Client,
    peer: &dyn Peer,
    server: &ServerProcess,
    plan: &Plan,
    usage: ReadUsage<'_>,
) -> io::Result<Outcome> {
    match peer.caller() {
        Caller::Frames(frames) => client.run(plan, frames, server.address(), usage),
        Caller::Own(own) => own.run(plan, server.address(), usage),
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

/// Rounds that are tried for each that counts.
const ROUNDS_PER_RUN_MAX: usize = 3;
/// Time in which allocations and system calls are counted.
const COUNTED: Duration = Duration::from_millis(150);
