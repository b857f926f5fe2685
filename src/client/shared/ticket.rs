//! What a call holds: its place among those who wait, then its place among those that were sent.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::channel::Channel;
use super::state::{Admission, SentCall, State};
use crate::client::slots::Outcome;
use crate::rpc::received::SharedPayload;
use crate::wire::status::Status;

/// A place among those who wait; giving it up lets the others on.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    channel: &'a Channel,
    number: u64,
}

/// A call that was sent; giving it up tells the server.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    channel: &'a Channel,
    call: SentCall,
    /// The look into the socket that it has asked for.
    look: Option<u64>,
    /// Whether its outcome was fetched; then it has no place any more.
    has_ended: bool,
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

impl<'a> Sent<'a> {
    pub(super) fn new(channel: &'a Channel, call: SentCall) -> Self {
        Self {
            channel,
            call,
            look: None,
            has_ended: false,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<SharedPayload>> {
        let polled = self
            .channel
            .with(|state| state.poll_outcome(self.call.slot, cx));
        self.has_ended = polled.is_ready();
        polled
    }

    /// Asks the driver to look whether the answer lies in the socket. Says whether it was asked now.
    pub(super) fn ask_look(&mut self, cx: &mut Context<'_>) -> bool {
        let is_first = self.look.is_none();
        if is_first {
            let asked = |state: &mut State| state.ask_look(self.call, cx.waker());
            self.look = Some(self.channel.with(asked));
        }
        is_first
    }

    /// Whether it has looked since it was asked.
    pub(super) fn was_looked_for(&self) -> bool {
        let has_looked = |number| {
            self.channel
                .with(|state| state.has_looked(self.call, number))
        };
        self.look.is_some_and(has_looked)
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.channel.with(|state| state.cancel(self.call));
        }
    }
}
