//! One connection as its shard has it: the connection itself, and what the shard knows of it.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

use super::ShardCore;
use super::body_wait::BodyWait;
use super::local_link::LocalLink;
use super::timers::TimerKey;
use crate::buf::Account;
use crate::connection::outgoing::Outgoing;
use crate::connection::{Connection, Role};
use crate::net::transport::Transport;
use crate::planted_bugs::{Bug, is_planted};

/// Names a connection of a shard. A name that is no longer valid finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// For so long a call is held when there may be no memory for its answer, and no other one is let through
/// either. Then it starts, one at a time on its connection, and its answer is refused if there is none
/// indeed: requests that wait for each other's memory would wait for ever.
pub(super) const HELD_PATIENCE_NS: u64 = 5_000_000_000;

/// A connection. Engine, tasks and handlers share it by `Rc`.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) shard: Rc<ShardCore>,
    pub(crate) key: ConnKey,
    /// The peer's address, for people.
    pub(crate) peer: Box<str>,
    pub(super) transport: Transport,
    connection: Connection,
    /// The calls of a client on it; `None` on a server's.
    pub(super) client: Option<RefCell<LocalLink>>,
    pub(super) budget: Budget,
    /// Whether it is on the list of those that go on in the next turn.
    pub(super) waits_for_turn: Cell<bool>,
    /// The turn that it was at work in last.
    pub(super) turn: Cell<u32>,
    /// Calls of it that have begun to wait in that turn.
    pub(super) suspended_in_turn: Cell<usize>,
    /// When the bytes arrived that are being acted on: deadlines run from there.
    pub(super) arrived_ns: Cell<u64>,
    pub(super) needs_attention: Cell<bool>,
    pub(super) timer: Cell<Option<(u64, TimerKey)>>,
    /// Where the engine keeps what it knows of this connection.
    pub(crate) engine_slot: Cell<u32>,
}

/// What a connection makes the shard hold; see [`super::memory`].
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) account: Rc<Account>,
    /// What stands in an account for the body that is arriving, and whether that is the reserve.
    pub(super) arriving_bytes: Cell<usize>,
    pub(super) is_granted: Cell<bool>,
    /// How long the body that is arriving waits for memory.
    pub(super) body_wait: BodyWait,
    /// What stands in its account for queued output.
    pub(super) output_bytes: Cell<usize>,
    /// What stands in its account for bytes that are being acted on.
    pub(super) acted_on_bytes: Cell<usize>,
    /// Whether it is on the shard's list of those that wait for room.
    pub(super) waits_for_room: Cell<bool>,
    /// Whether the next answer is queued although there is no room; see [`super::overdraft`].
    pub(super) has_overdraft: Cell<bool>,
    /// Length of the answer that was refused last for want of memory, to learn from.
    pub(super) refused_bytes: Cell<usize>,
}

impl Budget {
    fn new(account: Rc<Account>) -> Self {
        Self {
            account,
            arriving_bytes: Cell::new(0),
            is_granted: Cell::new(false),
            body_wait: BodyWait::default(),
            output_bytes: Cell::new(0),
            acted_on_bytes: Cell::new(0),
            waits_for_room: Cell::new(false),
            has_overdraft: Cell::new(false),
            refused_bytes: Cell::new(0),
        }
    }
}

/// A shard's connection is a connection, which knows nothing of the shard.
impl Deref for Conn {
    type Target = Connection;

    #[inline(always)]
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Conn {
    pub(super) fn new(
        shard: Rc<ShardCore>,
        key: ConnKey,
        peer: Box<str>,
        transport: Transport,
        role: Role,
        client: Option<LocalLink>,
    ) -> Self {
        Self {
            budget: Budget::new(shard.memory.account()),
            shard,
            key,
            peer,
            transport,
            connection: Connection::new(role),
            client: client.map(RefCell::new),
            waits_for_turn: Cell::new(false),
            turn: Cell::new(0),
            suspended_in_turn: Cell::new(0),
            arrived_ns: Cell::new(0),
            needs_attention: Cell::new(false),
            timer: Cell::new(None),
            engine_slot: Cell::new(u32::MAX),
        }
    }

    /// Puts the connection on the list of those that the engine looks at in this turn.
    #[inline(always)]
    pub(crate) fn attend(self: &Rc<Self>) {
        if !self.needs_attention.get() {
            self.enlist();
        }
    }

    /// Says that the engine gives attention now. What was asked for last in this turn need not be given
    /// again; anything earlier is, which does no harm.
    pub(crate) fn attended(self: &Rc<Self>) {
        let mut waiting = self.shard.attention.borrow_mut();
        if waiting.pop_if(|last| Rc::ptr_eq(last, self)).is_some() {
            self.needs_attention.set(false);
        }
    }

    #[inline(never)]
    fn enlist(self: &Rc<Self>) {
        self.needs_attention.set(true);
        self.shard.attention.borrow_mut().push(Rc::clone(self));
    }

    /// What is queued, for the engine to send: all that may go out together. The peer's time to take it
    /// begins.
    #[inline]
    pub(crate) fn begin_send(&self) -> Option<Outgoing> {
        let message = self.take_output(&self.shard.spare_buffers)?;
        self.note_progress(false);
        Some(message)
    }

    /// Books that so many more bytes of a message were sent. The message comes back unless that was all.
    #[inline]
    pub(crate) fn sent_some(
        self: &Rc<Self>,
        mut message: Outgoing,
        bytes: usize,
    ) -> Option<Outgoing> {
        let is_repeated = is_planted(Bug::PartialSendRepeated) && bytes < message.unsent_bytes();
        let is_whole = !is_repeated && message.advance(bytes);
        self.sent(bytes, is_whole);
        self.note_progress(bytes > 0);
        if self.budget.output_bytes.get() > 0 {
            self.shard.settle_output(self);
            self.budget.body_wait.restart(self.shard.patience_ns());
        }
        if !is_whole {
            return Some(message);
        }
        message.recycle(&self.shard.spare_buffers);
        if self.goes_on_after_send() || self.budget.output_bytes.get() > 0 {
            self.attend();
        }
        None
    }

    /// Books that a message, or the rest of it, will never be sent.
    pub(crate) fn give_up(&self, message: &Outgoing) {
        self.note_unwritten(message.first_unsent_request());
        self.not_sent(message);
    }

    /// Tells the protocol how output stands, and a client's calls that there may be room.
    #[inline]
    pub(crate) fn note_progress(&self, has_progressed: bool) {
        self.note_output(has_progressed, self.shard.patience_ns());
        self.call_waiting();
    }
}
