//! One answer at a time for which there is no room.
//!
//! A call is held while there is no room for its answer. Where bodies that have half arrived take all of
//! it, and wait themselves, there never would be. So one held call after another is let through although
//! there is none: the next one when the answer to the last has been sent.

use std::cell::Cell;

use super::ShardCore;
use super::conn::{Conn, ConnKey, HELD_PATIENCE_NS};

/// Whose call was let through last.
#[derive(Debug, Default)]
pub(super) struct LetThrough {
    conn: Cell<Option<ConnKey>>,
    since_ns: Cell<u64>,
}

impl ShardCore {
    /// Lets the held call of a connection start, unless the answer to another one is still on its way.
    pub(super) fn let_through(&self, conn: &Conn) -> bool {
        let last = self.let_through.conn.get().and_then(|key| self.find(key));
        if let Some(last) = last {
            if !last.has_sent_what_was_let_through() {
                return false;
            }
            last.budget.is_let_through.set(false);
        }
        self.let_through.conn.set(Some(conn.key));
        self.let_through.since_ns.set(self.patience_ns());
        conn.budget.is_let_through.set(true);
        conn.set_held_until_ns(None);
        // So that the answer is looked at, and let pass.
        conn.answer_briefly();
        true
    }

    /// Ends the patience of a call that is held, unless others have been let through meanwhile.
    pub(super) fn end_patience(&self, conn: &Conn, now_ns: u64) {
        let until_ns = self.let_through.since_ns.get() + HELD_PATIENCE_NS;
        let goes_on = self.let_through.conn.get().is_some() && now_ns < until_ns;
        conn.set_held_until_ns(goes_on.then_some(until_ns));
    }
}

impl Conn {
    /// Whether the answer to the call that was let through has been sent, or will never be made.
    fn has_sent_what_was_let_through(&self) -> bool {
        if self.stage() != Stage::Open {
            return true;
        }
        let may_be_made = self.backlog().is_holding()
            || self.with_server(|server| server.calls_in_flight() > 0) == Some(true);
        !(self.budget.is_let_through.get() && may_be_made) && self.budget.output_bytes.get() == 0
    }
}
use crate::connection::lifecycle::Stage;
