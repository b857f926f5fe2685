//! All threads of a load: deals the schedule, starts them together, and adds up what they record.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::collector::Collector;
use super::dealer::{Dealer, Feeder};
use super::flight::{Flight, Pacing, Window};
use super::merger::Observe;
pub use super::plan::{Arrivals, Part, Plan};
use super::record::Record;
use super::schedule::Schedule;
use super::server_use::ServerSample;
use super::slices::Slices;
use super::work::Workload;
use super::worker::{Control, Report, Reporting, Worker};
use super::{on_ringcall, on_tonic};
use crate::results::{Completion, Protocol};

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
    /// All connections are there.
    Ready,
    /// Warm-up begins.
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
    /// What each of several generators has recorded, when they shared the load.
    pub parts: Vec<Record>,
    /// Time that was measured; shorter than asked for when it was ended early.
    pub window: Duration,
    /// How it ended.
    pub completion: Completion,
    /// More about that, in words.
    pub note: Option<String>,
    /// Slow calls by slices of the window, if limits were given and one program made all calls.
    pub slices: Option<Slices>,
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

/// A thread's job, and where its records go back to when they were read.
type JobWithSpares = (Job, Sender<Box<Record>>);

/// What one thread is told.
pub(super) struct Job {
    pub(super) cpu: Option<usize>,
    pub(super) address: String,
    pub(super) workload: Workload,
    pub(super) conns: usize,
    pub(super) depth: usize,
    pub(super) churn_calls: Option<u64>,
    pub(super) timeout: Duration,
    keeps_going: bool,
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
            cpu,
            flight,
            control,
            timeout,
            keeps_going,
            reporting,
            ..
        } = self;
        let never_sleeps = cpu.is_some();
        Worker::new(
            flight,
            control,
            origin,
            timeout,
            never_sleeps,
            keeps_going,
            reporting,
        )
    }
}

impl Plan {
    /// Runs the load to its end, or until `stop` is set. Errors of `observe` end it early too.
    ///
    /// # Errors
    /// When a thread can't start or connect, or `observe` fails; the text says why.
    pub fn run(&self, stop: &AtomicBool, observe: &mut Observe<'_>) -> Result<Outcome, String> {
        self.run_from(&mut || Some(Instant::now() + START_IN), stop, observe)
    }

    /// The same, from a time that `gate` tells: it is asked once all connections are there, until it
    /// knows.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run_from(
        &self,
        gate: &mut (dyn FnMut() -> Option<Instant> + Send),
        stop: &AtomicBool,
        observe: &mut Observe<'_>,
    ) -> Result<Outcome, String> {
        let control = Arc::new(Control::default());
        let (sender, reports) = channel();
        let mut threads = Vec::new();
        let mut spares = Vec::new();
        let (jobs, feeder) = self.jobs(&control, &sender);
        let feeder = feeder.map(start_feeding).transpose()?;
        for (number, (job, spare)) in jobs.into_iter().enumerate() {
            spares.push(spare);
            threads.push(spawn(number, self.protocol, job, sender.clone())?);
        }
        drop(sender);
        let collector = Collector {
            plan: self,
            control: &control,
            reports,
            spares,
            stop,
            gate,
        };
        // On a thread of its own: priorities can't be raised again.
        let result = thread::scope(|scope| {
            let collector = scope.spawn(|| {
                yield_to_the_load();
                collector.run(observe)
            });
            let panicked = |_| Err("the thread that adds up panicked".to_owned());
            collector.join().unwrap_or_else(panicked)
        });
        control.stop();
        for thread in threads.into_iter().chain(feeder) {
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
    ) -> (Vec<JobWithSpares>, Option<Feeder>) {
        let threads = self.cpus.len();
        let window = Window {
            from_ns: self.warmup.as_nanos() as u64,
            until_ns: (self.warmup + self.duration).as_nanos() as u64,
        };
        let (schedules, feeder) = match &self.arrivals {
            Arrivals::Open {
                arrival,
                rate_per_s,
            } => {
                let until = self.warmup + self.duration;
                let dealer = Dealer::new(
                    arrival,
                    *rate_per_s,
                    until,
                    &self.workload,
                    self.seed,
                    self.part,
                    threads,
                );
                dealer.start()
            }
            Arrivals::Closed { .. } => {
                let of =
                    |thread| Schedule::of_closed_loop(&self.workload, self.seed, self.part, thread);
                ((0..threads).map(of).collect(), None)
            }
        };
        let job = |(number, schedule)| {
            let thread = Part {
                number,
                of: threads,
            };
            let conns = thread.share(self.conns);
            let pacing = match self.arrivals {
                Arrivals::Open { .. } => Pacing::Open,
                Arrivals::Closed { callers } => Pacing::Closed {
                    callers: thread.share(callers),
                },
            };
            let methods = self.workload.methods.len();
            let (spare_sender, spares) = channel();
            // Enough for a thread whose records are read late. The thread itself is the receiver.
            for _ in 0..SPARES {
                spare_sender.send(Box::new(Record::new(methods))).ok();
            }
            let mut flight = Flight::new(schedule, pacing, window, conns * self.depth, methods);
            flight.slice_by(&self.limits_ns);
            let job = Job {
                cpu: self.cpus[number],
                address: self.address.clone(),
                workload: self.workload.clone(),
                conns,
                depth: self.depth,
                churn_calls: self.churn_calls,
                timeout: self.timeout,
                keeps_going: self.keeps_going,
                connect_timeout: self.timeout.max(CONNECT_TIMEOUT_MIN),
                control: Arc::clone(control),
                flight,
                reporting: Reporting {
                    thread: number,
                    interval_ns: self.interval.as_nanos() as u64,
                    methods,
                    reports: reports.clone(),
                    spares,
                },
            };
            (job, spare_sender)
        };
        (schedules.into_iter().enumerate().map(job).collect(), feeder)
    }
}

/// Lets the threads that make calls, and the server if it runs here, go first: adding up and writing
/// takes milliseconds at the end of each interval, which would otherwise be in somebody's latency.
fn yield_to_the_load() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE_MAX) {
        tracing::debug!(%error, "the thread that adds up keeps its priority");
    }
}

/// Calls of a long load are dealt while it runs, far ahead of their time.
fn start_feeding(feeder: Feeder) -> Result<thread::JoinHandle<()>, String> {
    let run = move || {
        yield_to_the_load();
        feeder.run();
    };
    let thread = thread::Builder::new().name("dealer".into());
    thread
        .spawn(run)
        .map_err(|error| format!("can't start a thread: {error}"))
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

/// Records that each thread has at the beginning, besides the one that it fills.
const SPARES: usize = 2;
/// Everybody else goes first.
const NICE_MAX: i32 = 19;
/// Time for all threads to see that the load begins.
const START_IN: Duration = Duration::from_millis(5);
/// Connecting gets at least this long.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(2);
