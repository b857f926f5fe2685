//! One thread of the generator, whatever it speaks: it asks [`Flight`] what to do, looks at the clock
//! for it, and hands over what was recorded at the end of each interval.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::cpu_time::own_thread;
use super::flight::{CallResult, DueCall, Flight, Window};
use super::record::Record;
use super::slices::Slices;

/// What all threads of a load share.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The beginning of the load; set when all threads have their connections.
    origin: OnceLock<Instant>,
    /// Nothing more is to be sent.
    is_stopped: AtomicBool,
}

impl Control {
    /// Begins the load.
    pub(super) fn begin(&self, origin: Instant) {
        self.origin.get_or_init(|| origin);
    }

    /// Ends it early.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// The beginning, once it is known.
    pub(super) fn origin(&self) -> Option<Instant> {
        self.origin.get().copied()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// The CPU time of this thread, beside the time that passes.
#[derive(Debug, Default)]
struct OwnCpu {
    looked_ns: u64,
    used_ns: u64,
}

impl OwnCpu {
    /// Time since the last look in which the thread did not have a CPU.
    fn missed_ns(&mut self, now_ns: u64) -> u64 {
        let used_ns = own_thread().as_nanos() as u64;
        let passed_ns = now_ns.saturating_sub(self.looked_ns);
        let missed_ns = passed_ns.saturating_sub(used_ns.saturating_sub(self.used_ns));
        (self.looked_ns, self.used_ns) = (now_ns, used_ns);
        missed_ns
    }
}

/// What a thread tells.
pub(super) enum Report {
    /// It has its connections.
    Ready,
    /// It gave up, for this reason.
    Failed(String),
    /// An interval is over.
    Interval {
        /// Which thread.
        thread: usize,
        /// Which interval.
        number: usize,
        /// Where it ended, since the beginning of the window.
        end_ns: u64,
        /// What was recorded in it.
        record: Box<Record>,
    },
    /// All is over.
    Done {
        /// The time that was measured.
        window: Window,
        /// Why the load was ended early, if this thread saw to it.
        given_up: Option<GivenUp>,
        /// Its slices, if they were wanted.
        slices: Option<Slices>,
    },
}

/// Why a load can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// The server has gone away.
    TargetLost,
    /// So many calls wait to be sent that no more can be kept.
    Backlog(u64),
}

/// How a thread ends its intervals.
pub(super) struct Reporting {
    pub(super) thread: usize,
    pub(super) interval_ns: u64,
    pub(super) methods: usize,
    pub(super) reports: Sender<Report>,
    /// Records that were read and cleared, to be used again.
    pub(super) spares: Receiver<Box<Record>>,
}

/// One thread's load while it runs.
pub(super) struct Worker {
    flight: RefCell<Flight>,
    control: Arc<Control>,
    origin: Instant,
    reporting: Reporting,
    interval: Cell<usize>,
    timeout_ns: u64,
    look_for_expired_ns: Cell<u64>,
    /// For each slot, whom to wake when its call takes too long.
    wakers: RefCell<Vec<Waker>>,
    /// The thread gives up what is in flight then.
    close_ns: u64,
    is_closed: Cell<bool>,
    /// Since when every call has found no server.
    unreachable_since_ns: Cell<Option<u64>>,
    /// When the clock was read last, by a thread that never sleeps.
    read_ns: Cell<u64>,
    never_sleeps: bool,
    keeps_going: bool,
    own_cpu: RefCell<OwnCpu>,
}

impl Worker {
    pub(super) fn new(
        flight: Flight,
        control: Arc<Control>,
        origin: Instant,
        timeout: Duration,
        never_sleeps: bool,
        keeps_going: bool,
        reporting: Reporting,
    ) -> Self {
        let timeout_ns = timeout.as_nanos() as u64;
        let close_ns = flight.window().until_ns + timeout_ns + TIMEOUT_SLACK_NS;
        let wakers = vec![Waker::noop().clone(); flight.in_flight_max()];
        Self {
            timeout_ns,
            look_for_expired_ns: Cell::new(0),
            wakers: RefCell::new(wakers),
            flight: RefCell::new(flight),
            control,
            origin,
            reporting,
            interval: Cell::new(0),
            close_ns,
            is_closed: Cell::new(false),
            unreachable_since_ns: Cell::new(None),
            read_ns: Cell::new(0),
            never_sleeps,
            keeps_going,
            own_cpu: RefCell::default(),
        }
    }

    /// Nanoseconds since the beginning of the load. Zero before.
    ///
    /// It is read for each sending and each answer. That costs tens of nanoseconds; a reading that
    /// is used twice may be old by then, as after a wait, and makes calls look quicker than they were.
    #[inline]
    fn now_ns(&self) -> u64 {
        let now_ns = self.origin.elapsed().as_nanos() as u64;
        let before_ns = self.read_ns.replace(now_ns);
        if now_ns - before_ns >= GAP_NS_MIN && self.never_sleeps {
            self.see_gap(before_ns, now_ns);
        }
        now_ns
    }

