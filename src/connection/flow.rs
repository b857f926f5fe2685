//! What keeps a connection from reading, and what waits meanwhile.

use std::cell::{Ref, RefMut};

use super::Connection;
use super::backlog::Backlog;
use super::lifecycle::Stage;
use super::link::Link;
use crate::wire::framer::DirectBody;

/// Why nothing of a connection is acted on for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It has had its part of this turn: others come first.
    Turn,
    /// As many of its calls wait as may.
    Calls,
    /// There is no room for its body, its call or the answer to that.
    Memory,
    /// Too much output waits for its peer.
    Output,
}

impl Pause {
    /// Every reason that operators see, at the index of its counters.
    pub(crate) const COUNTED: [(Self, &'static str); 3] = [
        (Self::Calls, "calls"),
        (Self::Memory, "memory"),
        (Self::Output, "output"),
    ];
}

/// Bytes that wait for their turn, beyond which the driver brings no more.
const BACKLOG_BYTES_IN_TURN: usize = 64 << 10;

impl Connection {
    /// Why nothing of it is acted on for now.
    #[inline(always)]
    pub(crate) fn pause(&self) -> Option<Pause> {
        self.pause.get()
    }

    /// Acts on nothing more of it for a reason, or on everything again. Returns the reason before; when that
    /// is another, peers are judged anew and the driver must look at its plan.
    pub(crate) fn set_pause(&self, pause: Option<Pause>, now_ns: u64) -> Option<Pause> {
        let before = self.pause.replace(pause);
        if before != pause {
            self.reads_on.set(false);
            let is_long = pause.is_some_and(|pause| pause != Pause::Turn);
            self.link(|link| link.set_paused(is_long, now_ns));
        }
        before
    }

    /// Ends the pause of a connection that has ended. Returns its reason.
    pub(crate) fn take_pause(&self) -> Option<Pause> {
        self.pause.take()
    }

    /// Whether it should be received from.
    #[inline]
    pub(crate) fn wants_read(&self) -> bool {
        match self.pause.get() {
            Some(pause) if self.is_open() => self.reads_while_paused(pause),
            _ => match self.stage.get() {
                Stage::Open => !self.ends_behind_backlog.get(),
                Stage::Lingering => true,
                Stage::Flushing | Stage::Closing | Stage::Closed => false,
            },
        }
    }

    #[cold]
    fn reads_while_paused(&self, pause: Pause) -> bool {
        let may_read = match pause {
            // Its turn comes soon: the receive need not be ended and begun again.
            Pause::Turn => self.backlog.borrow().bytes() < BACKLOG_BYTES_IN_TURN,
            Pause::Output => self.reads_on.get(),
            Pause::Calls | Pause::Memory => false,
        };
        may_read && !self.ends_behind_backlog.get()
    }

    /// Whether nothing is acted on until the peer is below its limits again, or has its turn.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.is_open() && self.pause.get().is_some()
    }

    /// Whether reading has stopped. A connection that breaks meanwhile would not be noticed by it.
    #[inline]
    pub(crate) fn is_unread(&self) -> bool {
        self.is_paused() && !self.wants_read()
    }

    /// Whether it should be read from although its output waits; looked at when its time is up.
    pub(crate) fn set_reads_on(&self, reads_on: bool) {
        self.reads_on.set(reads_on);
    }

    /// When to read on although output waits.
    pub(crate) fn output_sticks_ns(&self) -> Option<u64> {
        if self.pause.get() != Some(Pause::Output) || self.reads_on.get() {
            return None;
        }
        let sticks_ns = self.link(|link| link.output_sticks_ns())?;
        Some(sticks_ns.max(self.looks_again_ns.get()))
    }

    /// Looks again whether there is room to read on although output waits.
    pub(crate) fn look_again_at(&self, at_ns: u64) {
        self.looks_again_ns.set(at_ns);
    }

    /// Until when the call that is held may wait for memory for its answer; `None` once that is over.
    #[inline]
    pub(crate) fn held_until_ns(&self) -> Option<u64> {
        self.held_until_ns.get()
    }

    pub(crate) fn set_held_until_ns(&self, until_ns: Option<u64>) {
        self.held_until_ns.set(until_ns);
    }

    /// When a call is no longer held for want of memory for its answer.
    pub(crate) fn held_due_ns(&self) -> Option<u64> {
        let waits = self.pause.get() == Some(Pause::Memory);
        self.held_until_ns.get().filter(|_| waits)
    }

    /// What has been received and may not be acted on yet.
    pub(crate) fn backlog(&self) -> Ref<'_, Backlog> {
        self.backlog.borrow()
    }

    /// The same, to be changed.
    pub(crate) fn backlog_mut(&self) -> RefMut<'_, Backlog> {
        self.backlog.borrow_mut()
    }

    /// The peer has closed its side, behind what waits to be acted on.
    pub(crate) fn end_behind_backlog(&self) {
        self.ends_behind_backlog.set(true);
    }

    /// Whether that has been reached; said once.
    pub(crate) fn take_end_behind_backlog(&self) -> bool {
        self.ends_behind_backlog.take()
    }

    /// Whether a large body is arriving that is best received straight into its place. What waits to be
    /// acted on belongs before whatever is received, so it must be used up.
    #[inline]
    pub(crate) fn wants_direct(&self) -> bool {
        self.link(|link| link.wants_direct()) && self.backlog.borrow().is_used_up()
    }

    /// The large body that is arriving, for the driver to receive into.
    #[inline]
    pub(crate) fn take_direct(&self) -> Option<DirectBody> {
        if !self.wants_direct() {
            return None;
        }
        self.link(Link::take_direct)
    }
}
