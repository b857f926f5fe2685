//! The shard's timer wheel: deadlines, keepalive and sleeps, driven by the engine's turn.
//!
//! Four levels of 64 slots; a slot of the first is one tick, a slot of the next 64 times as long.
//! Adding and cancelling take constant time. A timer fires in the turn after its tick has begun,
//! never early. Deadlines beyond the last level (about 37 minutes) wait there and are looked at
//! again.

use std::task::Waker;

/// What to do when a timer fires.
#[derive(Debug)]
pub(crate) enum Due {
    /// Wake a future that sleeps.
    Wake(Waker),
    /// Look at the time limits of a connection.
    Connection(super::conn::ConnKey),
    /// End the call of this task: its deadline has passed.
    CallDeadline(super::tasks::TaskKey),
}

/// Names a timer, to cancel it. A name that is no longer valid does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// Length of a tick: 131 µs.
const TICK_BITS: u32 = 17;
/// Slots of a level, as a power of two.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
/// Ticks that the wheel spans.
const SPAN_TICKS: u64 = 1 << (SLOT_BITS * LEVELS as u32);
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    deadline_tick: u64,
    due: Option<Due>,
    generation: u32,
    slot: u16,
    next: u32,
    previous: u32,
}

/// The wheel.
#[derive(Debug)]
pub(crate) struct Timers {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// First entry of each slot of each level.
    heads: Box<[u32; LEVELS * SLOTS]>,
    /// Which slots of a level are not empty.
    occupied: [u64; LEVELS],
    now_tick: u64,
    count: usize,
}

