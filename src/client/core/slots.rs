//! Where the outcomes of calls wait for their callers.

use std::task::{Poll, Waker};

use super::waiting::replace_waker;
use crate::wire::status::Status;

/// A slab with a place for each call that was sent and not yet fetched. Places are reused, so that
/// a call costs no allocation of its own.
#[derive(Debug)]
pub(crate) struct CallSlots<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
}

/// What it holds is taken out of it field by field: moved as a whole, one enum within another, it would
/// cost a call more time than all that is done with it.
#[derive(Debug)]
struct Slot<P> {
    /// Set while the call waits: who is woken when it ends.
    waker: Option<Waker>,
    /// Set when it was answered.
    payload: Option<P>,
    /// Set when it has ended otherwise.
    failure: Option<Box<Failure>>,
}

/// How a call has ended on its connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<P> {
    /// It was answered.
    Answered(P),
    /// It has no answer.
    Failed(Box<Failure>),
}

/// Why a call has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It has failed.
    Ended(Status),
    /// It has ended before anything of it was sent, so that it is made on another connection. If there is
    /// none, it has failed for this reason.
    NotSent(Status),
}

impl<P> Outcome<P> {
    /// It has failed.
    pub(crate) fn failed(status: Status) -> Self {
        Self::Failed(Box::new(Failure::Ended(status)))
    }

    /// Nothing of it was sent.
    pub(crate) fn not_sent(status: Status) -> Self {
        Self::Failed(Box::new(Failure::NotSent(status)))
    }
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
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        let unused = self.slots.len() as u32;
        self.free.last().copied().unwrap_or(unused)
    }

    /// Gives a call its place, and remembers whom to wake when it ends.
    #[inline(always)]
    pub(crate) fn take(&mut self, waker: &Waker) -> u32 {
        let waker = Some(waker.clone());
        match self.free.pop() {
            Some(at) => {
                self.slots[at as usize].waker = waker;
                at
            }
            None => {
                self.slots.push(Slot {
                    waker,
                    payload: None,
                    failure: None,
                });
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Takes a place back from a call that is given up, and returns who would have been woken. That is for
    /// the caller to drop, after all else: it is code of the program's, which may panic.
    #[must_use = "what drops it may panic, so it is dropped last"]
    pub(crate) fn put(&mut self, slot: u32) -> Option<Waker> {
        self.free.push(slot);
        let slot = &mut self.slots[slot as usize];
        (slot.payload, slot.failure) = (None, None);
        slot.waker.take()
    }

    /// Leaves a call's answer in its place, and returns who is to be woken.
    #[inline(always)]
    pub(crate) fn answer(&mut self, slot: u32, payload: P) -> Option<Waker> {
        let slot = &mut self.slots[slot as usize];
        slot.payload = Some(payload);
        slot.waker.take()
    }

    /// Leaves a call's outcome in its place, and returns who is to be woken.
    pub(crate) fn finish(&mut self, slot: u32, outcome: Outcome<P>) -> Option<Waker> {
        match outcome {
            Outcome::Answered(payload) => self.answer(slot, payload),
            Outcome::Failed(failure) => {
                let slot = &mut self.slots[slot as usize];
                slot.failure = Some(failure);
                slot.waker.take()
            }
        }
    }

    /// Fetches a call's outcome, which then has no place any more, or remembers whom to wake. Who was to be
    /// woken before goes to `replaced`, to be dropped like that of [`CallSlots::put`].
    #[inline(always)]
    pub(crate) fn poll(
        &mut self,
        at: u32,
        waker: &Waker,
        replaced: &mut Option<Waker>,
    ) -> Poll<Outcome<P>> {
        let slot = &mut self.slots[at as usize];
        if let Some(payload) = slot.payload.take() {
            self.free.push(at);
            return Poll::Ready(Outcome::Answered(payload));
        }
        if let Some(failure) = slot.failure.take() {
            self.free.push(at);
            return Poll::Ready(Outcome::Failed(failure));
        }
        let known = slot.waker.as_mut().expect("a call that waits has a waker");
        *replaced = replace_waker(known, waker);
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
        let (mut slots, waker) = (CallSlots::new(), Waker::noop());
        let next = slots.next();
        let slot = slots.take(waker);
        assert_eq!(slot, next);
        assert!(slots.poll(slot, waker, &mut None).is_pending());
        assert!(slots.answer(slot, 1).is_some(), "its caller is woken");
        let ended = Poll::Ready(Outcome::Answered(1));
        assert_eq!(slots.poll(slot, waker, &mut None), ended);
        assert_eq!((slots.next(), slots.take(waker)), (slot, slot));
        assert!(slots.poll(slot, waker, &mut None).is_pending());
        let failed = || Outcome::failed(Status::unavailable("gone"));
        assert!(slots.finish(slot, failed()).is_some());
        assert_eq!(slots.poll(slot, waker, &mut None), Poll::Ready(failed()));
        assert_eq!(slots.take(waker), slot);
        assert_eq!(slots.in_use(), 1);
        assert!(slots.answer(slot, 2).is_some());
        assert!(slots.put(slot).is_none(), "it was woken");
        assert_eq!(slots.in_use(), 0);
        assert_eq!(slots.take(waker), slot);
        assert!(slots.poll(slot, waker, &mut None).is_pending(), "2 is gone");
    }

    struct PanicsWhenDropped;

    impl std::task::Wake for PanicsWhenDropped {
        fn wake(self: std::sync::Arc<Self>) {}
    }

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("a waker panics when it is dropped");
        }
    }

    #[test]
    fn a_waker_that_panics_when_it_is_dropped_costs_no_place() {
        let mut slots = CallSlots::<u32>::new();
        let waker = Waker::from(std::sync::Arc::new(PanicsWhenDropped));
        let slot = slots.take(&waker);
        // The last one is that of the call.
        drop(waker);
        let given_up = crate::panics::caught(|| drop(slots.put(slot)));
        assert!(given_up.is_err_and(|text| text.contains("when it is dropped")));
        assert_eq!((slots.in_use(), slots.take(Waker::noop())), (0, slot));
        let mut replaced = None;
        let moved = Waker::from(std::sync::Arc::new(PanicsWhenDropped));
        assert!(slots.poll(slot, &moved, &mut replaced).is_pending());
        assert!(replaced.is_some(), "the one before");
        let mut replaced = None;
        assert!(slots.poll(slot, &moved, &mut replaced).is_pending());
        assert!(replaced.is_none(), "it is the same");
        assert!(slots.poll(slot, Waker::noop(), &mut replaced).is_pending());
        drop(moved);
        assert!(crate::panics::caught(|| drop(replaced)).is_err());
        assert_eq!(slots.answer(slot, 3).map(drop), Some(()));
    }
}
