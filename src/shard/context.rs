//! What a handler and a service see of their shard.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::ShardCore;
use super::call_info::CallInfo;
use super::timers::{Due, TimerKey};

/// A shard, as the services that live on it see it. Cheap to clone; stays on its thread.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(crate) core: Rc<ShardCore>,
}

impl Shard {
    /// Number of this shard, from 0.
    pub fn id(&self) -> usize {
        self.core.place.id
    }

    /// Number of shards of the server.
    pub fn count(&self) -> usize {
        self.core.place.count
    }

    /// The CPU that it is pinned to; `None` when pinning is off or was refused.
    pub fn cpu(&self) -> Option<usize> {
        self.core.place.cpu
    }

    /// Runs a future on this shard, at once until it first waits and then whenever it is woken.
    /// It ends with the server at the latest. A panic in it is logged.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.core.spawn(future);
    }

    /// Waits, without holding the CPU. The resolution is 131 µs, never early.
    pub fn sleep(&self, time: Duration) -> Sleep {
        let deadline_ns = self
            .core
            .clock
            .now_ns()
            .saturating_add(time.as_nanos().min(u128::from(u64::MAX)) as u64);
        Sleep {
            core: Rc::clone(&self.core),
            deadline_ns,
            timer: None,
        }
    }
}

/// What a handler is given beside its request: the call that it answers, and the shard that it runs on.
#[derive(Clone, Debug)]
pub struct Context {
    pub(super) call: CallInfo,
}

impl Context {
    /// The shard that the handler runs on.
    pub fn shard(&self) -> Shard {
        Shard {
            core: Rc::clone(&self.call.conn.shard),
        }
    }

    /// The call: its method, who has made it, and how long they wait. Costs nothing.
    #[inline]
    pub fn call(&self) -> &CallInfo {
        &self.call
    }

    /// The caller's address; see [`CallInfo::peer`].
    pub fn peer(&self) -> &str {
        self.call.peer()
    }

    /// When the caller stops waiting; see [`CallInfo::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline()
    }

    /// Time until then; see [`CallInfo::remaining`].
    pub fn remaining(&self) -> Option<Duration> {
        self.call.remaining()
    }

    /// Waits, without holding the CPU; see [`Shard::sleep`].
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.shard().sleep(time)
    }

    /// Runs a future beside this call; see [`Shard::spawn`]. It goes on when the call has ended.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.shard().spawn(future);
    }
}

/// Waits until a time; see [`Context::sleep`].
#[derive(Debug)]
pub struct Sleep {
    core: Rc<ShardCore>,
    deadline_ns: u64,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if let Some(timer) = self.timer.take() {
            self.core.timers.borrow_mut().cancel(timer);
        }
        if self.core.clock.now_ns() >= self.deadline_ns {
            return Poll::Ready(());
        }
        let due = Due::Wake(cx.waker().clone());
        let timer = self.core.timers.borrow_mut().add(self.deadline_ns, due);
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.core.timers.borrow_mut().cancel(timer);
        }
    }
}

/// Where the time of a shard comes from.
#[derive(Clone, Debug)]
pub(crate) enum TimeSource {
    /// The system's monotonic clock.
    System,
    /// The simulation, which says how many nanoseconds have passed since its begin.
    #[cfg(feature = "simulation")]
    Simulated(Rc<Cell<u64>>),
}

/// Monotonic time of a shard, in nanoseconds since it started.
///
/// Beside it runs the time by which peers are judged: it stands still while the shard could not look
/// at their sockets, since a handler held its thread, or the process was stopped, or the machine was
/// suspended. What a peer has sent meanwhile is found before it is blamed for silence, and what it
/// could not send is not missed.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    source: TimeSource,
    now_ns: Cell<u64>,
    /// Time that does not count for peers.
    lost_ns: Cell<u64>,
    /// Until when the shard means to sleep, in which time whatever comes wakes it. Zero while it does not.
    rests_until_ns: Cell<u64>,
}

/// A turn takes less, as a rule; what it takes beyond that does not count for peers.
const GAP_NS_MAX: u64 = 20_000_000;

impl Clock {
    pub(super) fn new(source: TimeSource) -> Self {
        Self {
            start: Instant::now(),
            source,
            now_ns: Cell::new(0),
            lost_ns: Cell::new(0),
            rests_until_ns: Cell::new(0),
        }
    }

    /// The time, read now.
    pub(crate) fn now_ns(&self) -> u64 {
        match &self.source {
            TimeSource::System => {
                let time = self.start.elapsed();
                // Without the wide multiplication of `as_nanos`: this is read in every turn.
                time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
            }
            #[cfg(feature = "simulation")]
            TimeSource::Simulated(now_ns) => now_ns.get(),
        }
    }

    /// Reads the time and keeps it for this turn.
    #[inline]
    pub(super) fn update(&self) {
        let now_ns = self.now_ns();
        let looked_ns = self.now_ns.replace(now_ns).max(self.rests_until_ns.take());
        let gap_ns = now_ns.saturating_sub(looked_ns);
        if gap_ns > GAP_NS_MAX {
            self.lose(gap_ns - GAP_NS_MAX);
        }
    }

    #[cold]
    fn lose(&self, ns: u64) {
        self.lost_ns.set(self.lost_ns.get() + ns);
    }

    /// Says that the shard is about to sleep until something comes, until `due_ns`, or for so long at
    /// most. Returns for how many nanoseconds.
    pub(crate) fn rest(&self, due_ns: Option<u64>, at_most_ns: u64) -> u64 {
        // The turn that ends here may have been long.
        self.update();
        let now_ns = self.now_ns.get();
        let until_due_ns = due_ns.map_or(u64::MAX, |due_ns| due_ns.saturating_sub(now_ns));
        let rest_ns = until_due_ns.min(at_most_ns);
        self.rests_until_ns.set(now_ns.saturating_add(rest_ns));
        rest_ns
    }

    /// The time by which peers are judged, as it was read last.
    #[inline]
    pub(super) fn patience_ns(&self) -> u64 {
        self.now_ns.get() - self.lost_ns.get()
    }

    /// When it will be so late by the clock, if no more time is lost.
    #[inline]
    pub(super) fn real_ns(&self, patience_ns: u64) -> u64 {
        patience_ns.saturating_add(self.lost_ns.get())
    }

    /// The time that was read last.
    #[inline]
    pub(super) fn cached_ns(&self) -> u64 {
        self.now_ns.get()
    }

    pub(super) fn instant(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }
}
