//! Draws the calls of a load and deals them to its threads.
//!
//! One stream of calls is drawn from the seed and then dealt to the threads, so the same seed gives
//! the same stream whatever their number. Dealing at random keeps a Poisson stream one on every
//! thread; even streams are dealt in turn, so that they stay even.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::arrival::{Arrival, Times};
use super::plan::Part;
use super::schedule::{Block, Feed, Schedule};
use super::work::Workload;

/// Draws one block of calls after the other, for all threads.
pub struct Dealer {
    times: Times,
    /// The call that ended the last block is the first of the next.
    next_ns: Option<u64>,
    until_ns: u64,
    /// Calls drawn so far.
    number: usize,
    is_in_turn: bool,
    workload: Workload,
    part: Part,
    /// Random sources that never meet, so that what is asked does not depend on when.
    dealing: Xoshiro256PlusPlus,
    works: Xoshiro256PlusPlus,
    parting: Xoshiro256PlusPlus,
    /// For each thread, when its last call is due.
    last_ns: Vec<u64>,
}

impl Dealer {
    /// Of all calls up to `until`, those of a part. A trace has its own rate.
    pub fn new(
        arrival: &Arrival,
        rate_per_s: f64,
        until: Duration,
        workload: &Workload,
        seed: u64,
        part: Part,
        threads: usize,
    ) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut dealing = random.clone();
        dealing.jump();
        let mut works = dealing.clone();
        works.jump();
        let mut parting = works.clone();
        parting.jump();
        let mut times = Times::new(arrival, rate_per_s, random);
        Self {
            next_ns: times.next(),
            times,
            until_ns: until.as_nanos() as u64,
            number: 0,
            is_in_turn: *arrival == Arrival::Uniform,
            workload: workload.clone(),
            part,
            dealing,
            works,
            parting,
            last_ns: vec![0; threads],
        }
    }

    /// Fills a block for each thread with the calls that come next; `false` at the end.
    fn deal(&mut self, blocks: &mut [Block]) -> bool {
        let threads = self.last_ns.len();
        let is_mixed = self.workload.constant().is_none();
        let block_end = self.number + BLOCK_CALLS;
        while let Some(at_ns) = self.next_ns.filter(|&at_ns| at_ns < self.until_ns) {
            if self.number == block_end {
                return true;
            }
            let number = self.number;
            self.number += 1;
            self.next_ns = self.times.next();
            // Every part draws the same, whatever it keeps.
            let work = is_mixed.then(|| self.workload.draw(&mut self.works));
            let owner = match self.part.of {
                1 => 0,
                of if self.is_in_turn => number % of,
                of => self.parting.random_range(0..of),
            };
            if owner != self.part.number {
                continue;
            }
            let thread = match threads {
                1 => 0,
                threads if self.is_in_turn => number / self.part.of % threads,
                threads => self.dealing.random_range(0..threads),
            };
            blocks[thread].push(at_ns - self.last_ns[thread], work);
            self.last_ns[thread] = at_ns;
        }
        false
    }

    /// What each thread gets, and who deals to it while it runs what is too much to be kept from the
    /// beginning.
    pub fn start(mut self) -> (Vec<Schedule>, Option<Feeder>) {
        let constant = self.workload.constant();
        let mut blocks: Vec<Vec<Block>> = vec![Vec::new(); self.last_ns.len()];
        let mut goes_on = true;
        while goes_on && self.number < AHEAD_CALLS {
            let mut next = vec![Block::default(); blocks.len()];
            goes_on = self.deal(&mut next);
            blocks
                .iter_mut()
                .zip(next)
                .for_each(|(all, block)| all.push(block));
        }
        let mut threads = Vec::new();
        let schedule = |blocks| {
            let feed = goes_on.then(|| {
                let (sender, receiver) = sync_channel(AHEAD_CALLS / BLOCK_CALLS);
                let (used_sender, used) = channel();
                threads.push(FedThread {
                    blocks: sender,
                    used,
                });
                Feed {
                    blocks: receiver,
                    used: used_sender,
                }
            });
            Schedule::new(constant, blocks, feed)
        };
        let schedules = blocks.into_iter().map(schedule).collect();
        let feeder = goes_on.then_some(Feeder {
            dealer: self,
            threads,
        });
        (schedules, feeder)
    }
}

/// Deals to threads whose load runs.
pub struct Feeder {
    dealer: Dealer,
    threads: Vec<FedThread>,
}

struct FedThread {
    blocks: SyncSender<Block>,
    /// What it is through with.
    used: Receiver<Block>,
}

impl Feeder {
    /// Deals until all is dealt, or a thread takes no more. It waits while enough is dealt ahead, which
    /// all threads take from alike, since calls become due whatever becomes of those before.
    pub fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            let mut blocks: Vec<Block> = self.threads.iter().map(FedThread::empty).collect();
            goes_on = self.dealer.deal(&mut blocks);
            for (thread, block) in self.threads.iter().zip(blocks) {
                if thread.blocks.send(block).is_err() {
                    return;
                }
            }
        }
    }
}

impl FedThread {
    /// A block to be filled.
    fn empty(&self) -> Block {
        let mut block = self.used.try_recv().unwrap_or_default();
        block.clear();
        block
    }
}

/// Calls of a block, over all threads of all parts.
const BLOCK_CALLS: usize = 1 << 18;
/// Calls that are dealt before the load begins, and as many again wait while it runs: 400 MB when each
/// asks for something else, 130 MB when all ask for the same.
const AHEAD_CALLS: usize = 1 << 24;

#[cfg(test)]
#[path = "dealer_tests.rs"]
mod tests;
