//! What a shard counts. Only the shard writes, anyone may read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::violation::{REASONS, Violation};

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
    /// Handlers that panicked.
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
    /// Odd while the shard is in a turn, and different in each: what the watchdog looks at.
    pub(crate) pulse: Counter,
    /// Handlers that held the CPU for longer than the watchdog permits; written by the watchdog.
    pub(crate) stalls: Counter,
    /// Connections that were ended, by reason.
    pub(crate) rejected: [Counter; REASONS],
}

impl Counters {
    /// Counts a connection that is ended for this.
    pub(crate) fn reject(&self, violation: &Violation) {
        self.rejected[usize::from(violation.reason())].add(1);
    }
}
