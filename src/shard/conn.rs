//! One connection of a shard, whatever engine moves its bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::ShardCore;
use super::backlog::Backlog;
use super::local_link::LocalLink;
use super::timers::TimerKey;
use crate::buf::{Account, SendQueue};
use crate::connection::link::Link;
use crate::connection::server::ServerConnection;
use crate::wire::framer::DirectBody;
use crate::wire::violation::Violation;

/// Names a connection of a shard. A name that is no longer valid finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

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

/// Which answers the calls of a connection get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    All,
    /// Too much is held for its peer already.
    Brief,
    /// It has ended.
    None,
}

/// Which end of the protocol this side is.
#[derive(Debug)]
pub(crate) enum Role {
    Server(ServerConnection),
    Client(LocalLink),
}

/// For so long a call is held when there may be no memory for its answer, and no other one is let through
/// either. Then it starts, one at a time on its connection, and its answer is refused if there is none
/// indeed: requests that wait for each other's memory would wait for ever.
pub(super) const HELD_PATIENCE_NS: u64 = 5_000_000_000;

/// Bytes that wait for their turn, beyond which the engine brings no more.
const BACKLOG_BYTES_IN_TURN: usize = 64 << 10;

/// A connection. Engine, tasks and handlers share it by `Rc`.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) shard: Rc<ShardCore>,
    pub(crate) key: ConnKey,
    /// The peer's address, for people.
    pub(crate) peer: Box<str>,
    pub(crate) role: RefCell<Role>,
    /// Which role that is.
    pub(super) is_server: bool,
    /// Largest response that both sides accept, in bytes; known after the handshake.
    pub(super) response_bytes_max: Cell<u32>,
    pub(crate) queue: RefCell<SendQueue>,
    /// What this connection makes the shard hold; see [`super::memory`].
    pub(super) account: Rc<Account>,
    /// What stands in an account for the body that is arriving, and whether that is the reserve.
    pub(super) arriving_bytes: Cell<usize>,
    pub(super) is_granted: Cell<bool>,
    /// What stands in its account for queued output.
    pub(super) output_bytes: Cell<usize>,
    /// Whether it is on the shard's list of those that wait for room.
    pub(super) waits_for_room: Cell<bool>,
    /// Whether it is on the list of those that go on in the next turn.
    pub(super) waits_for_turn: Cell<bool>,
    /// When to look again whether there is room to read on although output waits.
    pub(super) looks_again_ns: Cell<u64>,
    /// Until when the call that is held may wait for memory for its answer; `None` once that is over, or
    /// when none is held.
    pub(super) held_until_ns: Cell<Option<u64>>,
    /// Whether the next answer is queued although there is no room; see [`super::let_through`].
    pub(super) is_let_through: Cell<bool>,
    /// Length of the answer that was refused last for want of memory, to learn from.
    pub(super) refused_bytes: Cell<usize>,
    /// The turn that it was at work in last.
    pub(super) turn: Cell<u32>,
    /// Calls of it that have begun to wait in that turn.
    pub(super) suspended_in_turn: Cell<usize>,
    /// Whether its peer has closed its side behind what waits to be acted on.
    pub(super) ends_behind_backlog: Cell<bool>,
    /// What waits because the peer has reached a limit.
    pub(super) backlog: RefCell<Backlog>,
    /// What stands in its account for bytes that are being acted on.
    pub(super) acted_on_bytes: Cell<usize>,
    /// When the bytes arrived that are being acted on: deadlines run from there.
    pub(super) arrived_ns: Cell<u64>,
    stage: Cell<Stage>,
    answers: Cell<Answers>,
    pub(super) pause: Cell<Option<Pause>>,
    /// Whether it is read from although its output waits: that makes no progress, perhaps because its
    /// peer reads only when it has written everything.
    reads_on: Cell<bool>,
    pub(super) needs_attention: Cell<bool>,
    pub(super) timer: Cell<Option<(u64, TimerKey)>>,
    pub(super) linger_until_ns: Cell<u64>,
    /// Where the engine keeps what it knows of this connection.
    pub(crate) engine_slot: Cell<u32>,
}

