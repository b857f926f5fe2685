//! Where the outcomes of calls wait for their callers.

use std::task::{Context, Poll, Waker};

use crate::wire::status::Status;

/// A slab with a place for each call that was sent and not yet fetched. Places are reused, so that
/// a call costs no allocation of its own.
#[derive(Debug)]
pub(crate) struct CallSlots<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<P> {
    waker: Option<Waker>,
    outcome: Option<Outcome<P>>,
}

/// How a call has ended on its connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<P> {
    /// With this result.
    Ended(Result<P, Status>),
    /// Before anything of it was sent, so that it is made on another connection. If there is none, it
    /// has failed for this reason.
    NotSent(Status),
}

impl<P> CallSlots<P> {
    /// No places yet.
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The place that the next call gets.
    pub(crate) fn next(&self) -> u32 {
        let unused = self.slots.len() as u32;
        self.free.last().copied().unwrap_or(unused)
    }

    /// Gives a call its place.
    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                waker: None,
                outcome: None,
            });
            self.slots.len() as u32 - 1
        })
    }

    /// Takes a place back from a call that has ended or was given up.
    pub(crate) fn put(&mut self, slot: u32) {
        self.slots[slot as usize] = Slot {
            waker: None,
            outcome: None,
        };
        self.free.push(slot);
    }

    /// Leaves a call's outcome in its place, and returns who is to be woken.
    pub(crate) fn finish(&mut self, slot: u32, outcome: Outcome<P>) -> Option<Waker> {
        let slot = &mut self.slots[slot as usize];
        slot.outcome = Some(outcome);
        slot.waker.take()
    }

    /// Fetches a call's outcome, or remembers whom to wake.
    pub(crate) fn poll(&mut self, slot: u32, cx: &Context<'_>) -> Poll<Outcome<P>> {
        let slot = &mut self.slots[slot as usize];
        if let Some(outcome) = slot.outcome.take() {
            return Poll::Ready(outcome);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Places that belong to a call.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reused_and_starts_empty() {
        let mut slots = CallSlots::new();
        let cx = Context::from_waker(Waker::noop());
        let next = slots.next();
        let slot = slots.take();
        assert_eq!(slot, next);
        assert!(slots.poll(slot, &cx).is_pending());
        assert!(
            slots.finish(slot, Outcome::Ended(Ok(1))).is_some(),
            "its caller is woken"
        );
        let ended = Poll::Ready(Outcome::Ended(Ok(1)));
        assert_eq!(slots.poll(slot, &cx), ended);
        slots.put(slot);
        assert_eq!((slots.next(), slots.take()), (slot, slot));
        assert!(slots.poll(slot, &cx).is_pending());
        assert_eq!(slots.in_use(), 1);
    }
}
