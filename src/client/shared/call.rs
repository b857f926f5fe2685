//! A call of the client for tokio programs: a future.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::Client;
use super::channel::Channel;
use super::state::{SentCall, State};
use super::ticket::{Ticket, poll_admitted};
use crate::client::core::slots::{Failure, Outcome};
use crate::client::{Call, timeout_us};
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::{Response, SharedPayload};
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::wire::status::Status;

/// What a [`Client`] keeps of a call. Dropping it tells the server, if the call was sent.
#[derive(Debug)]
#[expect(unnameable_types, reason = "it is part of a sealed trait")]
pub struct CallState<'a> {
    channel: &'a Arc<Channel>,
    /// Set at the first poll.
    deadline: Option<Box<Deadline>>,
    stage: Stage<'a>,
}

#[derive(Debug)]
enum Stage<'a> {
    New,
    Waiting(Option<Ticket<'a>>),
    /// Giving it up tells the server.
    Sent(SentCall),
    Ended,
}

/// When a call must have ended.
#[derive(Debug)]
struct Deadline {
    at: Instant,
    /// Made when the call waits.
    timer: Option<Pin<Box<Sleep>>>,
    /// The look into the socket that was asked for when the time was over.
    look: Option<u64>,
}

impl<'a> CallState<'a> {
    pub(super) fn new(channel: &'a Arc<Channel>) -> Self {
        Self {
            channel,
            deadline: None,
            stage: Stage::New,
        }
    }

    /// The time that remains, as it travels.
    fn time_left(&self, deadline: Instant) -> Result<u32, Status> {
        match timeout_us(deadline.saturating_duration_since(Instant::now())) {
            Err(_) if self.is_waiting() => Err(self.late()),
            other => other,
        }
    }

    /// Pending until the deadline, and until the connection's driver has looked for the answer then. A
    /// driver that does not run is not waited for.
    #[inline(never)]
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<SharedPayload, Status>> {
        let channel = self.channel;
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        if let Stage::Sent(sent) = self.stage
            && let Some(number) = deadline.look
            && channel.with(|state| state.has_looked(sent, number))
        {
            return Poll::Ready(self.last_outcome(cx));
        }
        ready!(deadline.poll_timer(channel, cx))?;
        if let Stage::Sent(sent) = self.stage
            && deadline.look.is_none()
        {
            let number = channel.with(|state| state.ask_look(sent, cx.waker()));
            deadline.look = Some(number);
            ready!(deadline.poll_grace(cx));
        }
        Poll::Ready(self.last_outcome(cx))
    }

    /// What the call ends with at its deadline.
    fn last_outcome(&mut self, cx: &Context<'_>) -> Result<SharedPayload, Status> {
        if let Stage::Sent(sent) = self.stage {
            let fetch = |state: &mut State| state.poll_outcome(sent, cx.waker());
            if let Poll::Ready(outcome) = self.channel.with(fetch) {
                let late = self.late();
                self.stage = Stage::Ended;
                return match outcome {
                    Outcome::Answered(payload) => Ok(payload),
                    Outcome::Failed(failure) => Err(match *failure {
                        Failure::Ended(status) => status,
                        Failure::NotSent(_) => late,
                    }),
                };
            }
        }
        Err(self.late())
    }

