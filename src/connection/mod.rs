//! A connection without input and output: it takes bytes and the time, and gives events, bytes, and a plan
//! of what its driver does next.
//!
//! Nothing here knows a socket, a clock or a runtime. Shards drive a [`Connection`], whichever engine moves
//! its bytes; clients of other threads drive its client's end alone.
#![forbid(unsafe_code)]

pub(crate) mod backlog;
pub mod client;
mod flood;
pub(crate) mod flow;
mod held_calls;
pub(crate) mod lifecycle;
pub mod link;
mod live_calls;
pub(crate) mod outgoing;
mod pending_calls;
pub mod server;
pub(crate) mod spare_buffers;
mod transmit;

use std::cell::{Cell, RefCell};

use self::backlog::Backlog;
use self::client::ClientConnection;
use self::flow::Pause;
use self::lifecycle::Stage;
use self::link::Link;
use self::server::ServerConnection;
use self::transmit::Answers;
use crate::buf::SendQueue;
use crate::wire::violation::Violation;

/// Which end of the protocol this side is.
#[derive(Debug)]
pub(crate) enum Role {
    Server(ServerConnection),
    /// A call's waiter is its place among the calls of the client.
    Client(ClientConnection<u32>),
}

/// A connection: its stages ([`lifecycle`](self::lifecycle)), what keeps it from reading
/// ([`flow`](self::flow)), what it sends ([`transmit`](self::transmit)), and both ends of the protocol.
///
/// *Inputs*: received bytes, through [`Connection::with_server`] and [`Connection::with_client`];
/// [`Connection::sent`]; [`Connection::handle_timeout`] at [`Connection::poll_timeout`].
/// *Commands*: [`Connection::respond_error`], [`Connection::advance_to`],
/// [`Connection::set_pause`]. *Outputs*: events, and [`Connection::plan`], which the driver carries out:
/// receive, send [`Connection::take_output`], shut down, close.
///
/// What is received and what is sent are in cells of their own: a handler that answers while its batch is
/// being read borrows only the latter.
#[derive(Debug)]
pub(crate) struct Connection {
    role: RefCell<Role>,
    is_server: bool,
    output: RefCell<SendQueue>,
    /// Largest response that both sides accept, in bytes; known after the handshake.
    response_bytes_max: Cell<u32>,
    stage: Cell<Stage>,
    linger_until_ns: Cell<u64>,
    answers: Cell<Answers>,
    pause: Cell<Option<Pause>>,
    /// Whether it is read from although its output waits: that makes no progress, perhaps because its
    /// peer reads only when it has written everything.
    reads_on: Cell<bool>,
    /// When to look again whether there is room to read on although output waits.
    looks_again_ns: Cell<u64>,
    /// Until when the call that is held may wait for memory for its answer; `None` once that is over, or
    /// when none is held.
    held_until_ns: Cell<Option<u64>>,
    /// What waits because the peer has reached a limit.
    backlog: RefCell<Backlog>,
    /// Whether its peer has closed its side behind what waits to be acted on.
    ends_behind_backlog: Cell<bool>,
}

impl Connection {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            is_server: matches!(role, Role::Server(_)),
            role: RefCell::new(role),
            output: RefCell::default(),
            response_bytes_max: Cell::new(0),
            stage: Cell::new(Stage::Open),
            linger_until_ns: Cell::new(0),
            answers: Cell::new(Answers::All),
            pause: Cell::new(None),
            reads_on: Cell::new(false),
            looks_again_ns: Cell::new(0),
            held_until_ns: Cell::new(None),
            backlog: RefCell::default(),
            ends_behind_backlog: Cell::new(false),
        }
    }

    /// Whether this side answers.
    #[inline]
    pub(crate) fn is_server(&self) -> bool {
        self.is_server
    }

    /// Acts on the server's end; `None` on a client's connection.
    #[inline(always)]
    pub(crate) fn with_server<R>(&self, act: impl FnOnce(&mut ServerConnection) -> R) -> Option<R> {
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => Some(act(server)),
            Role::Client(_) => None,
        }
    }

    /// Acts on the client's end, and its output; `None` on a server's connection.
    #[inline]
    pub(crate) fn with_client<R>(
        &self,
        act: impl FnOnce(&mut ClientConnection<u32>, &mut SendQueue) -> R,
    ) -> Option<R> {
        match &mut *self.role.borrow_mut() {
            Role::Client(client) => Some(act(client, &mut self.output.borrow_mut())),
            Role::Server(_) => None,
        }
    }

    /// What both ends do alike.
    #[inline]
    pub(crate) fn link<R>(&self, act: impl FnOnce(&mut Link) -> R) -> R {
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => act(server.link_mut()),
            Role::Client(client) => act(client.link_mut()),
        }
    }

    /// When its time limits must be looked at.
    pub(crate) fn poll_timeout(&self) -> u64 {
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
                let held_ns = self.held_due_ns().unwrap_or(u64::MAX);
                limits_ns.min(sticks_ns).min(held_ns)
            }
        }
    }

    /// Acts on its time limits; an error ends it.
    pub(crate) fn handle_timeout(&self, now_ns: u64) -> Result<(), Violation> {
        let mut output = self.output.borrow_mut();
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => server.handle_timeout(now_ns, output.filling()),
            Role::Client(client) => client.handle_timeout(now_ns, output.filling()),
        }
    }
}
