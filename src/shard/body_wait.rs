//! How long a request's body waits for memory.
//!
//! While it waits nothing else of its connection is read, so whatever would make room may lie behind it: a
//! CANCEL for a call of the same connection, whose handler has the memory and keeps it for hours. No order in
//! which memory is granted helps there. So a body that has waited in vain for [`Limits::body_patience`] is
//! dropped as it arrives, its call refused as not executed, and what lies behind is read.
//!
//! Waiting for others is not in vain. What counts is whether anything moves that can end in room for this body:
//!
//! - Calls of the connection wait in handlers. Only their end counts: no new one begins meanwhile, so there
//!   are only so many ends to wait for. That others are granted memory does not count, since they might be for
//!   ever, ahead of this one, while the CANCEL lies here.
//! - Output waits for the peer. Then its progress counts too; without any the peer is given up.
//! - There is neither. Nothing that lies behind could make room, so this body waits in a line of strangers, and
//!   goes on to wait as long as that line moves: as long as some body of the shard is granted memory.
//!
//! Once a body was refused, the next ones behind it are refused at once when they find no room, until something
//! has moved: a CANCEL behind ten bodies need not wait for ten times as long.
//!
//! [`Limits::body_patience`]: crate::wire::limits::Limits::body_patience

use std::cell::Cell;

use super::ShardCore;
use super::conn::Conn;
use crate::connection::flow::Pause;
use crate::connection::link::nanos;

/// What a connection knows of the wait of its body.
#[derive(Debug, Default)]
pub(super) struct BodyWait {
    /// Since when nothing has moved for the body that waits; `None`: none waits.
    since_ns: Cell<Option<u64>>,
    /// When one was refused last, if nothing has moved since then.
    refused_ns: Cell<Option<u64>>,
}

impl BodyWait {
    /// A body waits for memory.
    pub(super) fn begin(&self, now_ns: u64, patience_ns: u64) {
        if self.since_ns.get().is_some() {
            return;
        }
        let is_fresh = |refused_ns: &u64| now_ns < refused_ns + patience_ns;
        let since_ns = match self.refused_ns.get().filter(is_fresh) {
            Some(_) => now_ns.saturating_sub(patience_ns),
            None => now_ns,
        };
        self.since_ns.set(Some(since_ns));
    }

    /// It waits no longer: there is room, or something else keeps the connection waiting.
    pub(super) fn end(&self) {
        if self.since_ns.take().is_some() {
            self.refused_ns.set(None);
        }
    }

    /// Something of the connection has moved.
    pub(super) fn restart(&self, now_ns: u64) {
        self.refused_ns.set(None);
        if self.since_ns.get().is_some() {
            self.since_ns.set(Some(now_ns));
        }
    }

    /// Whether nothing has moved for so long. Its connection `has_calls` that wait in handlers, or a body of the
    /// shard was granted memory last at `granted_ns`.
    fn is_in_vain(&self, now_ns: u64, patience_ns: u64, has_calls: bool, granted_ns: u64) -> bool {
        let Some(mut moved_ns) = self.since_ns.get() else {
            return false;
        };
        if !has_calls && granted_ns > moved_ns {
            self.restart(granted_ns);
            moved_ns = granted_ns;
        }
        now_ns >= moved_ns + patience_ns
    }

    fn refuse(&self, now_ns: u64) {
        self.since_ns.set(None);
        self.refused_ns.set(Some(now_ns));
    }

    /// When the body has waited for so long.
    pub(super) fn due_ns(&self, patience_ns: u64) -> Option<u64> {
        self.since_ns.get().map(|since_ns| since_ns + patience_ns)
    }
}

impl ShardCore {
    /// Takes note of why a connection waits now: for memory, with a request's body, or for something else.
    pub(super) fn note_body_wait(&self, conn: &Conn, pause: Option<Pause>) {
        let waits = pause == Some(Pause::Memory)
            && self.lacks_room_for_body(conn)
            && conn.link(|link| link.is_request_arriving());
        if waits {
            conn.budget
                .body_wait
                .begin(self.patience_ns(), self.body_patience_ns());
        } else {
            conn.budget.body_wait.end();
        }
    }

