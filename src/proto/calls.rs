//! The calls that a client waits for.

/// A slab of waiters. A call's id holds its slot in the low bits, so a response finds it without
/// hashing, and a sequence number in the high bits, so ids strictly increase.
#[derive(Debug)]
pub struct Calls<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
    sequence: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Slot<W> {
    call_id: u64,
    waiter: Option<W>,
}

/// Bits of a call id that hold the slot.
const SLOT_BITS: u32 = 20;
/// Calls that one connection can wait for at once.
pub const CALLS_MAX: usize = 1 << SLOT_BITS;

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
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Number of calls that are waited for.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Adds a waiter and returns the id of its call, which is never zero.
    ///
    /// # Panics
    /// When [`CALLS_MAX`] calls wait: the limits of both sides are far below.
    pub fn insert(&mut self, waiter: W) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(
                self.slots.len() < CALLS_MAX,
                "more calls than ids have room for"
            );
            self.slots.push(Slot {
                call_id: 0,
                waiter: None,
            });
            self.slots.len() as u32 - 1
        });
        self.sequence += 1;
        let call_id = self.sequence << SLOT_BITS | u64::from(slot);
        self.slots[slot as usize] = Slot {
            call_id,
            waiter: Some(waiter),
        };
        self.waiting += 1;
        call_id
    }

    /// Takes the waiter of a call, if it still waits.
    pub fn remove(&mut self, call_id: u64) -> Option<W> {
        let slot = (call_id & (CALLS_MAX as u64 - 1)) as u32;
        let found = self.slots.get_mut(slot as usize)?;
        if found.call_id != call_id {
            return None;
        }
        let waiter = found.waiter.take()?;
        self.free.push(slot);
        self.waiting -= 1;
        Some(waiter)
    }

    /// Whether a call with this id may have been made: of those that have ended only the last in each
    /// place is known.
    pub fn was_made(&self, call_id: u64) -> bool {
        let slot = (call_id & (CALLS_MAX as u64 - 1)) as usize;
        let is_sequenced = call_id >> SLOT_BITS > 0;
        is_sequenced
            && self
                .slots
                .get(slot)
                .is_some_and(|slot| call_id <= slot.call_id)
    }

    /// Takes the waiters of the calls whose id is above this one.
    pub fn take_above(&mut self, call_id: u64) -> Vec<W> {
        let above = |slot: &Slot<W>| slot.waiter.is_some() && slot.call_id > call_id;
        let ids: Vec<u64> = self
            .slots
            .iter()
            .filter(|slot| above(slot))
            .map(|slot| slot.call_id)
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes all waiters.
    pub fn take_all(&mut self) -> Vec<W> {
        let waiters: Vec<W> = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.waiter.take())
            .collect();
        self.free = (0..self.slots.len() as u32).collect();
        self.waiting = 0;
        waiters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_although_slots_are_reused() {
        let mut calls = Calls::default();
        let first = calls.insert('a');
        let second = calls.insert('b');
        assert_eq!(calls.remove(first), Some('a'));
        let third = calls.insert('c');
        assert!(first < second && second < third);
        assert_eq!(
            calls.remove(first),
            None,
            "an old id does not reach the slot's new call"
        );
        assert_eq!((calls.remove(third), calls.len()), (Some('c'), 1));
        assert!(calls.was_made(third) && !calls.was_made(third + (1 << 30)));
        // No such place, a sequence that no call has, and a later call in a place that had an earlier.
        assert!(!calls.was_made(third + 50) && !calls.was_made(1));
        assert!(!calls.was_made(third + (1 << SLOT_BITS)));
        let late = calls.insert('d');
        assert_eq!(calls.take_above(second), ['d']);
        assert_eq!((calls.remove(late), calls.len()), (None, 1));
        assert_eq!(calls.take_all(), ['b']);
    }
}
