//! The stages of a connection, and what its driver does in each.

use super::Connection;
use super::transmit::Answers;

/// What becomes of a connection, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Calls are taken and answered.
    Open,
    /// Nothing more is taken; what is queued goes out first.
    Flushing,
    /// All has gone out; what still arrives is discarded, until the peer has closed or time is
    /// up: closing at once would make the kernel destroy the last words on their way.
    Lingering,
    /// The engine closes the socket as soon as no operation uses it.
    Closing,
    /// The socket is closed.
    Closed,
}

/// What the driver does next with a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) read: Read,
    /// Whether something is queued that the driver has not taken, [`Connection::take_output`].
    pub(crate) transmit: bool,
    /// Whether this side of the socket is shut down, since all has gone out, and [`Connection::linger`] told.
    pub(crate) shutdown: bool,
    /// Whether the socket is closed, as soon as no operation uses it.
    pub(crate) close: bool,
}

/// What to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Nothing.
    Off,
    /// Nothing, and a socket that breaks meanwhile must be noticed by other means: its peer may have calls
    /// that wait.
    Watch,
    /// Whatever comes.
    Any,
    /// The rest of a large body, into its place: [`Connection::take_direct`].
    Into,
}

/// Time that the last words to a peer have to arrive; see [`Stage::Lingering`].
const LINGER_NS: u64 = 1_000_000_000;

impl Connection {
    /// What becomes of it.
    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether calls are taken and answered.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.stage.get() == Stage::Open
    }

    /// Moves on to a later stage; earlier ones are ignored.
    pub(crate) fn advance_to(&self, stage: Stage) {
        if stage > self.stage.get() {
            self.stage.set(stage);
            self.answers.set(Answers::None);
        }
    }

    /// What to do next with its socket. Asking changes nothing.
    #[inline]
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan {
            read: self.plan_read(),
            transmit: self.output.borrow().has_ready(),
            shutdown: false,
            close: false,
        };
        if !self.is_open() {
            self.plan_end(&mut plan);
        }
        plan
    }

    /// What else there is to do for one that takes no more calls.
    #[cold]
    fn plan_end(&self, plan: &mut Plan) {
        let stage = self.stage.get();
        plan.transmit &= stage <= Stage::Flushing;
        plan.shutdown = stage == Stage::Flushing && self.output.borrow().is_empty();
        plan.close = stage == Stage::Closing;
    }

    /// Its driver has shut this side of the socket down: the peer has time to take the last words.
    pub(crate) fn linger(&self, now_ns: u64) {
        self.linger_until_ns.set(now_ns + LINGER_NS);
        self.advance_to(Stage::Lingering);
    }

    /// What to receive.
    #[inline]
    pub(crate) fn plan_read(&self) -> Read {
        if !self.wants_read() {
            return self.plan_unread();
        }
        if self.wants_direct() {
            Read::Into
        } else {
            Read::Any
        }
    }

    #[cold]
    fn plan_unread(&self) -> Read {
        if self.is_paused() {
            Read::Watch
        } else {
            Read::Off
        }
    }

    /// Closes a connection that has lingered for long enough.
    pub(crate) fn end_lingering(&self, now_ns: u64) {
        if self.stage.get() == Stage::Lingering && now_ns >= self.linger_until_ns.get() {
            self.advance_to(Stage::Closing);
        }
    }

    /// Drops what waits to be acted on or sent: nothing of the peer is acted on any more.
    pub(crate) fn forget_waiting(&self) {
        self.link(|link| link.end());
        self.backlog.borrow_mut().clear();
        if self.stage.get() >= Stage::Closing {
            self.output.borrow_mut().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connection::Role;
    use crate::connection::flow::Pause;
    use crate::connection::server::ServerConnection;
    use crate::wire::limits::Limits;

    fn connection() -> Connection {
        let limits = Arc::new(Limits::default());
        Connection::new(Role::Server(ServerConnection::new(limits, 0)))
    }

    #[test]
    fn the_last_words_go_out_before_the_socket_is_shut_down_and_closed() {
        let conn = connection();
        let open = conn.plan();
        assert_eq!((open.read, open.transmit), (Read::Any, false));
        conn.output_mut().filling().extend_from_slice(b"last words");
        conn.advance_to(Stage::Flushing);
        let flushing = conn.plan();
        assert_eq!((flushing.read, flushing.transmit), (Read::Off, true));
        assert!(!flushing.shutdown && !flushing.close);
        conn.output_mut().clear();
        // Whoever asks twice is told twice: it is the driver that shuts down.
        assert!(conn.plan().shutdown && conn.plan().shutdown);
        conn.linger(5);
        let lingering = conn.plan();
        assert_eq!((lingering.read, lingering.shutdown), (Read::Any, false));
        conn.end_lingering(5 + LINGER_NS - 1);
        assert!(!conn.plan().close);
        conn.end_lingering(5 + LINGER_NS);
        assert_eq!((conn.plan().close, conn.plan().read), (true, Read::Off));
    }

    #[test]
    fn one_that_is_paused_is_watched() {
        let conn = connection();
        conn.set_pause(Some(Pause::Memory), 0);
        assert_eq!(conn.plan().read, Read::Watch);
        conn.set_pause(Some(Pause::Turn), 0);
        assert_eq!(conn.plan().read, Read::Any, "its turn comes soon");
        conn.set_pause(Some(Pause::Output), 0);
        assert_eq!(conn.plan().read, Read::Watch);
        conn.set_reads_on(true);
        assert_eq!(conn.plan().read, Read::Any);
        conn.set_pause(None, 0);
        conn.end_behind_backlog();
        assert_eq!(conn.plan().read, Read::Off);
    }
}
