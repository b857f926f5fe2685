//! All threads of a load: deals the schedule, starts them together, and adds up what they record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::flight::{Flight, Pacing, Window};
use super::record::Record;
use super::schedule::{Arrival, Schedule};
use super::server_use::{ServerProbe, ServerSample};
use super::work::Workload;
use super::worker::{Control, Report, Reporting, Worker};
use super::{on_ringcall, on_tonic};
use crate::results::{Completion, Protocol};

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
    /// Length of an interval.
    pub interval: Duration,
    /// A CPU for each thread. A thread without one gives its CPU away while nothing is due.
    pub cpus: Vec<Option<usize>>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Process of the server, if it is known and runs on this machine.
    pub server_pid: Option<u32>,
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

/// An interval of the window, over all threads. After the last there is one more, without a length
/// of its own, with what ended while calls in flight were awaited.
#[derive(Debug)]
pub struct Interval {
    /// Its number, from 0.
    pub number: usize,
    /// Its beginning, since that of the window.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
    /// What was recorded.
    pub record: Record,
}

/// What is told while a load runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// All connections are there; warm-up begins.
    Begin,
    /// An interval is over.
    Interval(&'a Interval),
    /// What the server's process has used between two looks at it; the times are since the
    /// beginning of the window.
    Server(&'a ServerSample, &'a ServerSample),
    /// A tenth of a second has passed.
    Tick,
}

/// What a load has left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that was recorded.
    pub record: Record,
    /// Time that was measured; shorter than asked for when it was ended early.
    pub window: Duration,
    /// How it ended.
    pub completion: Completion,
    /// The server's process at both ends of the window, and its largest resident memory.
    pub server: Option<(ServerSample, ServerSample, u64)>,
}

impl Outcome {
    /// CPU time of the server for each call that was answered in the window.
    pub fn server_cpu_us_per_call(&self) -> Option<f64> {
        let (first, last, _) = self.server.as_ref()?;
        let cpus = (last.cpu - first.cpu).div_duration_f64(last.at - first.at);
        let per_s = self.record.answered as f64 / self.window.as_secs_f64();
        (per_s > 0.0).then(|| cpus * 1e6 / per_s)
    }
}

/// What one thread is told.
pub(super) struct Job {
    pub(super) cpu: Option<usize>,
    pub(super) address: String,
    pub(super) workload: Workload,
    pub(super) conns: usize,
    pub(super) depth: usize,
    pub(super) churn_calls: Option<u64>,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) control: Arc<Control>,
    flight: Flight,
    reporting: Reporting,
}

impl Job {
    /// Tells that all connections are there.
    pub(super) fn ready(&self) {
        // Without a listener the control says so as well.
        self.reporting.reports.send(Report::Ready).ok();
    }

    /// The load begins.
    pub(super) fn into_worker(self, origin: Instant) -> Worker {
        let Self {
            flight,
            control,
            timeout,
            reporting,
            ..
        } = self;
        Worker::new(flight, control, origin, timeout, reporting)
    }
}

impl Plan {
    /// Runs the load to its end, or until `stop` is set. Errors of `observe` end it early too.
    ///
    /// # Errors
    /// When a thread can't start or connect, or `observe` fails; the text says why.
    pub fn run(
        &self,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let control = Arc::new(Control::default());
        let (sender, reports) = channel();
        let mut threads = Vec::new();
        let mut spares = Vec::new();
        for (number, (job, spare)) in self.jobs(&control, &sender).into_iter().enumerate() {
            spares.push(spare);
            threads.push(spawn(number, self.protocol, job, sender.clone())?);
        }
        drop(sender);
        let gathering = Gathering {
            plan: self,
            control: &control,
            reports,
            spares,
            stop,
        };
        let result = gathering.run(observe);
        control.stop();
        for thread in threads {
            if thread.join().is_err() {
                return Err("a thread of the load panicked".into());
            }
        }
        result
    }

