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
    /// Whether this side of the socket is shut down, since all has gone out. Said once.
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

    /// What to do next with its socket. A connection whose last words have gone out begins to linger.
    #[inline]
    pub(crate) fn plan(&self, now_ns: u64) -> Plan {
        let mut plan = Plan {
            read: self.plan_read(),
            transmit: self.output.borrow().has_ready(),
            shutdown: false,
            close: false,
        };
        if !self.is_open() {
            self.plan_end(&mut plan, now_ns);
        }
        plan
    }

    /// What else there is to do for one that takes no more calls.
    #[cold]
    fn plan_end(&self, plan: &mut Plan, now_ns: u64) {
        let stage = self.stage.get();
        if stage == Stage::Flushing && self.output.borrow().is_empty() {
            plan.shutdown = true;
            self.linger_until_ns.set(now_ns + LINGER_NS);
            self.advance_to(Stage::Lingering);
            plan.read = self.plan_read();
        }
        plan.transmit &= stage <= Stage::Flushing;
        plan.close = stage == Stage::Closing;
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
