//! The calls of one thread: when each is due and what it asks for, fixed before any answer is seen.
//!
//! They come in blocks. Those of a load of usual length are all there before it begins; those of a long
//! one are dealt while it runs, far ahead of their time, and taken away when they are over, so that
//! memory does not grow with time. [`super::dealer`] makes them.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::plan::Part;
use super::work::{Work, Workload};

/// A call of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// When it is due, since the beginning of the load.
    pub intended_ns: u64,
    /// What it asks for.
    pub work: Work,
}

/// Calls that follow each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Block {
    /// Nanoseconds since the call before. [`NO_CALL`] stands for a part of a longer gap.
    gaps_ns: Vec<u32>,
    /// What each call asks for; empty when all calls of the schedule ask for the same.
    works: Vec<Work>,
}

impl Block {
    /// Adds a call, so long after the one before.
    pub(super) fn push(&mut self, mut gap_ns: u64, work: Option<Work>) {
        while gap_ns >= u64::from(NO_CALL) {
            self.gaps_ns.push(NO_CALL);
            gap_ns -= u64::from(NO_CALL);
        }
        self.gaps_ns.push(gap_ns as u32);
        self.works.extend(work);
    }

    /// Forgets the calls, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.gaps_ns.clear();
        self.works.clear();
    }
}

/// Where further blocks come from while the load runs.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) blocks: Receiver<Block>,
    /// Blocks that are over go back: to free them takes time that must not be that of a call.
    pub(super) used: Sender<Block>,
}

/// The calls of one thread, in the order of their times.
#[derive(Debug, Default)]
pub struct Schedule {
    /// What all calls ask for, unless each block says it for each call.
    constant: Option<Work>,
    /// The blocks that are there, and the number of the first of them.
    pub(super) blocks: VecDeque<Block>,
    first: usize,
    feed: Option<Feed>,
    /// Calls that may be due have not been dealt yet.
    is_starved: bool,
}

/// A place in a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    block: usize,
    gap: usize,
    call: usize,
    at_ns: u64,
    /// Calls before it.
    passed: u64,
}

impl Cursor {
    /// Whether both are at the same call.
    pub fn is_at(&self, other: &Self) -> bool {
        self.passed == other.passed
    }
}

/// As a gap: so much time passes without a call.
const NO_CALL: u32 = u32::MAX;

impl Schedule {
    /// The blocks that are there before the load begins, and where further ones come from.
    pub(super) fn new(
        constant: Option<Work>,
        blocks: impl IntoIterator<Item = Block>,
        feed: Option<Feed>,
    ) -> Self {
        Self {
            constant,
            blocks: blocks.into_iter().collect(),
            first: 0,
            feed,
            is_starved: false,
        }
    }

    /// What the callers of a closed loop ask for, over and over. Each thread of each part has a
    /// stream of its own, which no other seed shares.
    pub fn of_closed_loop(workload: &Workload, seed: u64, part: Part, thread: usize) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..part.number).for_each(|_| random.long_jump());
        (0..thread).for_each(|_| random.jump());
        let works = (0..CLOSED_LOOP_WORKS).map(|_| workload.draw(&mut random));
        let block = Block {
            gaps_ns: Vec::new(),
            works: works.collect(),
        };
        Self::new(None, [block], None)
    }

    /// The call at a place; `None` at the end, and where the next call has not been dealt yet.
    #[inline]
    pub fn next(&mut self, cursor: &mut Cursor) -> Option<Planned> {
        loop {
            let Some(block) = self.blocks.get(cursor.block - self.first) else {
                self.receive()?;
                continue;
            };
            let Some(&gap_ns) = block.gaps_ns.get(cursor.gap) else {
                cursor.block += 1;
                (cursor.gap, cursor.call) = (0, 0);
                continue;
            };
            cursor.gap += 1;
            cursor.at_ns += u64::from(gap_ns);
            if gap_ns != NO_CALL {
                let work = self.constant.unwrap_or_else(|| block.works[cursor.call]);
                cursor.call += 1;
                cursor.passed += 1;
                return Some(Planned {
                    intended_ns: cursor.at_ns,
                    work,
                });
            }
        }
    }

    /// Takes the next block, if it has come.
    #[cold]
    fn receive(&mut self) -> Option<()> {
        let received = self.feed.as_ref()?.blocks.try_recv();
        self.is_starved = received == Err(TryRecvError::Empty);
        match received {
            Ok(block) => self.blocks.push_back(block),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                self.feed = None;
                return None;
            }
        }
        Some(())
    }

    /// Whether there may be calls that have not been dealt although they are looked for.
    pub fn is_starved(&self) -> bool {
        self.is_starved
    }

    /// Gives back the blocks before both places.
    #[inline]
    pub fn release_before(&mut self, one: &Cursor, other: &Cursor) {
        let needed = one.block.min(other.block);
        if self.first < needed && self.feed.is_some() {
            self.give_back(needed);
        }
    }

    #[cold]
    fn give_back(&mut self, needed: usize) {
        while self.first < needed
            && let Some(feed) = &self.feed
            && let Some(block) = self.blocks.pop_front()
        {
            self.first += 1;
            // When all is dealt nobody takes them, and few are left.
            feed.used.send(block).ok();
        }
    }

    /// What the call of this number asks for, in a closed loop.
    #[inline]
    pub fn work(&self, call: usize) -> Work {
        let works = &self.blocks[0].works;
        works[call % works.len()]
    }

    /// All calls of a load that is there from the beginning.
    pub fn calls(&mut self) -> impl Iterator<Item = Planned> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || self.next(&mut cursor))
    }
}

/// Different calls of a closed loop, before they repeat.
const CLOSED_LOOP_WORKS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_callers_of_closed_loops_ask_for_the_same() {
        let workload = Workload::parse("echo=0.5,add=0.5", "lognormal:100:1", None).unwrap();
        let mut streams = Vec::new();
        for seed in 0..3 {
            for number in 0..2 {
                for thread in 0..2 {
                    let part = Part { number, of: 2 };
                    let schedule = Schedule::of_closed_loop(&workload, seed, part, thread);
                    streams.push((0..50).map(|call| schedule.work(call)).collect::<Vec<_>>());
                }
            }
        }
        for (at, stream) in streams.iter().enumerate() {
            assert!(!streams[..at].contains(stream), "{at}");
        }
    }
}