    fn jobs(
        &self,
        control: &Arc<Control>,
        reports: &Sender<Report>,
    ) -> Vec<(Job, Sender<Box<Record>>)> {
        let threads = self.cpus.len();
        let window = Window {
            from_ns: self.warmup.as_nanos() as u64,
            until_ns: (self.warmup + self.duration).as_nanos() as u64,
        };
        let schedules = match &self.arrivals {
            Arrivals::Open {
                arrival,
                rate_per_s,
            } => {
                let until = self.warmup + self.duration;
                Schedule::deal(
                    arrival,
                    *rate_per_s,
                    until,
                    &self.workload,
                    self.seed,
                    threads,
                )
            }
            Arrivals::Closed { .. } => (0..threads as u64)
                .map(|thread| Schedule::of_closed_loop(&self.workload, self.seed ^ thread))
                .collect(),
        };
        let job = |(thread, schedule)| {
            let conns = share(self.conns, threads, thread);
            let pacing = match self.arrivals {
                Arrivals::Open { .. } => Pacing::Open,
                Arrivals::Closed { callers } => Pacing::Closed {
                    callers: share(callers, threads, thread),
                },
            };
            let methods = self.workload.methods.len();
            let (spare_sender, spares) = channel();
            let job = Job {
                cpu: self.cpus[thread],
                address: self.address.clone(),
                workload: self.workload.clone(),
                conns,
                depth: self.depth,
                churn_calls: self.churn_calls,
                timeout: self.timeout,
                connect_timeout: self.timeout.max(CONNECT_TIMEOUT_MIN),
                control: Arc::clone(control),
                flight: Flight::new(schedule, pacing, window, conns * self.depth, methods),
                reporting: Reporting {
                    thread,
                    interval_ns: self.interval.as_nanos() as u64,
                    methods,
                    reports: reports.clone(),
                    spares,
                },
            };
            (job, spare_sender)
        };
        schedules.into_iter().enumerate().map(job).collect()
    }
}

/// What falls to one of several threads.
fn share(all: usize, threads: usize, thread: usize) -> usize {
    all / threads + usize::from(thread < all % threads)
}

fn spawn(
    number: usize,
    protocol: Protocol,
    job: Job,
    reports: Sender<Report>,
) -> Result<thread::JoinHandle<()>, String> {
    let run = move || {
        let result = match protocol {
            Protocol::Ringcall => on_ringcall::run(job),
            Protocol::Tonic => on_tonic::run(job),
        };
        if let Err(why) = result {
            // Who has given up listening needs no reason.
            reports.send(Report::Failed(why)).ok();
        }
    };
    let thread = thread::Builder::new().name(format!("load {number}"));
    thread
        .spawn(run)
        .map_err(|error| format!("can't start a thread: {error}"))
}

/// Listens to the threads and adds up.
struct Gathering<'a> {
    plan: &'a Plan,
    control: &'a Control,
    reports: Receiver<Report>,
    spares: Vec<Sender<Box<Record>>>,
    stop: &'a AtomicBool,
}

/// What has come up to now.
struct Gathered {
    total: Record,
    /// Intervals that some thread has not ended yet: how many have, where it ended, their sum.
    open: Vec<(usize, u64, Record)>,
    told: usize,
    told_until_ns: u64,
    ready: usize,
    done: usize,
    window_ns: u64,
    completion: Completion,
}