impl Conn {
    pub(super) fn new(shard: Rc<ShardCore>, key: ConnKey, peer: Box<str>, role: Role) -> Self {
        Self {
            account: shard.memory.account(),
            arriving_bytes: Cell::new(0),
            is_granted: Cell::new(false),
            output_bytes: Cell::new(0),
            waits_for_room: Cell::new(false),
            waits_for_turn: Cell::new(false),
            looks_again_ns: Cell::new(0),
            held_until_ns: Cell::new(None),
            is_let_through: Cell::new(false),
            refused_bytes: Cell::new(0),
            turn: Cell::new(0),
            suspended_in_turn: Cell::new(0),
            ends_behind_backlog: Cell::new(false),
            shard,
            key,
            peer,
            is_server: matches!(role, Role::Server(_)),
            role: RefCell::new(role),
            response_bytes_max: Cell::new(0),
            queue: RefCell::default(),
            backlog: RefCell::default(),
            acted_on_bytes: Cell::new(0),
            arrived_ns: Cell::new(0),
            stage: Cell::new(Stage::Open),
            answers: Cell::new(Answers::All),
            pause: Cell::new(None),
            reads_on: Cell::new(false),
            needs_attention: Cell::new(false),
            timer: Cell::new(None),
            linger_until_ns: Cell::new(0),
            engine_slot: Cell::new(u32::MAX),
        }
    }

    /// What becomes of it.
    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Moves on to a later stage; earlier ones are ignored.
    pub(crate) fn advance_to(&self, stage: Stage) {
        if stage > self.stage.get() {
            self.stage.set(stage);
            self.answers.set(Answers::None);
        }
    }

    /// Whether its calls are answered whatever their answers are.
    #[inline(always)]
    pub(super) fn takes_all_answers(&self) -> bool {
        self.answers.get() == Answers::All
    }

    /// Has long answers looked at before they are queued.
    pub(super) fn answer_briefly(&self) {
        if self.stage.get() == Stage::Open {
            self.answers.set(Answers::Brief);
        }
    }

    /// Takes that back.
    pub(super) fn answer_all(&self) {
        if self.stage.get() == Stage::Open {
            self.answers.set(Answers::All);
        }
    }

    /// Whether the engine should be receiving from the peer.
    pub(crate) fn wants_read(&self) -> bool {
        match self.stage.get() {
            Stage::Open if self.ends_behind_backlog.get() => false,
            Stage::Open => match self.pause.get() {
                None => true,
                // Its turn comes soon: the receive need not be ended and begun again.
                Some(Pause::Turn) => self.backlog.borrow().bytes() < BACKLOG_BYTES_IN_TURN,
                Some(Pause::Output) => self.reads_on.get(),
                Some(Pause::Calls | Pause::Memory) => false,
            },
            Stage::Lingering => true,
            Stage::Flushing | Stage::Closing | Stage::Closed => false,
        }
    }

