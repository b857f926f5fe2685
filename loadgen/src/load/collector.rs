//! Listens to the threads of a load and adds up what they record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::generator::{Event, Outcome};
use super::merger::{IntervalMerger, Observe};
use super::plan::Plan;
use super::record::Record;
use super::server_use::ServerProbe;
use super::slices::Slices;
use super::worker::{Control, GivenUp, Report};
use crate::results::Completion;
use crate::units::several;

/// The ends of a load that the threads don't hold.
pub(super) struct Collector<'a> {
    pub(super) plan: &'a Plan,
    pub(super) control: &'a Control,
    pub(super) reports: Receiver<Report>,
    pub(super) spares: Vec<Sender<Box<Record>>>,
    pub(super) stop: &'a AtomicBool,
    /// Says when the load begins, once all connections are there and it is known.
    pub(super) gate: &'a mut (dyn FnMut() -> Option<Instant> + Send),
}

/// What has come up to now.
struct Collected {
    merger: IntervalMerger,
    ready: usize,
    done: usize,
    window_ns: u64,
    completion: Completion,
    note: Option<String>,
    slices: Option<Slices>,
}

impl Collected {
    fn give_up(&mut self, why: GivenUp) {
        match why {
            GivenUp::TargetLost => self.completion = Completion::TargetLost,
            GivenUp::Backlog(calls) => {
                self.note = Some(format!(
                    "it was given up: the server was so far behind that {} waited to be sent; lower --rate",
                    several(calls as usize, "call")
                ));
            }
        }
    }
}

impl Collector<'_> {
    pub(super) fn run(self, observe: &mut Observe<'_>) -> Result<Outcome, String> {
        let threads = self.spares.len();
        let mut probe = None;
        let mut has_begun = false;
        let mut collected = Collected {
            merger: IntervalMerger::new(threads, self.plan.workload.methods.len()),
            ready: 0,
            done: 0,
            window_ns: 0,
            completion: Completion::Complete,
            note: None,
            slices: None,
        };
        while collected.done < threads {
            let is_at_gate = collected.ready == threads && !has_begun;
            if is_at_gate && let Some(origin) = (self.gate)() {
                has_begun = true;
                self.control.begin(origin);
                probe = self.probe(origin + self.plan.warmup)?;
                observe(Event::Begin)?;
            }
            let due = probe.as_ref().and_then(ServerProbe::due);
            let until_due = due.map(|due| due.saturating_duration_since(Instant::now()));
            let tick = if is_at_gate { GATE_TICK } else { TICK };
            let report = match self
                .reports
                .recv_timeout(tick.min(until_due.unwrap_or(tick)))
            {
                Ok(report) => Some(report),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a thread of the load panicked".into());
                }
            };
            if self.stop.load(Ordering::Relaxed) && !self.control.is_stopped() {
                collected.completion = collected.completion.max(Completion::Interrupted);
                self.control.stop();
                if !has_begun {
                    return Err("interrupted before the load began".into());
                }
            }
            match report {
                Some(Report::Ready) => {
                    collected.ready += 1;
                    if collected.ready == threads {
                        observe(Event::Ready)?;
                    }
                }
                Some(Report::Failed(why)) => return Err(why),
                Some(report) => self.collect(report, &mut collected, observe)?,
                None => observe(Event::Tick)?,
            }
            if let Some(probe) = &mut probe {
                probe.look_if_due(observe)?;
            }
        }
        let server = probe.and_then(|probe| probe.finish());
        Ok(Outcome {
            record: collected.merger.total,
            parts: Vec::new(),
            window: Duration::from_nanos(collected.window_ns),
            completion: collected.completion,
            note: collected.note,
            slices: collected.slices,
            server,
        })
    }

    fn probe(&self, window_from: Instant) -> Result<Option<ServerProbe>, String> {
        let Some(pid) = self.plan.server_pid else {
            return Ok(None);
        };
        ServerProbe::new(pid, window_from, self.plan.duration, self.plan.interval).map(Some)
    }

    fn collect(
        &self,
        report: Report,
        collected: &mut Collected,
        observe: &mut Observe<'_>,
    ) -> Result<(), String> {
        match report {
            Report::Interval {
                thread,
                number,
                end_ns,
                mut record,
            } => {
                collected.merger.add(number, end_ns, &record);
                record.clear();
                // The thread may have ended.
                self.spares[thread].send(record).ok();
                collected.merger.tell_ended(observe)
            }
            Report::Done {
                window,
                given_up,
                slices,
            } => {
                match (&mut collected.slices, slices) {
                    (Some(all), Some(slices)) => all.add(&slices),
                    (all @ None, slices) => *all = slices,
                    (Some(_), None) => (),
                }
                collected.done += 1;
                let window_ns = window.until_ns.saturating_sub(window.from_ns);
                collected.window_ns = collected.window_ns.max(window_ns);
                if let Some(why) = given_up {
                    collected.give_up(why);
                    self.control.stop();
                }
                if collected.done == self.spares.len() {
                    collected.merger.tell_rest(observe)?;
                }
                Ok(())
            }
            Report::Ready | Report::Failed(_) => unreachable!("handled before"),
        }
    }
}

/// How often to look at the clock while nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// The same while the beginning is awaited.
const GATE_TICK: Duration = Duration::from_millis(1);