    /// Gives up what the call holds, if it holds something still.
    #[inline(always)]
    fn end(&mut self) {
        if let Stage::Sent(sent) = std::mem::replace(&mut self.stage, Stage::Ended) {
            self.channel.with(|state| state.cancel(sent));
        }
        if self.deadline.is_some() {
            self.deadline = None;
        }
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

impl<Req: Message, Resp: Message, E: Encode<Req>> Call<'_, Client, Req, Resp, E> {
    /// Serialises the request into the send buffer, when it is its turn.
    #[inline(always)]
    fn poll_send(&mut self, cx: &Context<'_>) -> Poll<Result<(), Status>> {
        let timeout_us = match &self.state.deadline {
            Some(deadline) => self.state.time_left(deadline.at)?,
            None => 0,
        };
        // A panic of the encoder, which may be the program's own code, ends this call and no other.
        let mut ticket = match std::mem::replace(&mut self.state.stage, Stage::Ended) {
            Stage::Waiting(ticket) => ticket,
            Stage::New | Stage::Sent(_) | Stage::Ended => None,
        };
        let (service, method, request) = (self.service, self.method, &self.request);
        let encode = |out: &mut Vec<u8>, bytes_max| {
            encode_payload::<Req>(request, bytes_max, out).map_err(Unsendable::request)
        };
        let stage = &mut self.state.stage;
        let go = |state: &mut State, at| {
            let sent = state.send(at, service, method, timeout_us, cx.waker(), encode);
            // Straight to its place: a result that holds one or the other is large, and to move it
            // costs more than to look for a place for the call.
            sent.map(|sent| *stage = Stage::Sent(sent))
        };
        match poll_admitted(self.state.channel, &mut ticket, cx, go) {
            Poll::Ready(Ok(done)) => Poll::Ready(done),
            Poll::Ready(Err(status)) => Poll::Ready(Err(status)),
            Poll::Pending => {
                self.state.stage = Stage::Waiting(ticket);
                Poll::Pending
            }
        }
    }

    /// Sends the call if that was not done, and fetches its outcome.
    #[inline(always)]
    fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<Result<SharedPayload, Status>> {
        if let Stage::Sent(sent) = self.state.stage {
            let fetch = |state: &mut State| state.poll_outcome(sent, cx.waker());
            match ready!(self.state.channel.with(fetch)) {
                Outcome::Answered(payload) => {
                    self.state.stage = Stage::Ended;
                    return Poll::Ready(Ok(payload));
                }
                Outcome::Failed(failure) => match *failure {
                    Failure::Ended(status) => {
                        self.state.stage = Stage::Ended;
                        return Poll::Ready(Err(status));
                    }
                    // It goes to another connection, if there is one.
                    Failure::NotSent(_) => self.state.stage = Stage::Waiting(None),
                },
            }
        } else {
            self.begin()?;
        }
        ready!(self.poll_send(cx))?;
        // Who is woken at its end is known already.
        Poll::Pending
    }

    /// At the first poll the time begins.
    #[inline(always)]
    fn begin(&mut self) -> Result<(), Status> {
        match self.state.stage {
            Stage::New => {
                self.tell_begin()?;
                // A time beyond what the clock can tell is no deadline.
                let at = |timeout| Instant::now().checked_add(timeout);
                self.state.deadline = self.options.deadline().and_then(at).map(Deadline::new);
                self.state.stage = Stage::Waiting(None);
            }
            Stage::Waiting(_) => (),
            Stage::Sent(_) | Stage::Ended => panic!("a call was polled after its end"),
        }
        Ok(())
    }
}

impl Deadline {
    fn new(at: Instant) -> Box<Self> {
        Box::new(Self {
            at,
            timer: None,
            look: None,
        })
    }

    fn poll_timer(&mut self, channel: &Channel, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => none.insert(timer_at(self.at, channel)?),
        };
        timer.as_mut().poll(cx).map(Ok)
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
}

/// A timer on the runtime that this runs on, or else on the client's.
fn timer_at(deadline: Instant, channel: &Channel) -> Result<Pin<Box<Sleep>>, Status> {
    let _own = match (Handle::try_current(), channel.runtime()) {
        (Ok(_), _) => None,
        (Err(_), Some(runtime)) => Some(runtime.enter()),
        (Err(_), None) => {
            return Err(Status::failed_precondition(
                "a deadline needs a tokio runtime; poll the call, or make the client, on one",
            ));
        }
    };
    Ok(Box::pin(tokio::time::sleep_until(deadline.into())))
}

/// Time for a driver to look into its socket once more for a call whose deadline has passed.
const LOOK_GRACE: Duration = Duration::from_millis(100);

impl Drop for CallState<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Stage::Sent(sent) = self.stage {
            self.channel.with(|state| state.cancel(sent));
        }
    }
}

impl<Req: Message, Resp: Message, E: Encode<Req>> Future for Call<'_, Client, Req, Resp, E> {
    type Output = Result<Response<Resp>, Status>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match self.poll_outcome(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending if self.state.deadline.is_some() => {
                ready!(self.state.poll_deadline(cx))
            }
            Poll::Pending => return Poll::Pending,
        };
        self.state.end();
        let result = match outcome {
            Ok(payload) => Response::validate(payload).map_err(Unreadable::response),
            Err(status) => Err(status),
        };
        Poll::Ready(self.tell_end(result))
    }
}
