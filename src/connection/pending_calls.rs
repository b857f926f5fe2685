//! The calls that a client waits for.

use crate::planted_bugs::{Bug, is_planted};

/// A slab of waiters. A call's id holds its slot in the low bits, so a response finds it without
/// hashing, and a sequence number in the high bits, so ids strictly increase.
#[derive(Debug)]
pub(super) struct Calls<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
    sequence: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Slot<W> {
    call_id: u64,
    waiter: Option<W>,
    end: u64,
}

/// Bits of a call id that hold the slot.
const SLOT_BITS: u32 = 20;
/// Calls that one connection can wait for at once.
pub(super) const CALLS_MAX: usize = 1 << SLOT_BITS;

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            waiting: 0,
        }
    }
}

impl<W> Calls<W> {
    /// Whether no call is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Number of calls that are waited for.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// The id of the next call, which is never zero. Nothing is changed: a call that comes to
    /// nothing before [`Calls::insert`] leaves nothing behind.
    ///
    /// # Panics
    /// When [`CALLS_MAX`] calls wait: the limits of both sides are far below.
    pub(super) fn next_id(&self) -> u64 {
        let slot = self.free.last().copied().unwrap_or_else(|| {
            assert!(
                self.slots.len() < CALLS_MAX,
                "more calls than ids have room for"
            );
            self.slots.len() as u32
        });
        (self.sequence + 1) << SLOT_BITS | u64::from(slot)
    }

    /// Adds the waiter of the call with the id that [`Calls::next_id`] gives. `end` is where its
    /// request ends among all that was ever to be sent, in bytes.
    pub(super) fn insert(&mut self, waiter: W, end: u64) -> u64 {
        let call_id = self.next_id();
        let slot = Slot {
            call_id,
            waiter: Some(waiter),
            end,
        };
        match self.free.pop() {
            Some(at) => self.slots[at as usize] = slot,
            None => self.slots.push(slot),
        }
        self.sequence += 1;
        self.waiting += 1;
        call_id
    }

    /// Takes the waiter of a call, if it still waits.
    pub(super) fn remove(&mut self, call_id: u64) -> Option<W> {
        self.answer(call_id).map(|(waiter, _)| waiter)
    }

    /// The same, and where the call's request ends.
    pub(super) fn answer(&mut self, call_id: u64) -> Option<(W, u64)> {
        let slot = (call_id & (CALLS_MAX as u64 - 1)) as u32;
        let found = self.slots.get_mut(slot as usize)?;
        if found.call_id != call_id && !is_planted(Bug::GenerationUnchecked) {
            return None;
        }
        let waiter = found.waiter.take()?;
        self.free.push(slot);
        if !is_planted(Bug::SlotLeaked) || call_id & 7 != 3 {
            self.waiting -= 1;
        }
        Some((waiter, found.end))
    }

    /// Whether a call with this id may have been made: of those that have ended only the last in each
    /// place is known.
    pub(super) fn was_made(&self, call_id: u64) -> bool {
        let slot = (call_id & (CALLS_MAX as u64 - 1)) as usize;
        let is_sequenced = call_id >> SLOT_BITS > 0;
        is_sequenced
            && self
                .slots
                .get(slot)
                .is_some_and(|slot| call_id <= slot.call_id)
    }

    /// Takes the waiters of the calls whose id is at least this one, in the order of their calls.
    pub(super) fn take_from(&mut self, call_id: u64) -> Vec<W> {
        let taken = |slot: &&Slot<W>| slot.waiter.is_some() && slot.call_id >= call_id;
        let found = self.slots.iter().filter(taken).map(|slot| slot.call_id);
        let mut ids: Vec<u64> = found.collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes all waiters.
    pub(super) fn take_all(&mut self) -> Vec<W> {
        self.take_from(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_although_slots_are_reused() {
        let mut calls = Calls::default();
        let first = calls.insert('a', 10);
        let second = calls.insert('b', 20);
        assert_eq!(calls.remove(first), Some('a'));
        assert_eq!(calls.next_id(), calls.next_id(), "asking changes nothing");
        let third = calls.insert('c', 30);
        assert!(first < second && second < third);
        assert_eq!(
            calls.remove(first),
            None,
            "an old id does not reach the slot's new call"
        );
        assert_eq!((calls.answer(third), calls.len()), (Some(('c', 30)), 1));
        assert!(calls.was_made(third) && !calls.was_made(third + (1 << 30)));
        // No such place, a sequence that no call has, and a later call in a place that had an earlier.
        assert!(!calls.was_made(third + 50) && !calls.was_made(1));
        assert!(!calls.was_made(third + (1 << SLOT_BITS)));
        let late = calls.insert('d', 40);
        assert_eq!(calls.take_from(second + 1), ['d']);
        assert_eq!((calls.remove(late), calls.len()), (None, 1));
        assert_eq!(calls.take_all(), ['b']);
    }
}
