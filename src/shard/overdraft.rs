//! One answer at a time for which there is no room.
//!
//! A call is held while there is no room for its answer. Where bodies that have half arrived take all of
//! it, and wait themselves, there never would be. So one held call after another may overdraw the memory:
//! the next one when the answer to the last has been sent.

use std::cell::Cell;

use super::ShardCore;
use super::conn::{Conn, ConnKey, HELD_PATIENCE_NS};

/// Whose call was the last that might.
#[derive(Debug, Default)]
pub(super) struct Overdraft {
    conn: Cell<Option<ConnKey>>,
    since_ns: Cell<u64>,
}

impl ShardCore {
    /// Lets the held call of a connection start, unless the answer to another one is still on its way.
    pub(super) fn grant_overdraft(&self, conn: &Conn) -> bool {
        let last = self.overdraft.conn.get().and_then(|key| self.find(key));
        if let Some(last) = last {
            if !last.has_repaid_overdraft() {
                return false;
            }
            last.budget.has_overdraft.set(false);
        }
        self.overdraft.conn.set(Some(conn.key));
        self.overdraft.since_ns.set(self.patience_ns());
        conn.budget.has_overdraft.set(true);
        conn.set_held_until_ns(None);
        // So that the answer is looked at, and let pass.
        conn.answer_briefly();
        true
    }

    /// Ends the patience of a call that is held, unless others were granted an overdraft meanwhile.
    pub(super) fn end_patience(&self, conn: &Conn, now_ns: u64) {
        let until_ns = self.overdraft.since_ns.get() + HELD_PATIENCE_NS;
        let goes_on = self.overdraft.conn.get().is_some() && now_ns < until_ns;
        conn.set_held_until_ns(goes_on.then_some(until_ns));
    }
}

impl Conn {
    /// Whether the answer to the call with the overdraft has been sent, or will never be made.
    fn has_repaid_overdraft(&self) -> bool {
        if self.stage() != Stage::Open {
            return true;
        }
        let may_be_made = self.backlog().is_holding()
            || self.with_server(|server| server.calls_in_flight() > 0) == Some(true);
        !(self.budget.has_overdraft.get() && may_be_made) && self.budget.output_bytes.get() == 0
    }
}
use crate::connection::lifecycle::Stage;
