//! What one turn of a shard does at most, so that nobody waits long for the others.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::conn::Conn;

/// Bounds of the present turn, and who goes on in the next one.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Output above which no more of a connection is acted on.
    pub(super) output_max: Cell<usize>,
    /// Connections that have more to act on.
    next: RefCell<Vec<Rc<Conn>>>,
    /// Times that bytes of a connection were acted on.
    receives: Cell<usize>,
    /// Calls that have begun to wait.
    suspended: Cell<usize>,
}

/// With as many connections at work, all of their output together may be as much as that of one alone.
const OUTPUT_BYTES_MIN: usize = 8 << 10;
/// Calls that begin to wait in one turn: each takes about a microsecond and leaves no output.
const SUSPENDED_MAX: usize = 2048;

/// What each of so many connections may have.
#[inline]
fn share(output_high: usize, at_work: usize) -> usize {
    if at_work <= 1 {
        return output_high;
    }
    (output_high / at_work).max(OUTPUT_BYTES_MIN.min(output_high))
}

impl Turn {
    /// Begins a turn, with as much for each connection as the last one has shown to be enough.
    /// `output_high` is what one may have that is alone.
    #[inline]
    pub(super) fn begin(&self, output_high: usize) {
        let at_work = self.receives.take();
        self.suspended.set(0);
        self.output_max.set(share(output_high, at_work));
        if self.has_next() {
            self.call_next();
        }
    }

    #[inline(never)]
    fn call_next(&self) {
        for conn in self.next.take() {
            conn.waits_for_turn.set(false);
            conn.attend();
        }
    }

    /// Has a connection go on in the next turn.
    pub(super) fn put_off(&self, conn: &Rc<Conn>) {
        if !conn.waits_for_turn.replace(true) {
            self.next.borrow_mut().push(Rc::clone(conn));
        }
    }

    /// The shard ends.
    pub(super) fn forget_next(&self) {
        drop(self.next.take());
    }

    /// Whether some go on in the next turn.
    #[inline]
    pub(super) fn has_next(&self) -> bool {
        !self.next.borrow().is_empty()
    }

    /// Counts that bytes of a connection are acted on. The more there are in a turn, the less each of those
    /// to come gets: the turn before may have had none of them.
    #[inline]
    pub(super) fn note_receive(&self, output_high: usize) {
        let receives = self.receives.get() + 1;
        self.receives.set(receives);
        if receives.is_power_of_two() {
            let output_max = share(output_high, receives);
            self.output_max.set(output_max.min(self.output_max.get()));
        }
    }

    /// Counts a call that begins to wait. After many of them no more is acted on in this turn.
    pub(super) fn note_suspended(&self) {
        let suspended = self.suspended.get() + 1;
        self.suspended.set(suspended);
        if suspended >= SUSPENDED_MAX {
            self.output_max.set(0);
        }
    }
}
