//! The client for handlers: calls on another server over the shard's own engine.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::ShardCore;
use super::conn::{Conn, Role, Stage};
use super::context::Shard;
use super::timers::{Due, TimerKey};
use crate::buf::Chunk;
use crate::client::backoff::Backoff;
use crate::client::slots::CallSlots;
use crate::client::{CallTarget, Caller, timeout_us};
use crate::proto::client::{ClientConnection, ClientEvent, too_long};
use crate::proto::link::Link;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::proto::violation::Violation;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::LocalResponse;

/// Where a local client connects to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: socket2::SockAddr,
    pub(crate) is_tcp: bool,
}

/// The client's end of a connection of this shard, and the calls that wait on it.
#[derive(Debug)]
pub(crate) struct LocalLink {
    connection: ClientConnection<u32>,
    calls: CallSlots<Chunk>,
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
                waker.wake();
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
    wakers.into_iter().for_each(Waker::wake);
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
    target: Target,
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
    /// shard: do it in the server's factory, or give an address.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when `target` is no address, UNAVAILABLE when its name has no address.
    pub fn client(&self, target: &str) -> Result<LocalClient, Status> {
        let resolved = CallTarget::parse(target)?.resolve()?;
        let inner = Inner {
            shard: Rc::clone(&self.core),
            name: target.into(),
            target: resolved,
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
    fn conn(&self) -> Result<Rc<Conn>, Status> {
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
            // A connection that served resets the distance between attempts.
            if client.connection.is_ready() {
                inner.backoff.borrow_mut().reset();
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
        let conn = shard.connect(&inner.name, &inner.target);
        *inner.conn.borrow_mut() = Some(Rc::clone(&conn));
        Ok(conn)
    }
}

impl ShardCore {
    fn connect(self: &Rc<Self>, name: &str, target: &Target) -> Rc<Conn> {
        let mut hello = Vec::new();
        let limits = Arc::clone(&self.config.limits);
        let connection = ClientConnection::new(limits, self.clock.now_ns(), &mut hello);
        let link = LocalLink {
            connection,
            calls: CallSlots::new(),
        };
        let conn = self.insert(name.into(), |_| Role::Client(link));
        *conn.queue.borrow_mut().filling() = hello;
        self.connects
            .borrow_mut()
            .push((Rc::clone(&conn), target.clone()));
        self.arm_timer(&conn);
        conn
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
        LocalCall {
            client: self,
            service,
            method,
            request,
            timeout: None,
            state: CallState::New,
            types: std::marker::PhantomData,
        }
    }
}

/// A call from a shard; await it. Dropping it cancels the call.
#[derive(Debug)]
#[must_use = "a call is sent when it is awaited"]
pub struct LocalCall<'a, Req, Resp, E> {
    client: &'a LocalClient,
    service: &'static ServiceDescriptor,
    method: u16,
    request: E,
    timeout: Option<Duration>,
    state: CallState,
    types: std::marker::PhantomData<fn(Req) -> Resp>,
}

#[derive(Debug)]
enum CallState {
    New,
    Sent(SentCall),
    Done,
}

/// A call that was sent; giving it up tells the server.
#[derive(Debug)]
struct SentCall {
    conn: Rc<Conn>,
    call_id: u64,
    slot: u32,
    /// Set for the deadline, and the task that it wakes.
    timer: Option<(TimerKey, Waker)>,
    deadline_ns: u64,
}

impl<Req: Message, Resp: Message, E: Encode<Req>> LocalCall<'_, Req, Resp, E> {
    /// Ends the call with DEADLINE_EXCEEDED when it takes longer; the server is told the time.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn send(&self) -> Result<SentCall, Status> {
        let timeout_us = self.timeout.map_or(Ok(0), timeout_us)?;
        let conn = self.client.conn()?;
        let (call_id, slot) = {
            let mut role = conn.role.borrow_mut();
            let Role::Client(client) = &mut *role else {
                unreachable!("made by this client")
            };
            let limit = conn.shard.config.limits.write_queue_bytes_max;
            if !client.connection.has_room_for_calls() || conn.queue.borrow().len() > limit / 2 {
                return Err(Status::resource_exhausted(format!(
                    "too many calls or bytes wait for {}; await some first",
                    conn.peer
                )));
            }
            let slot = client.calls.take();
            let sent = client.connection.begin_call(
                self.service,
                self.method,
                timeout_us,
                slot,
                |out, bytes_max| {
                    encode_payload::<Req>(&self.request, bytes_max, out).map_err(|_| too_long())
                },
                conn.queue.borrow_mut().filling(),
            );
            match sent {
                Ok(call_id) => (call_id, slot),
                Err(status) => {
                    client.calls.put(slot);
                    return Err(status);
                }
            }
        };
        conn.attend();
        let deadline_ns = self.timeout.map_or(u64::MAX, |timeout| {
            let timeout_ns = timeout.as_nanos().min(u128::from(u64::MAX / 2)) as u64;
            conn.shard.clock.now_ns() + timeout_ns
        });
        Ok(SentCall {
            conn,
            call_id,
            slot,
            timer: None,
            deadline_ns,
        })
    }
}

impl SentCall {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Chunk, Status>> {
        let shard = &self.conn.shard;
        if let Role::Client(client) = &mut *self.conn.role.borrow_mut()
            && let Poll::Ready(outcome) = client.calls.poll(self.slot, cx)
        {
            return Poll::Ready(outcome);
        }
        if self.deadline_ns != u64::MAX {
            if shard.clock.now_ns() >= self.deadline_ns {
                return Poll::Ready(Err(Status::deadline_exceeded(format!(
                    "no answer from {} in time",
                    self.conn.peer
                ))));
            }
            self.wake_at_deadline(cx.waker());
        }
        Poll::Pending
    }

    /// Has the task woken at the deadline; another task, when the call has moved to it.
    fn wake_at_deadline(&mut self, waker: &Waker) {
        if let Some((_, woken)) = &self.timer
            && woken.will_wake(waker)
        {
            return;
        }
        let mut timers = self.conn.shard.timers.borrow_mut();
        if let Some((timer, _)) = self.timer.take() {
            timers.cancel(timer);
        }
        let timer = timers.add(self.deadline_ns, Due::Wake(waker.clone()));
        self.timer = Some((timer, waker.clone()));
    }
}

impl Drop for SentCall {
    fn drop(&mut self) {
        if let Some((timer, _)) = self.timer.take() {
            self.conn.shard.timers.borrow_mut().cancel(timer);
        }
        if let Role::Client(client) = &mut *self.conn.role.borrow_mut() {
            let mut queue = self.conn.queue.borrow_mut();
            client.connection.cancel_call(self.call_id, queue.filling());
            client.calls.put(self.slot);
        }
        self.conn.attend();
    }
}

impl<Req: Message, Resp: Message, E: Encode<Req>> Future for LocalCall<'_, Req, Resp, E>
where
    Self: Unpin,
{
    type Output = Result<LocalResponse<Resp>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.state {
                CallState::New => match self.send() {
                    Ok(sent) => self.state = CallState::Sent(sent),
                    Err(status) => {
                        self.state = CallState::Done;
                        return Poll::Ready(Err(status));
                    }
                },
                CallState::Sent(sent) => {
                    let outcome = std::task::ready!(sent.poll(cx));
                    self.state = CallState::Done;
                    return Poll::Ready(outcome.and_then(|payload| {
                        LocalResponse::validate(payload).ok_or_else(|| {
                            Status::data_loss("the response is not a valid archive of its type")
                        })
                    }));
                }
                CallState::Done => panic!("a call was polled after its end"),
            }
        }
    }
}
