//! A call of the client for handlers: sent when it is first polled, cancelled when it is dropped.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::ShardCore;
use super::conn::Conn;
use super::local_client::LocalClient;
use super::timers::{Due, TimerKey};
use crate::buf::Chunk;
use crate::client::core::slots::{Failure, Outcome};
use crate::client::{Call, timeout_us};
use crate::connection::link::nanos;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::rpc::request::LocalResponse;
use crate::wire::status::Status;

/// What a [`LocalClient`] keeps of a call. Dropping it tells the server, if the call was sent.
#[derive(Debug, Default)]
#[expect(unnameable_types, reason = "it is part of a sealed trait")]
pub struct CallState<'a> {
    /// From the first poll on.
    alarm: Option<Alarm<'a>>,
    stage: Stage<'a>,
}

#[derive(Debug, Default)]
enum Stage<'a> {
    #[default]
    New,
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

impl<'a, Req: Message, Resp: Message, E: Encode<Req>> Call<'a, LocalClient, Req, Resp, E> {
    /// At the first poll the time begins.
    fn begin(&mut self) -> Result<(), Status> {
        self.tell_begin()?;
        self.state.stage = Stage::Waiting(None);
        self.state.alarm = self.options.deadline().map(|timeout| {
            let shard = self.caller.shard();
            Alarm {
                shard,
                deadline_ns: shard.clock.now_ns().saturating_add(nanos(timeout)),
                timer: None,
            }
        });
        Ok(())
    }

    /// Time that remains, as it travels.
    fn timeout_us(&self) -> Result<u32, Status> {
        let Some(alarm) = &self.state.alarm else {
            return Ok(0);
        };
        let now_ns = alarm.shard.clock.now_ns();
        timeout_us(Duration::from_nanos(
            alarm.deadline_ns.saturating_sub(now_ns),
        ))
    }

    /// Serialises the request into the connection's queue, when it is its turn.
    fn poll_send(&mut self, cx: &Context<'_>) -> Poll<Result<SentCall, Status>> {
        let timeout_us = match (self.timeout_us(), &self.state.stage) {
            (Err(_), Stage::Waiting(Some(_))) => return Poll::Ready(Err(self.late())),
            (timeout_us, _) => timeout_us?,
        };
        let client = self.caller;
        let Stage::Waiting(ticket) = &mut self.state.stage else {
            unreachable!("asked for while it waits")
        };
        let number = ticket.as_ref().map(|ticket| ticket.number);
        let conn = client.conn()?;
        conn.shard.lend_buffer(&conn);
        let (call_id, slot) = {
            let calls = conn.client.as_ref().expect("made by this client");
            let room = conn.with_client(|client, output| client.room(output.len()));
            if room == Some(0) || !client.waiting().borrow().may_go(number) {
                let mut replaced = None;
                let mut waiting = client.waiting().borrow_mut();
                let number = waiting.wait(number, cx.waker(), &mut replaced);
                drop(waiting);
                ticket.get_or_insert_with(|| Ticket { client, number });
                return Poll::Pending;
            }
            // Entered when the request is encoded: that may panic.
            let slot = calls.borrow_mut().calls.next();
            let begun = conn.with_client(|connection, output| {
                connection.begin_call(
                    self.service,
                    self.method,
                    timeout_us,
                    slot,
                    |out, bytes_max| {
                        encode_payload::<Req>(&self.request, bytes_max, out)
                            .map_err(Unsendable::request)
                    },
                    output.filling(),
                )
            });
            let call_id = begun.expect("a client's connection")?;
            calls.borrow_mut().calls.take(cx.waker());
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
            match &mut self.state.stage {
                Stage::New => self.begin()?,
                Stage::Waiting(_) => {
                    let sent = ready!(self.poll_send(cx))?;
                    self.state.stage = Stage::Sent(sent);
                }
                Stage::Sent(sent) => match ready!(sent.poll(cx)) {
                    Outcome::Answered(payload) => return Poll::Ready(Ok(payload)),
                    Outcome::Failed(failure) => match *failure {
                        Failure::Ended(status) => return Poll::Ready(Err(status)),
                        // It goes to another connection, if there is one.
                        Failure::NotSent(_) => self.state.stage = Stage::Waiting(None),
                    },
                },
                Stage::Done => panic!("a call was polled after its end"),
            }
        }
    }

    fn late(&self) -> Status {
        Status::deadline_exceeded(match &self.state.stage {
            Stage::Sent(sent) => format!("no answer from {} in time", sent.conn.peer),
            Stage::New | Stage::Waiting(_) | Stage::Done => self.caller.no_room(),
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
        let calls = self.conn.client.as_ref().expect("made by a client");
        let mut replaced = None;
        let polled = calls
            .borrow_mut()
            .calls
            .poll(self.slot, cx.waker(), &mut replaced);
        self.has_ended = polled.is_ready();
        polled
    }
}

impl Drop for SentCall {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let calls = self.conn.client.as_ref();
        let waker = calls.and_then(|calls| calls.borrow_mut().calls.put(self.slot));
        let waiter = self
            .conn
            .with_client(|client, output| client.cancel_call(self.call_id, output.filling()));
        if waiter.flatten().is_some() {
            self.conn.attend();
            self.conn.shard.after_calls(&self.conn);
        }
        // It may panic, so it comes last.
        drop(waker);
    }
}

impl<Req: Message, Resp: Message, E: Encode<Req>> Future for Call<'_, LocalClient, Req, Resp, E> {
    type Output = Result<LocalResponse<Resp>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let outcome = match (call.poll_outcome(cx), &mut call.state.alarm) {
            (Poll::Ready(outcome), _) => outcome,
            (Poll::Pending, Some(alarm)) => {
                ready!(alarm.poll(cx.waker()));
                Err(call.late())
            }
            (Poll::Pending, None) => return Poll::Pending,
        };
        call.state.stage = Stage::Done;
        call.state.alarm = None;
        let result = outcome
            .and_then(|payload| LocalResponse::validate(payload).map_err(Unreadable::response));
        Poll::Ready(call.tell_end(result))
    }
}
