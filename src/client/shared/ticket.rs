//! What a call holds while it waits for its turn.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::channel::Channel;
use super::state::{Queued, State};
use crate::wire::status::Status;

/// A place among those who wait; giving it up lets the others on.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    channel: &'a Channel,
    number: u64,
}

/// Does something on the link that calls go to, when it is the turn of this ticket; connects if
/// nothing does yet.
#[inline(always)]
pub(super) fn poll_admitted<'a, R>(
    channel: &'a Arc<Channel>,
    ticket: &mut Option<Ticket<'a>>,
    cx: &Context<'_>,
    go: impl FnOnce(&mut State, usize) -> R,
) -> Poll<Result<R, Status>> {
    let number = ticket.as_ref().map(|ticket| ticket.number);
    let admitted = channel.with(|state| {
        let Some(at) = state.pick_link(number) else {
            let waits_for_ready = channel.config.waits_for_ready;
            return Err(state.queue_call(number, waits_for_ready, channel.now_ns(), cx.waker()));
        };
        let done = go(state, at);
        if number.is_some() {
            // There may be room for the next one too.
            state.call_waiting();
        }
        Ok(done)
    });
    match admitted {
        Ok(done) => {
            if let Some(ticket) = ticket.take() {
                // It has left the queue, so its drop has nothing to do.
                std::mem::forget(ticket);
            }
            Poll::Ready(Ok(done))
        }
        Err(queued) => poll_queued(channel, ticket, queued).map(Err),
    }
}

/// Ready when a call fails that could not be sent.
#[cold]
fn poll_queued<'a>(
    channel: &'a Arc<Channel>,
    ticket: &mut Option<Ticket<'a>>,
    queued: Queued,
) -> Poll<Status> {
    let (number, pause) = match queued {
        Queued::Fail(status) => return Poll::Ready(status),
        Queued::Connect(number, pause) => (number, Some(pause)),
        Queued::Wait(number) => (number, None),
    };
    ticket.get_or_insert_with(|| Ticket { channel, number });
    if let Some(pause) = pause
        && let Err(status) = channel.connect(pause)
    {
        return Poll::Ready(status);
    }
    Poll::Pending
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.channel.with(|state| state.leave(self.number));
    }
}
