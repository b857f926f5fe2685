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
use super::sent::{Sent, Ticket, poll_admitted};
use super::state::State;
use crate::client::slots::Outcome;
use crate::client::timeout_us;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::{Response, SharedPayload};
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

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
    /// The server can't be told of more than 71.6 minutes: then it is told of none, its handler sees no
    /// deadline, and this side alone keeps the time.
    ///
    /// An answer that has arrived in time is taken, however late the program comes to look.
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
        loop {
            if let Stage::Waiting(_) = self.stage {
                let sent = ready!(self.poll_send(cx))?;
                self.stage = Stage::Sent(sent);
            }
            let Stage::Sent(sent) = &mut self.stage else {
                panic!("a call was polled after its end")
            };
            match ready!(sent.poll(cx)) {
                Outcome::Ended(result) => return Poll::Ready(result),
                // It goes to another connection, if there is one.
                Outcome::NotSent(_) => self.stage = Stage::Waiting(None),
            }
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
        polled.map(|admitted| Ok(Sent::new(channel, admitted??)))
    }

    /// Pending until the deadline, and until the connection's driver has looked for the answer then. A
    /// driver that does not run is not waited for.
    fn poll_deadline(
        &mut self,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SharedPayload, Status>> {
        if let Stage::Sent(sent) = &self.stage
            && sent.was_looked_for()
        {
            return Poll::Ready(self.last_outcome(cx));
        }
        ready!(self.poll_timer(deadline, cx))?;
        if let Stage::Sent(sent) = &mut self.stage
            && sent.ask_look(cx)
        {
            ready!(self.poll_grace(cx));
        }
        Poll::Ready(self.last_outcome(cx))
    }

    /// Pending until the time that a driver has to look is over.
    fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else {
            return Poll::Ready(());
        };
        let grace = tokio::time::Instant::now() + LOOK_GRACE;
        timer.as_mut().reset(grace);
        timer.as_mut().poll(cx)
    }

    /// What the call ends with at its deadline.
    fn last_outcome(&mut self, cx: &mut Context<'_>) -> Result<SharedPayload, Status> {
        if let Stage::Sent(sent) = &mut self.stage
            && let Poll::Ready(Outcome::Ended(result)) = sent.poll(cx)
        {
            return result;
        }
        Err(self.late())
    }

    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.timer.is_none() {
            let own = match (Handle::try_current(), self.channel.runtime()) {
                (Ok(_), _) => None,
                (Err(_), Some(runtime)) => Some(runtime.enter()),
                (Err(_), None) => {
                    return Poll::Ready(Err(Status::failed_precondition(
                        "a deadline needs a tokio runtime; poll the call, or make the client, on one",
                    )));
                }
            };
            self.timer = Some(Box::pin(tokio::time::sleep_until(deadline.into())));
            drop(own);
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(Ok(()))
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

/// Time for a driver to look into its socket once more for a call whose deadline has passed.
const LOOK_GRACE: Duration = Duration::from_millis(100);

// Nothing in it is pinned: the timer lies in a box, and the request is only ever borrowed.
impl<Req, Resp, E> Unpin for Call<'_, Req, Resp, E> {}

impl<Req: Message, Resp: Message, E: Encode<Req>> Future for Call<'_, Req, Resp, E> {
    type Output = Result<Response<Resp>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match (self.poll_call(cx), self.deadline) {
            (Poll::Ready(outcome), _) => outcome,
            (Poll::Pending, Some(deadline)) => ready!(self.poll_deadline(deadline, cx)),
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
