//! One call: a future.

use std::fmt;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::channel::Channel;
use super::state::{Admission, SentCall, State};
use crate::client::timeout_us;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::{Response, SharedPayload};
use crate::rpc::refusal::{Unreadable, Unsendable};

/// A call on a [`Client`](crate::Client); await it. Nothing is sent before it is first polled.
///
/// It gives a [`Response`], which is read in place. While the server runs as many calls as it
/// permits, or while there is no connection, it waits for its turn. Dropping it cancels the call:
/// the server is told, and drops the handler.
///
/// # Errors
/// What the handler has answered; else DEADLINE_EXCEEDED, UNAVAILABLE when the server can't be
/// reached or the connection is lost (the text says which and why), FAILED_PRECONDITION when both
/// sides define the method differently, UNIMPLEMENTED when the server does not have it,
/// RESOURCE_EXHAUSTED when the request is too long, INVALID_ARGUMENT when it nests too deep, and
/// DATA_LOSS when the response is not a valid archive of its type.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<'a, Req, Resp, E> {
    channel: &'a Arc<Channel>,
    service: &'static ServiceDescriptor,
    method: u16,
    request: E,
    timeout: Option<Duration>,
    /// Set at the first poll.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    stage: Stage<'a>,
    types: PhantomData<fn(Req) -> Resp>,
}

#[derive(Debug)]
enum Stage<'a> {
    New,
    Waiting(Option<Ticket<'a>>),
    Sent(Sent<'a>),
    Ended,
}

/// A place among those who wait; giving it up lets the others on.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    channel: &'a Channel,
    number: u64,
}

/// A call that was sent; giving it up tells the server.
#[derive(Debug)]
struct Sent<'a> {
    channel: &'a Channel,
    call: SentCall,
    /// Whether its outcome was fetched; then it has no place any more.
    has_ended: bool,
}

impl<'a, Req: Message, Resp: Message, E: Encode<Req>> Call<'a, Req, Resp, E> {
    pub(super) fn new(
        channel: &'a Arc<Channel>,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> Self {
        Self {
            channel,
            service,
            method,
            request,
            timeout: channel.config.default_deadline,
            deadline: None,
            timer: None,
            stage: Stage::New,
            types: PhantomData,
        }
    }

    /// Ends the call with DEADLINE_EXCEEDED when it takes longer, counted from its first poll. The
    /// server is told the time that remains when the call is sent, and drops the handler when it
    /// has passed. Overrides [`ClientBuilder::default_deadline`](crate::ClientBuilder).
    ///
    /// It needs a tokio runtime with timers: the one that the call is polled on, or else the one
    /// that the client was made on.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<SharedPayload, Status>> {
        if let Stage::New = self.stage {
            // A time beyond what the clock can tell is no deadline.
            self.deadline = self
                .timeout
                .and_then(|time| Instant::now().checked_add(time));
            self.stage = Stage::Waiting(None);
        }
        if let Stage::Waiting(_) = self.stage {
            let sent = ready!(self.poll_send(cx))?;
            self.stage = Stage::Sent(sent);
        }
        match &mut self.stage {
            Stage::Sent(sent) => sent.poll(cx),
            _ => panic!("a call was polled after its end"),
        }
    }

    /// Serialises the request into the send buffer, when it is its turn.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sent<'a>, Status>> {
        let timeout_us = match self.deadline {
            Some(at) => match timeout_us(at.saturating_duration_since(Instant::now())) {
                Err(_) if self.is_waiting() => return Poll::Ready(Err(self.late())),
                other => other?,
            },
            None => 0,
        };
        let (service, method, request) = (self.service, self.method, &self.request);
        let Stage::Waiting(ticket) = &mut self.stage else {
            unreachable!("asked for while it waits")
        };
        let channel = self.channel;
        let mut panicked = None;
        let encode = |out: &mut Vec<u8>, bytes_max| {
            let start = out.len();
            let encode = || encode_payload::<Req>(request, bytes_max, out);
            // It may be the program's own code, and its panic must not harm other calls.
            let caught = std::panic::catch_unwind(AssertUnwindSafe(encode));
            caught
                .map(|encoded| encoded.map_err(Unsendable::request))
                .unwrap_or_else(|panic| {
                    out.truncate(start);
                    panicked = Some(panic);
                    Err(Status::internal("serialising the request panicked"))
                })
        };
        let go = |state: &mut State, at| state.send(at, service, method, timeout_us, encode);
        let polled = poll_admitted(channel, ticket, cx, go);
        if let Some(panic) = panicked {
            std::panic::resume_unwind(panic);
        }
        polled.map(|admitted| {
            let sent = admitted??;
            Ok(Sent {
                channel,
                call: sent,
                has_ended: false,
            })
        })
    }

    /// Pending until the deadline.
    fn poll_deadline(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<Status> {
        if self.timer.is_none() {
            let own = match (Handle::try_current(), self.channel.runtime()) {
                (Ok(_), _) => None,
                (Err(_), Some(runtime)) => Some(runtime.enter()),
                (Err(_), None) => {
                    return Poll::Ready(Status::failed_precondition(
                        "a deadline needs a tokio runtime; poll the call, or make the client, on one",
                    ));
                }
            };
            self.timer = Some(Box::pin(tokio::time::sleep_until(deadline.into())));
            drop(own);
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(self.late())
    }

    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(Some(_)))
    }

    /// The status of a call that its deadline has ended.
    fn late(&self) -> Status {
        let target = &self.channel.target;
        Status::deadline_exceeded(if self.is_waiting() {
            format!("no connection to {target}, or no room on it, in time; the call was not sent")
        } else {
            format!("no answer from {target} in time")
        })
    }
}

