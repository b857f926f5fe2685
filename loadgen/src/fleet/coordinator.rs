//! Runs one load on several agents.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringcall::{BlockingClient, Status};

use super::wire::{AgentClient, Assignment, Begin, Description, LoadEvent, Poll, VERSION};
use crate::failure::Failure;
use crate::load::generator::{Event, Outcome};
use crate::load::merger::{IntervalMerger, Observe};
use crate::load::plan::{Part, Plan};
use crate::load::record::Record;
use crate::results::{AgentInfo, Completion};
use crate::run::args::LoadArgs;

/// The agents of a measurement.
pub(crate) struct Fleet {
    agents: Vec<Agent>,
}

struct Agent {
    /// From 1, as people count.
    number: usize,
    address: String,
    client: AgentClient<BlockingClient>,
    info: AgentInfo,
}

/// One agent's share of a load that runs.
struct Running<'a> {
    agent: &'a Agent,
    lease: u64,
    /// Things that have happened to it.
    known: u64,
    intervals: usize,
    until_ns: u64,
    record: Record,
    is_ready: bool,
    is_over: bool,
}

impl Fleet {
    /// Finds the agents, and learns who they are.
    ///
    /// # Errors
    /// When one can't be reached, or is of another version.
    pub(crate) fn connect(addresses: &[String]) -> Result<Self, Failure> {
        let agents = addresses.iter().enumerate().map(|(index, address)| {
            Agent::connect(index + 1, address)
                .map_err(|why| Failure::Other(format!("agent {} ({address}): {why}", index + 1)))
        });
        Ok(Self {
            agents: agents.collect::<Result<_, _>>()?,
        })
    }

    /// Who the agents are.
    pub(crate) fn infos(&self) -> Vec<AgentInfo> {
        self.agents.iter().map(|agent| agent.info.clone()).collect()
    }

    /// Threads of all agents.
    pub(crate) fn threads(&self) -> usize {
        let threads = self.agents.iter().map(|agent| agent.info.cpus.len());
        threads.sum()
    }

    /// Runs the load to its end, or until `stop` is set, as [`Plan::run`] does here. When an agent is
    /// lost the others are stopped, and what has come is kept.
    ///
    /// # Errors
    /// When an agent refuses its part, can't connect, or is lost before the load begins.
    pub(crate) fn run(
        &self,
        args: &LoadArgs,
        plan: &Plan,
        stop: &AtomicBool,
        observe: &mut Observe<'_>,
    ) -> Result<Outcome, String> {
        let methods = plan.workload.methods.len();
        let mut running = Vec::new();
        for (number, agent) in self.agents.iter().enumerate() {
            let part = Part {
                number,
                of: self.agents.len(),
            };
            match agent.prepare(&Assignment::of(args, plan, part), methods) {
                Ok(prepared) => running.push(prepared),
                Err(why) => {
                    stop_all(&running);
                    return Err(agent.says(&why));
                }
            }
        }
        let mut collector = Collector {
            merger: IntervalMerger::new(running.len(), methods),
            running,
            window_ns: 0,
            completion: Completion::Complete,
            note: None,
        };
        let begun = collector.begin(stop, observe);
        let collected = begun.and_then(|()| collector.collect(stop, observe));
        if let Err(why) = collected {
            stop_all(&collector.running);
            return Err(why);
        }
        Ok(Outcome {
            slices: None,
            record: collector.merger.total,
            parts: collector
                .running
                .into_iter()
                .map(|agent| agent.record)
                .collect(),
            window: Duration::from_nanos(collector.window_ns),
            completion: collector.completion,
            note: collector.note,
            server: None,
        })
    }
}

impl Agent {
    fn connect(number: usize, address: &str) -> Result<Self, String> {
        let words = |status: Status| status.to_string();
        let client = AgentClient::connect_blocking(address).map_err(words)?;
        let described = client.describe().deadline(PATIENCE).wait().map_err(words)?;
        let Description {
            version,
            build,
            machine,
            cpus,
        } = described.to_owned();
        if version != VERSION {
            return Err(format!(
                "it is loadgen {version}, this is {VERSION}; use the same on all hosts"
            ));
        }
        let unclear = |error: serde_json::Error| format!("it does not say what it is: {error}");
        Ok(Self {
            number,
            address: address.to_owned(),
            client,
            info: AgentInfo {
                build: serde_json::from_str(&build).map_err(unclear)?,
                machine: serde_json::from_str(&machine).map_err(unclear)?,
                cpus: cpus
                    .into_iter()
                    .map(|cpu| cpu.map(|cpu| cpu as usize))
                    .collect(),
            },
        })
    }

    fn prepare(&self, assignment: &Assignment, methods: usize) -> Result<Running<'_>, Status> {
        let lease = self
            .client
            .prepare(assignment.clone())
            .deadline(PATIENCE)
            .wait()?;
        Ok(Running {
            agent: self,
            lease: lease.to_native(),
            known: 0,
            intervals: 0,
            until_ns: 0,
            record: Record::new(methods),
            is_ready: false,
            is_over: false,
        })
    }

    /// Words about this agent.
    fn says(&self, what: &dyn std::fmt::Display) -> String {
        format!("agent {} ({}): {what}", self.number, self.address)
    }
}

