//! What a shard counts. Only the shard writes, anyone may read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::connection::flow::Pause;
use crate::wire::violation::{REASONS, Violation};

/// A number that one thread adds to and all may read: no locked instruction is needed.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning shard may call this.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    /// Sets; only the owning shard may call this.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one shard, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// Connections accepted so far.
    pub(crate) accepted: Counter,
    /// Connections open now.
    pub(crate) connections: Counter,
    /// Requests given to a handler.
    pub(crate) requests: Counter,
    /// Requests that failed validation, and so reached no handler.
    pub(crate) invalid: Counter,
    /// Calls of methods that are not known or not resolved.
    pub(crate) unimplemented: Counter,
    /// Calls refused because this side is draining.
    pub(crate) refused_draining: Counter,
    /// Calls refused by the server's hook.
    pub(crate) refused_by_hook: Counter,
    /// Panics of handlers and of what they leave behind: replies, spawned futures, wakers, services.
    pub(crate) panics: Counter,
    /// Calls that the caller gave up, or whose connection ended.
    pub(crate) cancelled: Counter,
    /// Calls whose deadline passed.
    pub(crate) expired: Counter,
    /// Responses longer than the peer accepts.
    pub(crate) too_long: Counter,
    /// Responses that nest deeper than a receiver follows.
    pub(crate) too_deep: Counter,
    /// Requests read in place in a receive buffer.
    pub(crate) in_place: Counter,
    /// Requests that were copied: misaligned, straddling, or because buffers ran low.
    pub(crate) copied: Counter,
    /// Requests received straight into a buffer of their own.
    pub(crate) direct: Counter,
    /// Calls suspended in handlers now.
    pub(crate) in_flight: Counter,
    /// Accepts that failed and were tried again later.
    pub(crate) accept_errors: Counter,
    /// Times that the receive buffers ran out.
    pub(crate) buffers_exhausted: Counter,
    /// Answers that were refused because too much output waited.
    pub(crate) refused_memory: Counter,
    /// Bytes that peers make the shard hold, as it was last noted.
    pub(crate) held_bytes: Counter,
    /// Connections that are paused now, and how often any was, by [`Pause::COUNTED`].
    pub(crate) paused: [Counter; Pause::COUNTED.len()],
    pub(crate) pauses: [Counter; Pause::COUNTED.len()],
    /// Odd while the shard is in a turn, and different in each: what the watchdog looks at.
    pub(crate) pulse: Counter,
    /// Handlers that held the CPU for longer than the watchdog permits; written by the watchdog.
    pub(crate) stalls: Counter,
    /// Connections that were ended, by reason.
    pub(crate) rejected: [Counter; REASONS],
}

impl Counters {
    /// Counts that a connection is no longer paused for one reason, but for another.
    pub(crate) fn change_pause(&self, before: Option<Pause>, after: Option<Pause>) {
        for (at, (reason, _)) in Pause::COUNTED.iter().enumerate() {
            let (was, is) = (before == Some(*reason), after == Some(*reason));
            if is && !was {
                self.paused[at].add(1);
                self.pauses[at].add(1);
            } else if was && !is {
                self.paused[at].set(self.paused[at].get() - 1);
            }
        }
    }

    /// Counts a connection that is ended for this.
    pub(crate) fn reject(&self, violation: &Violation) {
        self.rejected[usize::from(violation.reason())].add(1);
    }
}
