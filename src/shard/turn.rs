//! What one turn of a shard does at most, so that nobody waits long for the others.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::conn::Conn;

/// Bounds of the present turn, and who goes on in the next one.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Output above which no more is acted on of the connection that is at work.
    pub(super) output_max: Cell<usize>,
    /// What each connection may have in this turn.
    output_share: Cell<usize>,
    /// Connections that were at work in the turn before.
    at_work_before: Cell<usize>,
    /// Connections that have more to act on.
    next: RefCell<Vec<Rc<Conn>>>,
    /// Connections at work so far.
    at_work: Cell<usize>,
    /// Names this turn.
    number: Cell<u32>,
}

/// With as many connections at work, all of their output together may be as much as that of one alone.
const OUTPUT_BYTES_MIN: usize = 8 << 10;
/// Calls that begin to wait in one turn, of all connections together: each takes about a microsecond and
/// leaves no output.
const SUSPENDED_MAX: usize = 2048;
/// As many of one connection may begin to wait, however many others there are.
const SUSPENDED_MIN: usize = 16;

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
        let at_work = self.at_work.take();
        self.at_work_before.set(at_work);
        self.number.set(self.number.get().wrapping_add(1));
        self.output_share.set(share(output_high, at_work));
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

    /// Looks at a connection. The more there are in a turn, the less each of those to come gets: the turn
    /// before may have had none of them.
    #[inline]
    pub(super) fn look_at(&self, conn: &Conn, output_high: usize) {
        let number = self.number.get();
        if conn.turn.replace(number) != number {
            let at_work = self.at_work.get() + 1;
            self.at_work.set(at_work);
            if at_work.is_power_of_two() {
                let output_share = share(output_high, at_work);
                self.output_share
                    .set(output_share.min(self.output_share.get()));
            }
            conn.suspended_in_turn.set(0);
        }
        self.output_max.set(self.output_share.get());
    }

    /// Counts a call that begins to wait. After as many as are the connection's share, no more of it is
    /// acted on in this turn.
    pub(super) fn note_suspended(&self, conn: &Conn) {
        let suspended = conn.suspended_in_turn.get() + 1;
        conn.suspended_in_turn.set(suspended);
        let at_work = self.at_work.get().max(self.at_work_before.get()).max(1);
        if suspended >= (SUSPENDED_MAX / at_work).max(SUSPENDED_MIN) {
            self.output_max.set(0);
        }
    }
}