/// Does something on the link that calls go to, when it is the turn of this ticket; connects if
/// nothing does yet.
pub(super) fn poll_admitted<'a, R>(
    channel: &'a Arc<Channel>,
    ticket: &mut Option<Ticket<'a>>,
    cx: &mut Context<'_>,
    go: impl FnOnce(&mut State, usize) -> R,
) -> Poll<Result<R, Status>> {
    let number = ticket.as_ref().map(|ticket| ticket.number);
    let waits_for_ready = channel.config.waits_for_ready;
    let admitted = channel.with(|state| {
        let admission = state.admit(number, waits_for_ready, cx.waker());
        let Admission::Go(at) = admission else {
            return Err(admission);
        };
        let done = go(state, at);
        if number.is_some() {
            // There may be room for the next one too.
            state.call_waiting();
        }
        Ok(done)
    });
    let (number, not_before) = match admitted {
        Ok(done) => {
            if let Some(ticket) = ticket.take() {
                // It has left the queue, so its drop has nothing to do.
                std::mem::forget(ticket);
            }
            return Poll::Ready(Ok(done));
        }
        Err(Admission::Fail(status)) => return Poll::Ready(Err(status)),
        Err(Admission::Connect(number, not_before)) => (number, Some(not_before)),
        Err(Admission::Wait(number)) => (number, None),
        Err(Admission::Go(_)) => unreachable!("it went"),
    };
    ticket.get_or_insert_with(|| Ticket { channel, number });
    if let Some(not_before) = not_before {
        channel.connect(not_before)?;
    }
    Poll::Pending
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.channel.with(|state| state.leave(self.number));
    }
}

impl Sent<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<SharedPayload, Status>> {
        let polled = self
            .channel
            .with(|state| state.poll_outcome(self.call.slot, cx));
        self.has_ended = polled.is_ready();
        polled
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.channel.with(|state| state.cancel(self.call));
        }
    }
}

// Nothing in it is pinned: the timer lies in a box, and the request is only ever borrowed.
impl<Req, Resp, E> Unpin for Call<'_, Req, Resp, E> {}

impl<Req: Message, Resp: Message, E: Encode<Req>> Future for Call<'_, Req, Resp, E> {
    type Output = Result<Response<Resp>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match (self.poll_call(cx), self.deadline) {
            (Poll::Ready(outcome), _) => outcome,
            (Poll::Pending, Some(deadline)) => Err(ready!(self.poll_deadline(deadline, cx))),
            (Poll::Pending, None) => return Poll::Pending,
        };
        self.stage = Stage::Ended;
        self.timer = None;
        Poll::Ready(
            outcome.and_then(|payload| Response::validate(payload).map_err(Unreadable::response)),
        )
    }
}

impl<Req, Resp, E> fmt::Debug for Call<'_, Req, Resp, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field(
                "method",
                &self.service.methods[usize::from(self.method)].name,
            )
            .field("timeout", &self.timeout)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
