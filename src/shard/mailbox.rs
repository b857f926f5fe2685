//! How other threads reach a shard: wake one of its tasks, or tell it to drain.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use crossbeam::queue::SegQueue;
use rustix::event::{EventfdFlags, eventfd};

/// The part of a shard that other threads see.
///
/// The queue of woken tasks is bounded by the number of tasks, since each is queued at most once.
#[derive(Debug)]
pub(crate) struct Mailbox {
    woken: SegQueue<u32>,
    drain: AtomicBool,
    /// Whether the shard sleeps, or is about to, and which eventfd wakes it.
    rest: AtomicU8,
    eventfd: OwnedFd,
    /// Wakes from naps. It is not the other, which the kernel signals on behalf of the very ring that
    /// would read it: such signals are deferred, and were lost where two came together (Linux 6.18).
    nap_eventfd: OnceLock<OwnedFd>,
}

/// The shard looks for work by itself.
const AWAKE: u8 = 0;
/// It sleeps until the eventfd is written.
const PARKED: u8 = 1;
/// It sleeps until the eventfd of naps is written.
const NAPPING: u8 = 2;

impl Mailbox {
    /// Fails when the process has no descriptor left.
    pub(crate) fn new(nonblocking: bool) -> std::io::Result<Arc<Self>> {
        let mut flags = EventfdFlags::CLOEXEC;
        flags.set(EventfdFlags::NONBLOCK, nonblocking);
        Ok(Arc::new(Self {
            woken: SegQueue::new(),
            drain: AtomicBool::new(false),
            rest: AtomicU8::new(AWAKE),
            eventfd: eventfd(0, flags)?,
            nap_eventfd: OnceLock::new(),
        }))
    }

    /// The descriptor that becomes readable when a shard that naps must wake up. Whoever asks for it
    /// may use [`Mailbox::announce_nap`].
    pub(crate) fn nap_eventfd(&self) -> std::io::Result<BorrowedFd<'_>> {
        let made = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(self.nap_eventfd.get_or_init(|| made).as_fd())
    }

    /// The descriptor that becomes readable when the shard must wake up.
    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Tells the shard to stop taking calls and to end when those in flight have ended.
    pub(crate) fn begin_drain(&self) {
        self.drain.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether [`Mailbox::begin_drain`] was called.
    pub(crate) fn must_drain(&self) -> bool {
        self.drain.load(Ordering::Acquire)
    }

    /// The next task that was woken.
    pub(crate) fn pop_woken(&self) -> Option<u32> {
        self.woken.pop()
    }

    /// Number of tasks that were woken and not run yet.
    pub(crate) fn woken_count(&self) -> usize {
        self.woken.len()
    }

    /// Whether a task was woken and not run yet.
    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Announces that the shard is about to sleep. The shard must look for work once more after
    /// this, and sleep only if there is none: then either it sees what a waker queued before, or
    /// the waker sees the announcement and writes to the eventfd.
    pub(crate) fn announce_park(&self) {
        self.rest.store(PARKED, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The same before a sleep from which the eventfd of naps wakes.
    pub(crate) fn announce_nap(&self) {
        self.rest.store(NAPPING, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn unpark(&self) {
        self.rest.store(AWAKE, Ordering::Relaxed);
    }

    /// Wakes the shard for a look at what it shares with others.
    pub(crate) fn poke(&self) {
        self.notify();
    }

    fn notify(&self) {
        fence(Ordering::SeqCst);
        let eventfd = match self.rest.swap(AWAKE, Ordering::AcqRel) {
            PARKED => &self.eventfd,
            NAPPING => self.nap_eventfd.get().expect("announced after it was made"),
            _ => return,
        };
        // It can fail only when 2^64 wake-ups are unread, and then the shard is awake.
        if let Err(error) = rustix::io::write(eventfd, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "eventfd not written");
        }
    }

    /// A waker for the task with this index.
    pub(crate) fn waker(self: &Arc<Self>, task: u32) -> TaskWaker {
        let waker = Arc::new(TaskWakerInner {
            mailbox: Arc::clone(self),
            task,
            is_queued: AtomicBool::new(false),
        });
        TaskWaker {
            waker: Waker::from(Arc::clone(&waker)),
            inner: waker,
        }
    }
}

/// A task's waker and the shard's side of it.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    waker: Waker,
    inner: Arc<TaskWakerInner>,
}

impl TaskWaker {
    /// To poll the task with.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Says that the task is about to be polled: later wake-ups must queue it again.
    pub(crate) fn before_poll(&self) {
        self.inner.is_queued.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
struct TaskWakerInner {
    mailbox: Arc<Mailbox>,
    task: u32,
    is_queued: AtomicBool,
}

impl Wake for TaskWakerInner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.mailbox.woken.push(self.task);
            self.mailbox.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_queued_once_until_it_is_polled() {
        let mailbox = Mailbox::new(true).expect("a descriptor");
        let waker = mailbox.waker(5);
        waker.waker().wake_by_ref();
        waker.waker().wake_by_ref();
        assert_eq!((mailbox.pop_woken(), mailbox.pop_woken()), (Some(5), None));
        waker.before_poll();
        waker.waker().wake_by_ref();
        assert_eq!(mailbox.pop_woken(), Some(5));
    }

    #[test]
    fn a_parked_shard_is_woken_by_its_eventfd_and_a_running_one_is_not() {
        let mailbox = Mailbox::new(true).expect("a descriptor");
        let mut count = [0; 8];
        mailbox.waker(1).waker().wake_by_ref();
        assert!(rustix::io::read(mailbox.eventfd(), &mut count).is_err());
        mailbox.announce_park();
        mailbox.waker(2).waker().wake_by_ref();
        assert_eq!(rustix::io::read(mailbox.eventfd(), &mut count), Ok(8));
    }

    #[test]
    fn a_napping_shard_is_woken_by_the_eventfd_of_naps_alone() {
        let mailbox = Mailbox::new(true).expect("a descriptor");
        let nap_eventfd = mailbox.nap_eventfd().expect("a descriptor");
        let mut count = [0; 8];
        mailbox.announce_nap();
        mailbox.waker(1).waker().wake_by_ref();
        mailbox.waker(2).waker().wake_by_ref();
        assert_eq!(rustix::io::read(nap_eventfd, &mut count), Ok(8));
        assert_eq!(u64::from_ne_bytes(count), 1, "awake after the first");
        assert!(rustix::io::read(mailbox.eventfd(), &mut count).is_err());
    }
}
