//! A call of the client for handlers: sent when it is first polled, cancelled when it is dropped.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::ShardCore;
use super::conn::{Conn, Role};
use super::local_client::LocalClient;
use super::timers::{Due, TimerKey};
use crate::buf::Chunk;
use crate::client::core::slots::{Failure, Outcome};
use crate::client::timeout_us;
use crate::connection::link::nanos;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::rpc::request::LocalResponse;
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

/// A call from a shard; await it. Dropping it cancels the call.
#[derive(Debug)]
#[must_use = "a call is sent when it is awaited"]
pub struct LocalCall<'a, Req, Resp, E> {
    client: &'a LocalClient,
    service: &'static ServiceDescriptor,
    method: u16,
    request: E,
    timeout: Option<Duration>,
    /// From the first poll on.
    alarm: Option<Alarm<'a>>,
    state: CallState<'a>,
    types: std::marker::PhantomData<fn(Req) -> Resp>,
}

#[derive(Debug)]
enum CallState<'a> {
    Waiting(Option<Ticket<'a>>),
    Sent(SentCall),
    Done,
}

/// A place among those who wait for room; giving it up lets the others on.
#[derive(Debug)]
struct Ticket<'a> {
    client: &'a LocalClient,
    number: u64,
}

/// A call that was sent; giving it up tells the server.
#[derive(Debug)]
struct SentCall {
    conn: Rc<Conn>,
    call_id: u64,
    slot: u32,
    /// Whether its outcome was fetched; then it has no place any more.
    has_ended: bool,
}

/// The deadline of a call.
#[derive(Debug)]
struct Alarm<'a> {
    shard: &'a Rc<ShardCore>,
    deadline_ns: u64,
    /// Set when the call waits, and the task that it wakes.
    timer: Option<(TimerKey, Waker)>,
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
            timeout: client.default_deadline,
            alarm: None,
            state: CallState::Waiting(None),
            types: std::marker::PhantomData,
        }
    }

    /// Ends the call with DEADLINE_EXCEEDED when it takes longer, counted from its first poll. The
    /// server is told the time that remains when the call is sent. Overrides
    /// [`LocalClient::default_deadline`].
    ///
    /// The server can't be told of more than 71.6 minutes: then it is told of none, its handler sees no
    /// deadline, and this side alone keeps the time.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Time that remains, as it travels; the deadline is set at the first poll.
    fn timeout_us(&mut self) -> Result<u32, Status> {
        let Some(timeout) = self.timeout else {
            return Ok(0);
        };
        let Some(alarm) = &self.alarm else {
            let shard = self.client.shard();
            self.alarm = Some(Alarm {
                shard,
                deadline_ns: shard.clock.now_ns().saturating_add(nanos(timeout)),
                timer: None,
            });
            return timeout_us(timeout);
        };
        let now_ns = alarm.shard.clock.now_ns();
        timeout_us(Duration::from_nanos(
            alarm.deadline_ns.saturating_sub(now_ns),
        ))
    }

    /// Serialises the request into the connection's queue, when it is its turn.
    fn poll_send(&mut self, cx: &Context<'_>) -> Poll<Result<SentCall, Status>> {
        let timeout_us = match (self.timeout_us(), &self.state) {
            (Err(_), CallState::Waiting(Some(_))) => return Poll::Ready(Err(self.late())),
            (timeout_us, _) => timeout_us?,
        };
        let client = self.client;
        let CallState::Waiting(ticket) = &mut self.state else {
            unreachable!("asked for while it waits")
        };
        let number = ticket.as_ref().map(|ticket| ticket.number);
        let conn = client.conn()?;
        conn.shard.lend_buffer(&conn);
        let (call_id, slot) = {
            let mut role = conn.role.borrow_mut();
            let Role::Client(link) = &mut *role else {
                unreachable!("made by this client")
            };
            let mut queue = conn.queue.borrow_mut();
            if link.connection.room(queue.len()) == 0 || !client.waiting().borrow().may_go(number) {
                let number = client.waiting().borrow_mut().wait(number, cx.waker());
                ticket.get_or_insert_with(|| Ticket { client, number });
                return Poll::Pending;
            }
            // Entered when the request is encoded: that may panic.
            let slot = link.calls.next();
            let call_id = link.connection.begin_call(
                self.service,
                self.method,
                timeout_us,
                slot,
                |out, bytes_max| {
                    encode_payload::<Req>(&self.request, bytes_max, out)
                        .map_err(Unsendable::request)
                },
                queue.filling(),
            )?;
            link.calls.take(cx.waker());
            (call_id, slot)
        };
        *ticket = None;
        conn.attend();
        Poll::Ready(Ok(SentCall {
            conn,
            call_id,
            slot,
            has_ended: false,
        }))
    }

    fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<Result<Chunk, Status>> {
        loop {
            match &mut self.state {
                CallState::Waiting(_) => {
                    let sent = ready!(self.poll_send(cx))?;
                    self.state = CallState::Sent(sent);
                }
                CallState::Sent(sent) => match ready!(sent.poll(cx)) {
                    Outcome::Answered(payload) => return Poll::Ready(Ok(payload)),
                    Outcome::Failed(failure) => match *failure {
                        Failure::Ended(status) => return Poll::Ready(Err(status)),
                        // It goes to another connection, if there is one.
                        Failure::NotSent(_) => self.state = CallState::Waiting(None),
                    },
                },
                CallState::Done => panic!("a call was polled after its end"),
            }
        }
    }

    fn late(&self) -> Status {
        Status::deadline_exceeded(match &self.state {
            CallState::Sent(sent) => format!("no answer from {} in time", sent.conn.peer),
            CallState::Waiting(_) | CallState::Done => self.client.no_room(),
        })
    }
}

