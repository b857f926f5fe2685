//! The client for handlers: calls on another server over the shard's own engine.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::ShardCore;
use super::conn::{Conn, Role, Stage};
use super::context::Shard;
use super::local_call::LocalCall;
use crate::buf::Chunk;
use crate::client::backoff::Backoff;
use crate::client::slots::CallSlots;
use crate::client::{CallTarget, Caller};
use crate::proto::client::{ClientConnection, ClientEvent};
use crate::proto::link::Link;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::proto::violation::Violation;
use crate::rpc::encode::Encode;
use crate::rpc::message::Message;

/// Where a local client connects to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: socket2::SockAddr,
    pub(crate) is_tcp: bool,
}

/// The client's end of a connection of this shard, and the calls that wait on it.
#[derive(Debug)]
pub(crate) struct LocalLink {
    pub(super) connection: ClientConnection<u32>,
    pub(super) calls: CallSlots<Chunk>,
    /// Addresses of the host that are left to connect to, and what was wrong with those before.
    untried: std::vec::IntoIter<Target>,
    failures: String,
}

impl LocalLink {
    pub(super) fn link_mut(&mut self) -> &mut Link {
        self.connection.link_mut()
    }

    pub(super) fn poll_timeout(&self) -> u64 {
        self.connection.poll_timeout()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        self.connection.handle_timeout(now_ns, out)
    }
}

impl ShardCore {
    /// Acts on each frame that a server has sent. Stops when the bytes are used up, when the server
    /// has reached a limit, or when the connection ends.
    pub(super) fn complete(
        &self,
        conn: &Rc<Conn>,
        bytes: &[u8],
        chunk: Option<&Chunk>,
        at: &mut usize,
    ) -> Result<(), Violation> {
        while conn.stage() == Stage::Open {
            if !self.has_room_for_output(conn) {
                self.set_paused(conn, true);
                break;
            }
            let mut role = conn.role.borrow_mut();
            let Role::Client(client) = &mut *role else {
                break;
            };
            let event = {
                let mut queue = conn.queue.borrow_mut();
                client
                    .connection
                    .next_event(bytes, at, self.now_ns(), queue.filling())?
            };
            let waker = match event {
                Some(ClientEvent::Response { waiter, body }) => client
                    .calls
                    .finish(waiter, Ok(self.payload(conn, body, bytes, chunk))),
                Some(ClientEvent::Failed { waiter, status }) => {
                    client.calls.finish(waiter, Err(status))
                }
                Some(ClientEvent::Ready | ClientEvent::Goaway(_)) => None,
                None => break,
            };
            drop(role);
            if let Some(waker) = waker {
                self.wake(waker);
            }
        }
        Ok(())
    }
}

/// Fails every call that waits on a client's connection.
pub(super) fn fail_all(conn: &Rc<Conn>, status: &Status) {
    let mut wakers = Vec::new();
    if let Role::Client(client) = &mut *conn.role.borrow_mut() {
        for waiter in client.connection.take_waiters() {
            wakers.extend(client.calls.finish(waiter, Err(status.clone())));
        }
    }
    wakers.into_iter().for_each(|waker| conn.shard.wake(waker));
}

/// A client on a shard, for handlers and what they spawn. Cheap to clone; stays on its thread.
///
/// It connects at the first call, and again after the connection was lost. While connecting fails,
/// calls fail at once with UNAVAILABLE, which names the address and the cause, and new attempts
/// keep a growing, jittered distance.
#[derive(Clone, Debug)]
pub struct LocalClient {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shard: Rc<ShardCore>,
    name: Box<str>,
    /// All addresses of the host, at least one; the next one to try is first.
    targets: RefCell<Vec<Target>>,
    conn: RefCell<Option<Rc<Conn>>>,
    backoff: RefCell<Backoff>,
    retry_ns: Cell<u64>,
}

impl Drop for Inner {
    /// Calls borrow their client, so none is in flight: the connection can go.
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.shard.retire(&conn);
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
            backoff: RefCell::new(Backoff::new()),
            retry_ns: Cell::new(0),
        };
        Ok(LocalClient {
            inner: Rc::new(inner),
        })
    }
}

impl LocalClient {
    /// The connection for the next call, made if there is none.
    pub(super) fn conn(&self) -> Result<Rc<Conn>, Status> {
        let inner = &*self.inner;
        let shard = &inner.shard;
        if let Some(conn) = &*inner.conn.borrow() {
            let mut role = conn.role.borrow_mut();
            let Role::Client(client) = &mut *role else {
                unreachable!("made by this client")
            };
            if conn.stage() == Stage::Open && client.connection.goaway().is_none() {
                return Ok(Rc::clone(conn));
            }
            if client.connection.is_ready() {
                // A connection that served resets the distance between attempts.
                inner.backoff.borrow_mut().reset();
            } else {
                // An address that swallows what is sent to it must not keep the others from their turn.
                inner.targets.borrow_mut().rotate_left(1);
            }
            inner
                .retry_ns
                .set(shard.clock.now_ns() + inner.backoff.borrow_mut().next_ns());
        }
        inner.conn.take();
        let now_ns = shard.clock.now_ns();
        if now_ns < inner.retry_ns.get() {
            return Err(Status::unavailable(format!(
                "no connection to {}; the next attempt is in {:?}",
                inner.name,
                Duration::from_nanos(inner.retry_ns.get() - now_ns)
            )));
        }
        let conn = shard.connect(&inner.name, inner.targets.borrow().clone());
        *inner.conn.borrow_mut() = Some(Rc::clone(&conn));
        Ok(conn)
    }
}

impl ShardCore {
    fn connect(self: &Rc<Self>, name: &str, targets: Vec<Target>) -> Rc<Conn> {
        let mut hello = Vec::new();
        let limits = Arc::clone(&self.config.limits);
        let connection = ClientConnection::new(limits, self.clock.now_ns(), &mut hello);
        let mut untried = targets.into_iter();
        let first = untried.next().expect("a host has an address");
        let link = LocalLink {
            connection,
            calls: CallSlots::new(),
            untried,
            failures: String::new(),
        };
        let conn = self.insert(name.into(), |_| Role::Client(link));
        *conn.queue.borrow_mut().filling() = hello;
        self.connects.borrow_mut().push((Rc::clone(&conn), first));
        self.arm_timer(&conn);
        conn
    }

    /// An address of a local client's host could not be connected to: the next one is tried. After
    /// the last, the connection and all calls that wait for it end. The engine must have given up
    /// the socket before.
    pub(crate) fn connect_failed(&self, conn: &Rc<Conn>, error: &std::io::Error) {
        debug_assert_eq!(conn.engine_slot.get(), u32::MAX);
        let (next, failures) = {
            let mut role = conn.role.borrow_mut();
            let Role::Client(client) = &mut *role else {
                unreachable!("servers connect to nobody")
            };
            let separator = if client.failures.is_empty() { "" } else { "; " };
            client.failures += &format!("{separator}{error}");
            (client.untried.next(), client.failures.clone())
        };
        match next {
            Some(target) if conn.stage() == Stage::Open => {
                self.connects.borrow_mut().push((Rc::clone(conn), target));
            }
            _ => {
                let text = format!("can't connect to {}: {failures}", conn.peer);
                self.end(conn, Stage::Closing, &Status::unavailable(text));
            }
        }
    }
}

impl Caller for LocalClient {
    type Call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a> = LocalCall<'a, Req, Resp, E>;

    fn call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a>(
        &'a self,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> LocalCall<'a, Req, Resp, E> {
        LocalCall::new(self, service, method, request)
    }
}