    /// Whether nothing is acted on until the peer is below its limits again, or has its turn.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.stage.get() == Stage::Open && self.pause.get().is_some()
    }

    /// Whether reading has stopped. A connection that breaks meanwhile would not be noticed by it.
    #[inline]
    pub(crate) fn is_unread(&self) -> bool {
        self.is_paused() && !self.wants_read()
    }

    /// Whether it should be read from although its output waits; looked at when its time is up.
    pub(super) fn set_reads_on(&self, reads_on: bool) {
        self.reads_on.set(reads_on);
    }

    /// Whether there is something to do once a message has been sent: the next one, or what waited for
    /// room or for the end.
    #[inline]
    pub(crate) fn goes_on_after_send(&self) -> bool {
        self.stage.get() != Stage::Open
            || self.pause.get().is_some()
            || self.output_bytes.get() > 0
            || self.queue.borrow().has_ready()
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

    /// Acts on the server's end; `None` on a client's connection.
    #[inline]
    pub(super) fn with_server<R>(&self, act: impl FnOnce(&mut ServerConnection) -> R) -> Option<R> {
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => Some(act(server)),
            Role::Client(_) => None,
        }
    }

    /// Books that `bytes` of a message have been sent, and whether that was its end.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize, is_whole: bool) {
        self.queue.borrow_mut().sent(bytes, is_whole);
        self.note_output(bytes > 0);
        if self.output_bytes.get() > 0 {
            self.shard.settle_output(self);
        }
    }

    /// Tells the protocol how output stands; see [`Link::note_output`](crate::connection::link::Link).
    #[inline]
    pub(crate) fn note_output(&self, has_progressed: bool) {
        let queued_bytes = self.queue.borrow().len();
        let (is_waiting, now_ns) = (queued_bytes > 0, self.shard.patience_ns());
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => {
                server
                    .link_mut()
                    .note_output(is_waiting, has_progressed, now_ns);
            }
            Role::Client(client) => {
                client
                    .link_mut()
                    .note_output(is_waiting, has_progressed, now_ns);
                client.call_waiting(queued_bytes);
            }
        }
    }

    #[inline]
    pub(super) fn link<R>(&self, act: impl FnOnce(&mut Link) -> R) -> R {
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => act(server.link_mut()),
            Role::Client(client) => act(client.link_mut()),
        }
    }

    /// Whether a large body is arriving that is best received straight into its place. What waits to be
    /// acted on belongs before whatever is received, so it must be used up.
    #[inline]
    pub(crate) fn wants_direct(&self) -> bool {
        self.link(|link| link.wants_direct()) && self.backlog.borrow().is_used_up()
    }

    /// The large body that is arriving, for the engine to receive into.
    #[inline]
    pub(crate) fn take_direct(&self) -> Option<DirectBody> {
        if !self.wants_direct() {
            return None;
        }
        self.link(Link::take_direct)
    }

    /// When its time limits must be looked at.
    pub(super) fn poll_timeout(&self) -> u64 {
        match self.stage.get() {
            Stage::Lingering => self.linger_until_ns.get(),
            Stage::Closing | Stage::Closed => u64::MAX,
            Stage::Open | Stage::Flushing => {
                let limits_ns = match &*self.role.borrow() {
                    Role::Server(server) => server.poll_timeout(),
                    Role::Client(client) => client.poll_timeout(),
                };
                if self.pause.get().is_none() {
                    return limits_ns;
                }
                let sticks_ns = self.output_sticks_ns().unwrap_or(u64::MAX);
                limits_ns
                    .min(sticks_ns)
                    .min(self.held_due_ns().unwrap_or(u64::MAX))
            }
        }
    }

    /// When to read on although output waits.
    pub(super) fn output_sticks_ns(&self) -> Option<u64> {
        if self.pause.get() != Some(Pause::Output) || self.reads_on.get() {
            return None;
        }
        let sticks_ns = self.link(|link| link.output_sticks_ns())?;
        Some(sticks_ns.max(self.looks_again_ns.get()))
    }

    /// When a call is no longer held for want of memory for its answer.
    pub(super) fn held_due_ns(&self) -> Option<u64> {
        let waits = self.pause.get() == Some(Pause::Memory);
        self.held_until_ns.get().filter(|_| waits)
    }

    /// Acts on its time limits.
    pub(super) fn handle_timeout(&self, now_ns: u64) -> Result<(), Violation> {
        let mut queue = self.queue.borrow_mut();
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => server.handle_timeout(now_ns, queue.filling()),
            Role::Client(client) => client.handle_timeout(now_ns, queue.filling()),
        }
    }
}