impl Timers {
    /// An empty wheel whose time begins at zero.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            heads: Box::new([NONE; LEVELS * SLOTS]),
            occupied: [0; LEVELS],
            now_tick: 0,
            count: 0,
        }
    }

    /// Number of timers that have not fired.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds a timer. A deadline that has passed fires at the next [`Timers::expire`].
    pub(crate) fn add(&mut self, deadline_ns: u64, due: Due) -> TimerKey {
        let deadline_tick = deadline_ns.div_ceil(1 << TICK_BITS).max(self.now_tick + 1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                deadline_tick: 0,
                due: None,
                generation: 0,
                slot: 0,
                next: NONE,
                previous: NONE,
            });
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[index as usize];
        entry.deadline_tick = deadline_tick;
        entry.due = Some(due);
        let generation = entry.generation;
        self.link(index);
        self.count += 1;
        TimerKey { index, generation }
    }

    /// Cancels a timer; does nothing when it has fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        if self.entries[key.index as usize].generation == key.generation {
            self.unlink(key.index);
            self.release(key.index);
        }
    }

    /// Whether [`Timers::expire`] would move the time on.
    #[inline]
    pub(crate) fn is_behind(&self, now_ns: u64) -> bool {
        now_ns >> TICK_BITS > self.now_tick
    }

    /// Moves the time on and hands out what is due.
    pub(crate) fn expire(&mut self, now_ns: u64, mut fire: impl FnMut(Due)) {
        let target_tick = now_ns >> TICK_BITS;
        if self.count == 0 {
            self.now_tick = self.now_tick.max(target_tick);
            return;
        }
        while self.now_tick < target_tick {
            // Steps over ticks in which nothing can happen.
            let next_tick = self.next_tick().min(target_tick);
            self.now_tick = next_tick.max(self.now_tick + 1);
            self.cascade();
            let slot = (self.now_tick as usize) & (SLOTS - 1);
            while self.heads[slot] != NONE {
                let index = self.heads[slot];
                self.unlink(index);
                if self.entries[index as usize].deadline_tick > self.now_tick {
                    self.link(index);
                    continue;
                }
                if let Some(due) = self.release(index) {
                    fire(due);
                }
            }
        }
    }

    /// Whether [`Timers::expire`] may hand something out at this time.
    #[inline]
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.count > 0
            && now_ns >> TICK_BITS > self.now_tick
            && self.next_tick() <= now_ns >> TICK_BITS
    }

    /// When [`Timers::expire`] may have something to do, in nanoseconds; never late, sometimes
    /// early. `None`: there is no timer.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        (self.count > 0).then(|| self.next_tick() << TICK_BITS)
    }

    /// The earliest tick at which a slot is reached that is not empty.
    fn next_tick(&self) -> u64 {
        let mut earliest = u64::MAX;
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            let position = self.now_tick >> shift;
            let ahead = self.occupied[level].rotate_right((position as u32 + 1) % SLOTS as u32);
            if ahead != 0 {
                let reached = position + 1 + u64::from(ahead.trailing_zeros());
                earliest = earliest.min(reached << shift);
            }
        }
        earliest
    }

    /// When a slot of a higher level begins, its timers move to lower levels.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if !self.now_tick.is_multiple_of(1 << shift) {
                continue;
            }
            let slot = level * SLOTS + ((self.now_tick >> shift) as usize & (SLOTS - 1));
            let mut index = std::mem::replace(&mut self.heads[slot], NONE);
            self.occupied[level] &= !(1 << (slot % SLOTS));
            while index != NONE {
                let next = self.entries[index as usize].next;
                self.link(index);
                index = next;
            }
        }
    }

    fn link(&mut self, index: u32) {
        let deadline_tick = self.entries[index as usize].deadline_tick;
        // A slot of the present tick is only for what fires in it.
        let ahead = deadline_tick
            .saturating_sub(self.now_tick)
            .min(SPAN_TICKS - 1);
        let tick = self.now_tick + ahead;
        let level = match ahead {
            0 => 0,
            _ => (ahead.ilog2() / SLOT_BITS) as usize,
        };
        let slot = level * SLOTS + ((tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1));
        let head = std::mem::replace(&mut self.heads[slot], index);
        self.occupied[level] |= 1 << (slot % SLOTS);
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.slot, entry.next, entry.previous) = (slot as u16, head, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            slot,
            next,
            previous,
            ..
        } = self.entries[index as usize];
        let slot = usize::from(slot);
        if previous == NONE {
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
            }
        } else {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
    }

    fn release(&mut self, index: u32) -> Option<Due> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        self.count -= 1;
        entry.due.take()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conn::ConnKey;
    use super::*;

    const TICK_NS: u64 = 1 << TICK_BITS;

    fn marked(mark: u32) -> Due {
        Due::Connection(ConnKey {
            slot: mark,
            generation: 0,
        })
    }

    fn expired(timers: &mut Timers, now_ns: u64) -> Vec<u32> {
        let mut marks = Vec::new();
        timers.expire(now_ns, |due| match due {
            Due::Connection(key) => marks.push(key.slot),
            other => panic!("{other:?}"),
        });
        marks
    }

    #[test]
    fn timers_fire_in_their_tick_whatever_the_steps() {
        for step_ns in [1_000, TICK_NS, 7 * TICK_NS + 3, 1_000_000_000] {
            let mut random = fastrand::Rng::with_seed(step_ns);
            let mut timers = Timers::new();
            // From below a tick to beyond the last level.
            let deadlines: Vec<u64> = (0..300)
                .map(|_| {
                    let ns: u64 = 1 << random.u32(10..43);
                    ns + random.u64(0..ns)
                })
                .collect();
            for (mark, &deadline_ns) in deadlines.iter().enumerate() {
                timers.add(deadline_ns, marked(mark as u32));
            }
            let (mut now_ns, mut fired) = (0, 0);
            while timers.len() > 0 {
                let next_ns = timers.next_deadline_ns().expect("timers are left");
                let late_ns = now_ns;
                now_ns = next_ns.max(now_ns) + random.u64(0..step_ns);
                for mark in expired(&mut timers, now_ns) {
                    let deadline_ns = deadlines[mark as usize];
                    assert!(deadline_ns <= now_ns, "fired early");
                    assert!(deadline_ns + 2 * TICK_NS + step_ns > late_ns, "fired late");
                    fired += 1;
                }
            }
            assert_eq!(fired, deadlines.len());
        }
    }

    #[test]
    fn a_cancelled_timer_does_not_fire_and_its_old_name_is_harmless() {
        let mut timers = Timers::new();
        let first = timers.add(10 * TICK_NS, marked(1));
        timers.add(10 * TICK_NS, marked(2));
        timers.cancel(first);
        timers.add(11 * TICK_NS, marked(3));
        timers.cancel(first);
        assert_eq!(expired(&mut timers, 20 * TICK_NS), [2, 3]);
        assert_eq!(timers.next_deadline_ns(), None);
    }

    #[test]
    fn the_next_deadline_is_never_late() {
        let mut timers = Timers::new();
        timers.expire(1_000_000_007 * TICK_NS / 1000, |_| ());
        let deadline_ns = 1_000_000_007 * TICK_NS / 1000 + 5_000_000_000;
        timers.add(deadline_ns, marked(1));
        let mut wakes = 0;
        loop {
            let next_ns = timers.next_deadline_ns().expect("not fired yet");
            assert!(next_ns <= deadline_ns + TICK_NS);
            wakes += 1;
            if expired(&mut timers, next_ns) == [1] {
                break;
            }
        }
        assert!(wakes <= LEVELS + 1, "{wakes} wake-ups for one timer");
    }
}
