//! One connection, as the calls and its driver share it.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::connection::client::ClientConnection;
use crate::rpc::received::SharedPayload;
use crate::wire::framer::Body;
use crate::wire::handshake::ShardIndex;
use crate::wire::limits::Limits;

/// Protocol state and queued output of one connection. The socket belongs to its driver.
#[derive(Debug)]
pub(super) struct Link {
    /// Names it among all that the client ever had.
    pub(super) id: u64,
    /// The waiters are places in the client's `CallSlots`.
    pub(super) connection: ClientConnection<u32>,
    /// What was queued since the driver last took it.
    pub(super) out: Vec<u8>,
    /// What the driver has taken and not written yet, in bytes.
    pub(super) unwritten_bytes: usize,
    /// What the driver had taken but not begun to write when it ended: the first call of it.
    pub(super) unwritten_from: Option<u64>,
    /// Set while the driver sleeps and nothing is queued: whoever queues something wakes it.
    pub(super) driver: Option<Waker>,
    /// Set while the driver waits for the socket to take what is queued.
    pub(super) blocked_driver: Option<Waker>,
    /// Looks into the socket.
    pub(super) looks: Looks,
    /// When the driver last found that the socket held no more, in nanoseconds.
    pub(super) read_ns: u64,
    /// Calls that were ended by what the driver read last.
    pub(super) ended_at_once: usize,
    /// Whether the client was told that the server has answered a call here.
    pub(super) has_served: bool,
    /// Whether it is of no use beside the others, so that its driver closes it.
    pub(super) is_surplus: bool,
}

/// Calls whose deadline has passed ask the driver to look once more whether their answer lies in the
/// socket: when the program was stopped, or its runtime was not driven, timers fire first.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Number of times that somebody has asked.
    pub(super) asked: u64,
    /// Up to which of them the driver has looked.
    pub(super) done: u64,
    /// Who is woken then.
    pub(super) wakers: Vec<Waker>,
}

/// After so long without a read, what is to be sent waits for a look into the socket: the runtime may not
/// have been driven, or the program stopped.
const QUIET_NS: u64 = 1_000_000;

impl Link {
    /// A connection that has just been made; says hello.
    pub(super) fn new(id: u64, limits: Arc<Limits>, now_ns: u64) -> Self {
        let mut out = Vec::new();
        Self {
            id,
            connection: ClientConnection::new(limits, now_ns, &mut out),
            out,
            unwritten_bytes: 0,
            unwritten_from: None,
            driver: None,
            blocked_driver: None,
            looks: Looks::default(),
            read_ns: now_ns,
            ended_at_once: 0,
            has_served: false,
            is_surplus: false,
        }
    }

    /// Number of calls that may be sent now.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.connection.room(self.out.len() + self.unwritten_bytes)
    }

    /// Calls in flight, and how many more may be sent now.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.connection.calls_in_flight(), self.room())
    }

    /// Where the connection has come to, if the server has told.
    pub(super) fn shard_index(&self) -> Option<ShardIndex> {
        self.connection.link().peer()?.shard_index
    }

    /// Whether it must be looked whether the server has said or ended something, before more is sent: a
    /// call whose connection had ended before goes to another. When many callers are at work and were
    /// answered at once in this round of tasks, that answer says as much as a look would, which costs a
    /// system call for each batch: over a network a server's end is known no sooner.
    pub(super) fn must_look(&mut self, now_ns: u64) -> bool {
        let unread_ns = now_ns - self.read_ns;
        let is_busy = self.ended_at_once > 1;
        (self.connection.take_begins_anew() && !is_busy) || unread_ns > QUIET_NS
    }

    /// The first call of which nothing was written.
    pub(super) fn first_unsent(&self) -> Option<u64> {
        self.unwritten_from
            .or_else(|| self.connection.first_unsent(&self.out))
    }
}

/// The bytes of a response; `chunk` is what its frame was cut from.
pub(super) fn payload(body: Body, chunk: &Bytes) -> SharedPayload {
    SharedPayload::new(match body {
        Body::InPlace(range) => chunk.slice(range),
        Body::Gathered(buf) | Body::Direct(buf) => Bytes::from_owner(buf),
        Body::Discarded => Bytes::new(),
    })
}