    /// The clock was not read for long. Either somebody else had the CPU meanwhile, or the thread had much
    /// to do at once, which is no pause.
    #[cold]
    fn see_gap(&self, before_ns: u64, now_ns: u64) {
        let missed_ns = self.own_cpu.borrow_mut().missed_ns(now_ns);
        if missed_ns * 2 >= now_ns - before_ns {
            self.flight.borrow_mut().note_pause(before_ns, now_ns);
        }
    }

    /// Begins a turn; `false` when the load is over.
    pub(super) fn turn(&self) -> bool {
        let now_ns = self.now_ns();
        let mut flight = self.flight.borrow_mut();
        flight.handle_turn(now_ns);
        let window = flight.window();
        let given_up = self.gives_up(&flight, now_ns);
        let must_stop = self.control.is_stopped() || given_up.is_some();
        if must_stop {
            flight.handle_stop(now_ns);
        }
        if must_stop || flight.is_over(now_ns) || now_ns >= self.close_ns {
            flight.handle_close(now_ns);
            self.is_closed.set(true);
            let window = flight.window();
            self.hand_over(&mut flight, now_ns.saturating_sub(window.from_ns));
            self.tell(Report::Done {
                window,
                given_up,
                slices: flight.take_slices(),
            });
            return false;
        }
        if now_ns >= self.look_for_expired_ns.get() {
            self.look_for_expired_ns.set(now_ns + EXPIRY_STEP_NS);
            // So that what is missed in a gap is of that gap.
            self.own_cpu.borrow_mut().missed_ns(now_ns);
            let wakers = self.wakers.borrow_mut();
            flight.expire(now_ns.saturating_sub(self.timeout_ns), |slot| {
                wakers[slot as usize].wake_by_ref();
            });
        }
        while let Some(end_ns) = self.interval_end_ns(window)
            && now_ns >= end_ns
        {
            self.hand_over(&mut flight, end_ns - window.from_ns);
        }
        true
    }

    /// The next call to be made now.
    #[inline]
    pub(super) fn next_due(&self) -> Option<DueCall> {
        let now_ns = self.now_ns();
        self.flight.borrow_mut().poll_due(now_ns)
    }

    /// A call has ended. `is_unreachable` says that it found no server.
    #[inline]
    pub(super) fn end(&self, slot: u32, end: CallResult, is_unreachable: bool) {
        if self.is_closed.get() {
            return;
        }
        let now_ns = self.now_ns();
        let since_ns = is_unreachable.then(|| self.unreachable_since_ns.get().unwrap_or(now_ns));
        self.unreachable_since_ns.set(since_ns);
        self.flight.borrow_mut().handle_end(slot, end, now_ns);
    }

    /// Awaits a call until its end; `None` when that takes longer than the time-out.
    pub(super) async fn until_expired<F: Future + Unpin>(
        &self,
        slot: u32,
        mut call: F,
    ) -> Option<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = Pin::new(&mut call).poll(cx) {
                return Poll::Ready(Some(answer));
            }
            if self.flight.borrow().is_expired(slot) {
                return Poll::Ready(None);
            }
            self.wakers.borrow_mut()[slot as usize].clone_from(cx.waker());
            Poll::Pending
        })
        .await
    }

    fn gives_up(&self, flight: &Flight, now_ns: u64) -> Option<GivenUp> {
        let since_ns = self
            .unreachable_since_ns
            .get()
            .filter(|_| !self.keeps_going);
        if since_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) > LOST_AFTER_NS) {
            return Some(GivenUp::TargetLost);
        }
        let backlog = flight.backlog();
        (backlog > BACKLOG_MAX).then_some(GivenUp::Backlog(backlog))
    }

    /// The end of the current interval; `None` after the window.
    fn interval_end_ns(&self, window: Window) -> Option<u64> {
        let start_ns = window.from_ns + self.interval.get() as u64 * self.reporting.interval_ns;
        let end_ns = (start_ns + self.reporting.interval_ns).min(window.until_ns);
        (start_ns < window.until_ns).then_some(end_ns)
    }

    fn hand_over(&self, flight: &mut Flight, end_ns: u64) {
        let spare = self.reporting.spares.try_recv();
        let empty = spare.unwrap_or_else(|_| Box::new(Record::new(self.reporting.methods)));
        let number = self.interval.get();
        self.interval.set(number + 1);
        self.tell(Report::Interval {
            thread: self.reporting.thread,
            number,
            end_ns,
            record: flight.swap_record(empty),
        });
    }

    fn tell(&self, report: Report) {
        if self.reporting.reports.send(report).is_err() {
            // Nobody listens any more: the measurement was given up.
            self.control.stop();
        }
    }
}

/// A thread that never sleeps reads the clock more often than this, unless its CPU is taken away or it has
/// much to do at once.
const GAP_NS_MIN: u64 = 500_000;
/// How often to look for calls that take too long, and so how late they may be found.
const EXPIRY_STEP_NS: u64 = 1_000_000;
/// Calls that have taken too long are found within this time.
const TIMEOUT_SLACK_NS: u64 = 20_000_000;
/// Calls of one thread that wait to be sent: up to 300 MB of a schedule.
const BACKLOG_MAX: u64 = 25_000_000;
/// A server that was not reached for this long is lost.
const LOST_AFTER_NS: u64 = 1_000_000_000;