impl Running<'_> {
    fn next(&self) -> Result<Option<LoadEvent>, Status> {
        let poll = Poll {
            lease: self.lease,
            known: self.known,
        };
        let next = self.agent.client.next(poll).deadline(PATIENCE).wait()?;
        Ok(next.to_owned())
    }

    /// The shortest of some round trips.
    fn round_trip(&self) -> Result<Duration, Status> {
        let mut shortest = PATIENCE;
        for _ in 0..ROUND_TRIPS {
            let start = Instant::now();
            self.next()?;
            shortest = shortest.min(start.elapsed());
        }
        Ok(shortest)
    }

    fn begin_at(&self, origin: Instant, round_trip: Duration) -> Result<(), Status> {
        let left = origin.saturating_duration_since(Instant::now() + round_trip / 2);
        let begin = Begin {
            lease: self.lease,
            in_ns: left.as_nanos() as u64,
        };
        self.agent.client.begin(begin).deadline(PATIENCE).wait()?;
        Ok(())
    }
}

/// Tells agents to end; one that does not hear it ends by its lease.
fn stop_all(running: &[Running<'_>]) {
    for agent in running.iter().filter(|agent| !agent.is_over) {
        let stopped = agent
            .agent
            .client
            .stop(agent.lease)
            .deadline(PATIENCE)
            .wait();
        if let Err(status) = stopped {
            tracing::debug!(agent = agent.agent.number, %status, "can't be stopped");
        }
    }
}

/// Listens to the agents and adds up.
struct Collector<'a> {
    merger: IntervalMerger,
    running: Vec<Running<'a>>,
    window_ns: u64,
    completion: Completion,
    note: Option<String>,
}

impl Collector<'_> {
    /// Waits until all are ready, and lets them begin together.
    fn begin(&mut self, stop: &AtomicBool, observe: &mut Observe<'_>) -> Result<(), String> {
        while !self.running.iter().all(|agent| agent.is_ready) {
            if stop.load(Ordering::Relaxed) {
                return Err("interrupted before the load began".into());
            }
            for running in self.running.iter_mut().filter(|agent| !agent.is_ready) {
                let next = running.next();
                match next.map_err(|status| running.agent.says(&status))? {
                    Some(LoadEvent::Ready) => {
                        running.known += 1;
                        running.is_ready = true;
                    }
                    Some(LoadEvent::Failed(why)) => {
                        running.is_over = true;
                        return Err(running.agent.says(&why));
                    }
                    Some(other) => return Err(running.agent.says(&too_early(&other))),
                    None => (),
                }
            }
            observe(Event::Tick)?;
            std::thread::sleep(ASK_AGAIN);
        }
        observe(Event::Ready)?;
        let mut round_trips = Vec::new();
        for running in &self.running {
            let measured = running.round_trip();
            round_trips.push(measured.map_err(|status| running.agent.says(&status))?);
        }
        let telling: Duration = round_trips.iter().sum();
        let origin = Instant::now() + telling * 2 + BEGIN_MARGIN;
        for (running, round_trip) in self.running.iter().zip(round_trips) {
            let begun = running.begin_at(origin, round_trip);
            begun.map_err(|status| running.agent.says(&status))?;
        }
        observe(Event::Begin)
    }

    /// Adds up what happens until all have ended.
    fn collect(&mut self, stop: &AtomicBool, observe: &mut Observe<'_>) -> Result<(), String> {
        let mut is_stopped = false;
        while !self.running.iter().all(|agent| agent.is_over) {
            let must_stop = stop.load(Ordering::Relaxed) || self.completion != Completion::Complete;
            if must_stop && !is_stopped {
                is_stopped = true;
                self.completion = self.completion.max(Completion::Interrupted);
                stop_all(&self.running);
            }
            let mut is_quiet = true;
            for at in 0..self.running.len() {
                is_quiet &= !self.poll(at)?;
            }
            self.merger.tell_ended(observe)?;
            if is_quiet {
                observe(Event::Tick)?;
                std::thread::sleep(ASK_AGAIN);
            }
        }
        self.merger.tell_rest(observe)
    }

    /// Asks one agent what has happened. Says whether there was something.
    fn poll(&mut self, at: usize) -> Result<bool, String> {
        let running = &mut self.running[at];
        if running.is_over {
            return Ok(false);
        }
        let event = match running.next() {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(false),
            Err(status) => {
                self.lose(at, &status);
                return Ok(true);
            }
        };
        running.known += 1;
        match event {
            LoadEvent::Interval(counts) => {
                let end_ns = counts.end_ns;
                let record = counts.record(running.record.methods.len());
                let record = record.map_err(|why| running.agent.says(&why))?;
                running.until_ns = running.until_ns.max(end_ns);
                running.record.add(&record);
                self.merger.add(running.intervals, end_ns, &record);
                running.intervals += 1;
            }
            LoadEvent::Done(ending) => {
                running.is_over = true;
                self.window_ns = self.window_ns.max(ending.window_ns);
                self.completion = self.completion.max(ending.completion());
            }
            LoadEvent::Failed(why) => self.lose(at, &why),
            LoadEvent::Ready => return Err(running.agent.says(&"it is ready twice")),
        }
        Ok(true)
    }

    /// An agent has gone away: what came from it counts up to its last interval.
    fn lose(&mut self, at: usize, why: &dyn std::fmt::Display) {
        let running = &mut self.running[at];
        running.is_over = true;
        self.window_ns = self.window_ns.max(running.until_ns);
        self.completion = Completion::AgentLost;
        let note = format!("agent {} was lost: {why}", running.agent.number);
        self.note.get_or_insert(note);
    }
}

fn too_early(event: &LoadEvent) -> String {
    format!("it is not ready, but says {event:?}")
}

/// An agent that does not answer within this time is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to ask, while nothing happens.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Readings of the round trip.
const ROUND_TRIPS: usize = 5;
/// Time for all agents to see that the load begins.
const BEGIN_MARGIN: Duration = Duration::from_millis(20);