impl Alarm<'_> {
    /// Ready at the deadline, by the time of this turn: what had arrived by then was acted on before.
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        if self.shard.now_ns() >= self.deadline_ns {
            return Poll::Ready(());
        }
        // Another task's, when the call has moved to it.
        let is_set = |(_, woken): &(TimerKey, Waker)| woken.will_wake(waker);
        if !self.timer.as_ref().is_some_and(is_set) {
            self.cancel();
            let due = Due::Wake(waker.clone());
            let timer = self.shard.timers.borrow_mut().add(self.deadline_ns, due);
            self.timer = Some((timer, waker.clone()));
        }
        Poll::Pending
    }

    fn cancel(&mut self) {
        if let Some((timer, _)) = self.timer.take() {
            self.shard.timers.borrow_mut().cancel(timer);
        }
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.client.give_up_turn(self.number);
    }
}

impl SentCall {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Outcome<Chunk>> {
        let polled = match &mut *self.conn.role.borrow_mut() {
            Role::Client(client) => client.calls.poll(self.slot, cx.waker()),
            Role::Server(_) => unreachable!("made by a client"),
        };
        self.has_ended = polled.is_ready();
        polled
    }
}

impl Drop for SentCall {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let (waker, was_waiting) = match &mut *self.conn.role.borrow_mut() {
            Role::Client(client) => {
                let waker = client.calls.put(self.slot);
                let mut queue = self.conn.queue.borrow_mut();
                let waiter = client.connection.cancel_call(self.call_id, queue.filling());
                (waker, waiter.is_some())
            }
            Role::Server(_) => (None, false),
        };
        if was_waiting {
            self.conn.attend();
            self.conn.shard.after_calls(&self.conn);
        }
        // It may panic, so it comes last.
        drop(waker);
    }
}

impl<Req: Message, Resp: Message, E: Encode<Req>> Future for LocalCall<'_, Req, Resp, E>
where
    Self: Unpin,
{
    type Output = Result<LocalResponse<Resp>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let outcome = match (call.poll_outcome(cx), &mut call.alarm) {
            (Poll::Ready(outcome), _) => outcome,
            (Poll::Pending, Some(alarm)) => {
                ready!(alarm.poll(cx.waker()));
                Err(call.late())
            }
            (Poll::Pending, None) => return Poll::Pending,
        };
        call.state = CallState::Done;
        call.alarm = None;
        Poll::Ready(
            outcome
                .and_then(|payload| LocalResponse::validate(payload).map_err(Unreadable::response)),
        )
    }
}