    /// Refuses the body that a connection waits with, if that was in vain for long enough.
    pub(super) fn look_at_body_wait(&self, conn: &Conn, now_ns: u64) {
        let is_due = conn.body_due_ns().is_some_and(|due_ns| now_ns >= due_ns);
        if !is_due || !self.lacks_room_for_body(conn) {
            return;
        }
        let has_calls = conn.with_server(|server| server.calls_in_flight() > 0) == Some(true);
        let (patience_ns, granted_ns) = (self.body_patience_ns(), self.body_granted_ns.get());
        let is_in_vain =
            conn.budget
                .body_wait
                .is_in_vain(now_ns, patience_ns, has_calls, granted_ns);
        if is_in_vain && conn.link(|link| link.discard_body()) {
            conn.budget.body_wait.refuse(now_ns);
        }
    }

    /// Takes note that a body which waited was granted its memory.
    pub(super) fn note_body_granted(&self) {
        self.body_granted_ns.set(self.patience_ns());
    }

    fn body_patience_ns(&self) -> u64 {
        nanos(self.config.limits.body_patience)
    }
}

impl Conn {
    /// When the body has waited for memory for so long that it must be looked at.
    pub(super) fn body_due_ns(&self) -> Option<u64> {
        if self.pause() != Some(Pause::Memory) {
            return None;
        }
        let patience_ns = self.shard.body_patience_ns();
        self.budget.body_wait.due_ns(patience_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u64 = 1000;

    #[test]
    fn the_wait_is_measured_from_the_last_move() {
        let wait = BodyWait::default();
        assert_eq!(wait.due_ns(PATIENCE), None);
        wait.begin(500, PATIENCE);
        wait.begin(700, PATIENCE);
        assert_eq!(wait.due_ns(PATIENCE), Some(1500));
        wait.restart(900);
        assert_eq!(wait.due_ns(PATIENCE), Some(1900));
        wait.end();
        assert_eq!(wait.due_ns(PATIENCE), None);
        wait.restart(1000);
        assert_eq!(wait.due_ns(PATIENCE), None, "none waits");
    }

    #[test]
    fn that_others_are_granted_memory_counts_where_no_call_could_end() {
        let wait = BodyWait::default();
        assert!(!wait.is_in_vain(5000, PATIENCE, true, 0), "none waits");
        wait.begin(500, PATIENCE);
        assert!(!wait.is_in_vain(1499, PATIENCE, true, 0));
        assert!(wait.is_in_vain(1500, PATIENCE, true, 1400));
        assert!(!wait.is_in_vain(1500, PATIENCE, false, 1400));
        assert_eq!(wait.due_ns(PATIENCE), Some(2400));
        assert!(wait.is_in_vain(2400, PATIENCE, false, 1400));
    }

    #[test]
    fn after_a_refusal_the_next_body_is_due_at_once_until_something_moves() {
        let wait = BodyWait::default();
        let refused_at = |now_ns| {
            wait.begin(now_ns, PATIENCE);
            wait.refuse(now_ns);
        };
        refused_at(5000);
        wait.begin(5001, PATIENCE);
        assert!(wait.due_ns(PATIENCE) <= Some(5001));
        wait.restart(5002);
        assert_eq!(wait.due_ns(PATIENCE), Some(5002 + PATIENCE));
        // A body that found room is a move as well.
        refused_at(7000);
        wait.begin(7001, PATIENCE);
        wait.end();
        wait.begin(7002, PATIENCE);
        assert_eq!(wait.due_ns(PATIENCE), Some(7002 + PATIENCE));
        // Nor is it remembered for ever.
        refused_at(9000);
        wait.begin(9000 + PATIENCE, PATIENCE);
        assert_eq!(wait.due_ns(PATIENCE), Some(9000 + 2 * PATIENCE));
    }
}