impl Gathering<'_> {
    fn run(
        self,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let threads = self.spares.len();
        let mut probe = None;
        let mut gathered = Gathered {
            total: Record::new(self.plan.workload.methods.len()),
            open: Vec::new(),
            told: 0,
            told_until_ns: 0,
            ready: 0,
            done: 0,
            window_ns: 0,
            completion: Completion::Complete,
        };
        while gathered.done < threads {
            let due = probe.as_ref().and_then(ServerProbe::due);
            let until_due = due.map(|due| due.saturating_duration_since(Instant::now()));
            let report = match self
                .reports
                .recv_timeout(TICK.min(until_due.unwrap_or(TICK)))
            {
                Ok(report) => Some(report),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a thread of the load panicked".into());
                }
            };
            if self.stop.load(Ordering::Relaxed) && !self.control.is_stopped() {
                gathered.completion = gathered.completion.max(Completion::Interrupted);
                self.control.stop();
                if gathered.ready < threads {
                    return Err("interrupted before the load began".into());
                }
            }
            match report {
                Some(Report::Ready) => {
                    gathered.ready += 1;
                    if gathered.ready == threads {
                        let origin = Instant::now() + START_IN;
                        self.control.begin(origin);
                        let window_from = origin + self.plan.warmup;
                        probe = self.probe(window_from)?;
                        observe(Event::Begin)?;
                    }
                }
                Some(Report::Failed(why)) => return Err(why),
                Some(report) => self.gather(report, &mut gathered, observe)?,
                None => observe(Event::Tick)?,
            }
            if let Some(probe) = &mut probe {
                probe.look_if_due(observe)?;
            }
        }
        let server = probe.and_then(|probe| probe.finish());
        Ok(Outcome {
            record: gathered.total,
            window: Duration::from_nanos(gathered.window_ns),
            completion: gathered.completion,
            server,
        })
    }

    fn probe(&self, window_from: Instant) -> Result<Option<ServerProbe>, String> {
        let Some(pid) = self.plan.server_pid else {
            return Ok(None);
        };
        ServerProbe::new(pid, window_from, self.plan.duration, self.plan.interval).map(Some)
    }

    fn gather(
        &self,
        report: Report,
        gathered: &mut Gathered,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        match report {
            Report::Interval {
                thread,
                number,
                end_ns,
                mut record,
            } => {
                let methods = record.methods.len();
                while gathered.open.len() <= number - gathered.told {
                    gathered.open.push((0, 0, Record::new(methods)));
                }
                let (threads, latest_ns, sum) = &mut gathered.open[number - gathered.told];
                *threads += 1;
                *latest_ns = end_ns.max(*latest_ns);
                sum.add(&record);
                record.clear();
                // The thread may have ended.
                self.spares[thread].send(record).ok();
                self.tell_ended(gathered, observe)
            }
            Report::Done {
                window,
                is_target_lost,
            } => {
                gathered.done += 1;
                let window_ns = window.until_ns.saturating_sub(window.from_ns);
                gathered.window_ns = gathered.window_ns.max(window_ns);
                if is_target_lost {
                    gathered.completion = Completion::TargetLost;
                    self.control.stop();
                }
                if gathered.done == self.spares.len() {
                    self.tell_rest(gathered, observe)?;
                }
                Ok(())
            }
            Report::Ready | Report::Failed(_) => unreachable!("handled before"),
        }
    }

    /// Tells the intervals that all threads have ended.
    fn tell_ended(
        &self,
        gathered: &mut Gathered,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        while gathered
            .open
            .first()
            .is_some_and(|(threads, ..)| *threads == self.spares.len())
        {
            gathered.tell_first(observe)?;
        }
        Ok(())
    }

    /// Tells the intervals that some threads have not come to.
    fn tell_rest(
        &self,
        gathered: &mut Gathered,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        while !gathered.open.is_empty() {
            gathered.tell_first(observe)?;
        }
        Ok(())
    }
}

impl Gathered {
    fn tell_first(
        &mut self,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (_, end_ns, record) = self.open.remove(0);
        self.total.add(&record);
        let start = Duration::from_nanos(self.told_until_ns);
        let interval = Interval {
            number: self.told,
            start,
            length: Duration::from_nanos(end_ns).saturating_sub(start),
            record,
        };
        self.told += 1;
        self.told_until_ns = end_ns.max(self.told_until_ns);
        observe(Event::Interval(&interval))
    }
}

/// How often to look at the clock while nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// Time for all threads to see that the load begins.
const START_IN: Duration = Duration::from_millis(5);
/// Connecting gets at least this long.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(2);
