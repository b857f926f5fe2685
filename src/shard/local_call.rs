//! A call of the client for handlers: sent when it is first polled, cancelled when it is dropped.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::conn::{Conn, Role};
use super::local_client::LocalClient;
use super::timers::{Due, TimerKey};
use crate::buf::Chunk;
use crate::client::timeout_us;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::LocalResponse;
use crate::rpc::refusal::{Unreadable, Unsendable};

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

impl<'a, Req: Message, Resp: Message, E: Encode<Req>> LocalCall<'a, Req, Resp, E> {
    pub(super) fn new(
        client: &'a LocalClient,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> Self {
        Self {
            client,
            service,
            method,
            request,
            timeout: None,
            state: CallState::New,
            types: std::marker::PhantomData,
        }
    }

    /// Ends the call with DEADLINE_EXCEEDED when it takes longer; the server is told the time.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn send(&self) -> Result<SentCall, Status> {
        let timeout_us = self.timeout.map_or(Ok(0), timeout_us)?;
        let conn = self.client.conn()?;
        conn.shard.lend_buffer(&conn);
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
                    encode_payload::<Req>(&self.request, bytes_max, out)
                        .map_err(Unsendable::request)
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
                        LocalResponse::validate(payload).map_err(Unreadable::response)
                    }));
                }
                CallState::Done => panic!("a call was polled after its end"),
            }
        }
    }
}
