//! The client for handlers: calls on another server over the shard's own engine.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::ShardCore;
use super::conn::Conn;
use super::context::Shard;
use super::local_call::CallState;
use crate::client::core::hook::Installed;
use crate::client::core::redial::Redial;
use crate::client::core::target::Target;
use crate::client::core::waiting::WaitQueue;
use crate::client::{CallOptions, CallTarget, ClientHook, Sealed};
use crate::connection::lifecycle::Stage;
use crate::panics;
use crate::wire::status::Status;

/// A client on a shard, for handlers and what they spawn. Cheap to clone; stays on its thread.
///
/// It has one connection, which is one shard of the other server. Each shard has a client of its own, so
/// their load is spread over the shards of that server as their connections are.
///
/// It connects at the first call, and again at the first after the connection was lost. Calls that were
/// in flight on a lost connection end with UNAVAILABLE and are never sent twice; those of which nothing
/// was sent yet go to the new connection. While connecting fails, or the server sends each connection
/// away without answering a call, calls fail at once with UNAVAILABLE, which names the address and the
/// cause, and new attempts keep a growing, jittered distance (25 ms to 5 s).
///
/// Calls beyond [`Limits::calls_in_flight_max`](crate::Limits) (or the server's, if that is lower), or
/// beyond [`Limits::write_queue_bytes_high`](crate::Limits) of queued requests, wait for their turn.
#[derive(Clone, Debug)]
pub struct LocalClient {
    inner: Rc<Inner>,
    defaults: CallOptions,
    hook: Option<Installed<Rc<dyn ClientHook>>>,
}

#[derive(Debug)]
struct Inner {
    shard: Rc<ShardCore>,
    name: Box<str>,
    /// All addresses of the host, at least one; the next one to try is first.
    targets: RefCell<Vec<Target>>,
    conn: RefCell<Option<Rc<Conn>>>,
    /// Calls that wait for room on a connection.
    waiting: Rc<RefCell<WaitQueue>>,
    redial: RefCell<Redial>,
}

impl Drop for Inner {
    /// Calls borrow their client, so none is in flight: the connection can go.
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else {
            return;
        };
        if conn.is_client_ready() {
            self.shard.retire(&conn);
        } else if conn.stage() == Stage::Open {
            // Nobody waits for it, which may take minutes.
            let status = Status::cancelled("the client was dropped");
            self.shard.end(&conn, Stage::Closing, &status);
        }
    }
}

impl Shard {
    /// A client for calls from this shard to `target`, such as `tcp://10.0.0.7:7411` or
    /// `unix:/run/kv.sock`. Nothing is connected yet. A host name is resolved now, which blocks the
    /// shard: do it in the server's factory, or give an address. Of a host with several addresses
    /// the first that accepts is used.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when `target` is no address, UNAVAILABLE when its name has no address.
    pub fn client(&self, target: &str) -> Result<LocalClient, Status> {
        let resolved = CallTarget::parse(target)?.resolve_all()?;
        let inner = Inner {
            shard: Rc::clone(&self.core),
            name: target.into(),
            targets: RefCell::new(resolved),
            conn: RefCell::new(None),
            waiting: Rc::default(),
            redial: RefCell::new(Redial::new(self.core.fork_random())),
        };
        Ok(LocalClient {
            inner: Rc::new(inner),
            defaults: CallOptions::default(),
            hook: None,
        })
    }
}

impl LocalClient {
    /// The deadline of calls on this clone, and on clones of it, that set none of their own. Default
    /// `None`: they wait for as long as the connection lives.
    #[must_use]
    pub fn default_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.defaults.set_deadline(deadline);
        self
    }

    /// Has each call on this clone, and on clones of it, looked at by a hook, before it is made and when it has
    /// ended; see [`ClientHook`]. Default: none. A second one takes the place of the first.
    #[must_use]
    pub fn hook(mut self, hook: impl ClientHook) -> Self {
        self.hook = Some(Installed(Rc::new(hook)));
        self
    }

    pub(super) fn shard(&self) -> &Rc<ShardCore> {
        &self.inner.shard
    }

    /// The calls that wait for their turn.
    pub(super) fn waiting(&self) -> &RefCell<WaitQueue> {
        &self.inner.waiting
    }

    /// Gives a place among those who wait back, and lets the next ones on.
    pub(super) fn give_up_turn(&self, number: u64) {
        let waker = self.waiting().borrow_mut().leave(number);
        let conn = self.inner.conn.borrow().clone();
        if let Some(conn) = conn {
            conn.call_waiting();
        }
        // It is code of the program's, so it comes last.
        waker.into_iter().for_each(panics::drop_waker);
    }

    /// The text for a call that had no turn in time.
    pub(super) fn no_room(&self) -> String {
        format!(
            "no room on the connection to {} in time; the call was not sent",
            self.inner.name
        )
    }

    /// The connection for the next call, made if there is none.
    pub(super) fn conn(&self) -> Result<Rc<Conn>, Status> {
        if let Some(conn) = &*self.inner.conn.borrow()
            && conn.stage() == Stage::Open
            && let Some(calls) = &conn.client
            && calls.borrow().ended.is_none()
        {
            return Ok(Rc::clone(conn));
        }
        self.reconnect()
    }

    /// Makes a connection, at once if the one before was of use, else not before its time. The pause
    /// runs from the end of the one before, however late that is noticed.
    #[cold]
    fn reconnect(&self) -> Result<Rc<Conn>, Status> {
        let inner = &*self.inner;
        let last = inner.conn.take();
        if let Some(last) = &last
            && let Some(calls) = &last.client
            && let Some(ended) = &calls.borrow().ended
        {
            let mut redial = inner.redial.borrow_mut();
            if last.with_client(|client, _| client.has_served()) == Some(true) {
                redial.served();
            }
            if !last.is_client_ready() {
                // An address that swallows what is sent to it must not keep the others from their turn.
                inner.targets.borrow_mut().rotate_left(1);
            }
            let why = format!(
                "no connection to {}: {}",
                inner.name,
                ended.status.message()
            );
            redial.ended(ended.at_ns, ended.invites_back, Status::unavailable(why));
        }
        let now_ns = inner.shard.clock.now_ns();
        let redial = inner.redial.borrow();
        if redial.pause_ns(now_ns) > 0
            && let Some(refusal) = redial.refusal(now_ns)
        {
            return Err(refusal);
        }
        drop(redial);
        let targets = inner.targets.borrow().clone();
        let waiting = Rc::clone(&inner.waiting);
        let conn = inner.shard.connect(&inner.name, targets, waiting);
        *inner.conn.borrow_mut() = Some(Rc::clone(&conn));
        Ok(conn)
    }
}

impl Sealed for LocalClient {
    type CallState<'a> = CallState<'a>;

    fn call_state(&self) -> CallState<'_> {
        CallState::default()
    }

    fn defaults(&self) -> &CallOptions {
        &self.defaults
    }

    fn hook(&self) -> Option<&dyn ClientHook> {
        let hook = self.hook.as_ref()?;
        Some(&*hook.0)
    }

    fn now_ns(&self) -> u64 {
        self.inner.shard.clock.now_ns()
    }
}
