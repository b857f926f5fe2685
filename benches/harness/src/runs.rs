//! Runs the peers against each other, alternated.

use std::io;
use std::time::Duration;

use loadgen::target::placement::Placement;

use crate::client::{Arrivals, Client, Outcome, Plan, ReadUsage};
use crate::count::page::Page;
use crate::count::{Counting, PerCall};
use crate::cpu::CpuUsage;
use crate::exclusions;
use crate::point::Point;
use crate::rounds::{Repeats, Rounds};
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
}

/// What was found at one point.
#[derive(Default)]
pub struct Measured {
    /// One for each peer that could be measured, in their order.
    pub series: Vec<Series>,
    /// What went wrong. A peer that failed in a round has no series; one whose counting failed has.
    pub failures: Vec<Failure>,
    /// How calm it was.
    pub rounds: Rounds,
}

/// One peer's part of a measurement.
pub struct Series {
    /// The peer's name, numbered when it takes part twice.
    pub peer: String,
    /// The runs that count, in the order of time: those of one position are of one round, for all
    /// peers of a point.
    pub runs: Vec<Run>,
    /// What a call costs besides time, if it was counted.
    pub per_call: Option<PerCall>,
}

/// One run of one peer.
pub struct Run {
    /// The number of its round at this point, from 1. Those of rounds that do not count are missing.
    pub round: usize,
    /// What the client saw.
    pub outcome: Outcome,
    /// What the server counted.
    pub counters: Counters,
}

/// A peer that could not be measured.
#[derive(Debug)]
pub struct Failure {
    /// Its name, numbered when it takes part twice.
    pub peer: String,
    /// What went wrong.
    pub error: String,
}

/// A peer that takes part, its name in the tables, and a run for each round.
struct Entrant {
    peer: &'static dyn Peer,
    label: String,
    runs: Vec<Run>,
}

impl Runner {
    /// Runs A B A B …, each time with a fresh server process, so that neither what else the
    /// machine does nor where a process landed in memory falls on one peer alone.
    ///
    /// [`Repeats`] says how often. A peer that fails does not run again, and the others go on. `tell`
    /// hears of each outcome.
    pub fn measure(
        &self,
        client: &mut Client,
        point: Point,
        mut tell: impl FnMut(&str, &Outcome),
    ) -> Measured {
        let mut entrants = self.entrants(point);
        let mut failures = Vec::new();
        let mut repeats = Repeats::new(self.runs, REPLACING_MAX);
        while !entrants.is_empty() && repeats.go_on() {
            let mut loads = Vec::with_capacity(entrants.len());
            let number = repeats.count() + 1;
            entrants.retain_mut(
                |entrant| match self.run(client, entrant.peer, point, number) {
                    Ok(run) => {
                        tell(&entrant.label, &run.outcome);
                        loads.push(run.outcome.load);
                        entrant.runs.push(run);
                        true
                    }
                    Err(error) => {
                        failures.push(entrant.failure(&error));
                        false
                    }
                },
            );
            repeats.end(loads);
        }
        let (kept, rounds) = repeats.kept();
        for entrant in &mut entrants {
            entrant.runs.retain(|run| kept.contains(&(run.round - 1)));
        }
        let mut series = Vec::with_capacity(entrants.len());
        for entrant in entrants {
            let per_call = self
                .count(client, entrant.peer, point)
                .unwrap_or_else(|error| {
                    let error = format!("counting allocations and system calls: {error}");
                    failures.push(entrant.failure(&error));
                    None
                });
            series.push(Series {
                peer: entrant.label,
                runs: entrant.runs,
                per_call,
            });
        }
        Measured {
            series,
            failures,
            rounds,
        }
    }

    /// Says who will be missing at which of these points, a line for each reason; an error when
    /// nobody takes part anywhere.
    pub fn exclusions(&self, points: &[Point]) -> io::Result<Vec<String>> {
        exclusions::list(&self.peers, points)
    }

    fn run(
        &self,
        client: &mut Client,
        peer: &dyn Peer,
        point: Point,
        round: usize,
    ) -> io::Result<Run> {
        let run = self.run_once(client, peer, point);
        let (outcome, counters) = self.or_fresh_client(client, run)?;
        Ok(Run {
            round,
            outcome,
            counters,
        })
    }

    fn count(
        &self,
        client: &mut Client,
        peer: &dyn Peer,
        point: Point,
    ) -> io::Result<Option<PerCall>> {
        let counted = self.counts.then(|| self.count_once(client, peer, point));
        self.or_fresh_client(client, counted.transpose())
    }

    fn run_once(
        &self,
        client: &mut Client,
        peer: &dyn Peer,
        point: Point,
    ) -> io::Result<(Outcome, Counters)> {
        let server = ServerProcess::start(peer, &self.start(point, None))?;
        let usage = || CpuUsage::now(server.pid(), self.placement);
        let plan = self.plan(point, self.measured);
        let outcome = drive(client, peer, &server, &plan, &usage)?;
        check_answered(&outcome)?;
        Ok((outcome, server.stop()?))
    }

    /// A client whose run failed may have left some of its buffers behind: the next run gets a new
    /// one.
    fn or_fresh_client<T>(&self, client: &mut Client, run: io::Result<T>) -> io::Result<T> {
        if run.is_err() {
            *client = Client::new();
        }
        run
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

    /// One more run, with the server counting. Its speed is of no interest.
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
            CpuUsage::now(server.pid(), self.placement)
        };
        let plan = self.plan(point, COUNTED);
        let outcome = drive(client, peer, &server, &plan, &usage)?;
        server.stop()?;
        check_answered(&outcome)?;
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
            .filter(|(_, peer)| exclusions::of(**peer, point).is_none())
            .map(|(index, &peer)| Entrant {
                peer,
                label: label(index, peer),
                runs: Vec::with_capacity(self.runs),
            })
            .collect()
    }
}

impl Entrant {
    fn failure(&self, error: &impl ToString) -> Failure {
        Failure {
            peer: self.label.clone(),
            error: error.to_string(),
        }
    }
}

/// Nothing can be said of a call when there was none.
fn check_answered(outcome: &Outcome) -> io::Result<()> {
    if outcome.calls > 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "no call was answered in {:?}: measure for longer (--seconds)",
        outcome.elapsed
    )))
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

/// Time for rounds that replace others, at each point: so that a restless machine neither makes a
/// bench endless, nor leaves the last points without any.
const REPLACING_MAX: Duration = Duration::from_secs(12);
/// Time in which allocations and system calls are counted.
const COUNTED: Duration = Duration::from_millis(150);
