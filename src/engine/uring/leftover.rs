//! What a glommio executor leaves behind, put in order.
//!
//! glommio 0.9.0 frees its tasks without dropping their headers, each of which counts as a holder of the
//! eventfd that wakes the executor. So that eventfd stays open for ever, one for each executor that has
//! run. Nobody can read it any more; but whoever still has a waker of a task that matters for
//! latency may write to it.
//!
//! It can't be asked for, so it is recognised by what is written to it: a task of our own matters for
//! latency, and each time that its waker is woken when the executor has ended, glommio adds one to the
//! count in its eventfd. The descriptor whose count rises by as many as we wake is the one. It is only
//! looked for and closed where nobody but us has made a task queue on this executor, so that nobody else
//! can have such a waker. What stays is about a KiB of memory for each executor.
#![allow(unsafe_code, reason = "a descriptor that glommio has leaked is closed")]

use std::fs;
use std::future::poll_fn;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::{Latency, Shares};

/// The means to recognise the eventfd of an executor that is about to end.
pub(super) struct Leftover {
    waker: Waker,
}

/// The executor's first task queue of its own is number 0, so that the first that is made is number 1.
const FIRST_QUEUE: usize = 1;
/// Ring operations of the executor end a little later than it does, one of which reads the eventfd.
const TRIES_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);
/// Times that the waker is woken in one try, at most. Each costs some bytes.
const WAKES_MAX: u64 = 24;

impl Leftover {
    /// Prepares what is left by the executor of this thread. `None`: somebody else may still write to
    /// its eventfd later, so that it must stay.
    pub(super) async fn of_this_executor() -> Option<Self> {
        let latency = Latency::Matters(Duration::from_secs(1));
        let queue =
            glommio::executor().create_task_queue(Shares::default(), latency, "ringcall-end");
        if queue.index() != FIRST_QUEUE {
            tracing::debug!("an eventfd stays open: handlers have made task queues of glommio's");
            return None;
        }
        let task = poll_fn(|cx| Poll::Ready(cx.waker().clone()));
        let waker = glommio::spawn_local_into(task, queue).ok()?.await;
        Some(Self { waker })
    }

    /// Closes the eventfd, when the executor is gone. How often it is woken is drawn from `random`, so that no
    /// other eventfd rises just as much.
    pub(super) fn put_in_order(self, random: &mut fastrand::Rng) {
        let mut known: Option<RawFd> = None;
        for _ in 0..TRIES_MAX {
            let before = counts(known);
            let wakes = random.u64(2..=WAKES_MAX);
            (0..wakes).for_each(|_| self.waker.wake_by_ref());
            let mut risen = before.iter().filter(|(fd, count)| {
                count_of(*fd).is_some_and(|now| now.wrapping_sub(*count) == wakes)
            });
            match (risen.next(), risen.next(), known) {
                // Twice the same one, by another number each time.
                (Some((fd, _)), None, Some(found)) if *fd == found => return close(*fd),
                (Some((fd, _)), None, None) => known = Some(*fd),
                // The executor's ring still reads it, or another thread's rose by chance.
                _ => {
                    known = None;
                    std::thread::sleep(PAUSE);
                }
            }
        }
        tracing::debug!("an eventfd of the shard's executor was not found, and stays open");
    }
}

/// The eventfds of this process with their counts, or the one that is known.
fn counts(known: Option<RawFd>) -> Vec<(RawFd, u64)> {
    let fds = match known {
        Some(fd) => vec![fd],
        None => eventfds(),
    };
    let counted = fds.into_iter().map(|fd| Some((fd, count_of(fd)?)));
    counted.flatten().collect()
}

fn eventfds() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let is_eventfd = |path: &std::path::Path| {
        fs::read_link(path).is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]")
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| is_eventfd(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The count in an eventfd, which the kernel tells in hexadecimal digits.
fn count_of(fd: RawFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let digits = text
        .lines()
        .find_map(|line| line.strip_prefix("eventfd-count:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn close(fd: RawFd) {
    // SAFETY: the count in this eventfd has followed our wake-ups of a task of the executor twice, so
    // that it is the one that glommio writes to for them. glommio's owner of the descriptor is never
    // dropped, as each task of this executor has leaked a count of it, ours too (release 0.9.0, to which
    // the manifest holds). It is not used any more either: the executor is gone, and writes come only
    // from wakers of tasks that matter for latency, which belong to task queues that nobody but us
    // has made; ours is not woken again.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}
