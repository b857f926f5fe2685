//! What is known of a call, to its handler and to the server's hook.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::handler::Lent;
use crate::net::transport::Transport;
use crate::wire::resolve::MethodDescriptor;

/// What is known of a call: to its handler, by [`Context::call`](crate::Context::call), and to a
/// [`ServerHook`](crate::ServerHook).
///
/// A clone may be kept beyond the call. It keeps the connection, and with it the shard, its receive buffers and
/// descriptors, even when the server has ended: so not in what outlives it.
#[derive(Clone)]
pub struct CallInfo {
    pub(super) conn: Rc<Conn>,
    pub(super) facts: Lent<Facts>,
}

/// What a call tells of itself. It lies with the call that arrives, for whoever handles it, until its handler
/// waits: so a handler that answers at once costs no copy of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) call_id: u64,
    /// `u64::MAX`: none.
    pub(crate) deadline_ns: u64,
    pub(crate) method: &'static MethodDescriptor,
}

impl CallInfo {
    /// Of a call that nobody handles yet.
    pub(super) fn new(conn: &Rc<Conn>, facts: Facts) -> Self {
        Self {
            conn: Rc::clone(conn),
            facts: Lent::owned(facts),
        }
    }

    /// The method that is called: its name, the fingerprint of its types, and whether running it twice does
    /// no harm.
    pub fn method(&self) -> &'static MethodDescriptor {
        self.facts.get().method
    }

    /// Number of the call. Those of a connection strictly increase; other connections use the same ones.
    pub fn id(&self) -> u64 {
        self.facts.get().call_id
    }

    /// The caller's address: `host:port`, or `unix` for a unix socket.
    pub fn peer(&self) -> &str {
        &self.conn.peer
    }

    /// How the call has come.
    pub fn transport(&self) -> Transport {
        self.conn.transport
    }

    /// When the caller stops waiting; the handler is dropped then. `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline_ns = self.deadline_ns()?;
        Some(self.conn.shard.clock.instant(deadline_ns))
    }

    /// Time until [`CallInfo::deadline`]; zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline_ns = self.deadline_ns()?;
        let now_ns = self.conn.shard.clock.now_ns();
        Some(Duration::from_nanos(deadline_ns.saturating_sub(now_ns)))
    }

    fn deadline_ns(&self) -> Option<u64> {
        let deadline_ns = self.facts.get().deadline_ns;
        (deadline_ns != u64::MAX).then_some(deadline_ns)
    }
}

/// The connection is left out: it holds whole buffers.
impl fmt::Debug for CallInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallInfo")
            .field("method", &self.method().name)
            .field("id", &self.id())
            .field("peer", &self.peer())
            .field("remaining", &self.remaining())
            .finish()
    }
}
