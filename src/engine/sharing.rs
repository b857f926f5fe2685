//! Which shard accepts a connection, where all of them listen on one socket.
//!
//! The kernel spreads TCP connections by itself. A unix socket is one for all shards, and whichever
//! rule the kernel has for waking one of those that wait, it knows neither their loads nor that one of
//! them is held by a handler. So each shard is told of each connection, and the one with the least to
//! do takes it. The others leave it alone for a moment, and if it is still there then, they take it:
//! the shard whose turn it was is held, and is left out until it shows a sign of life.

use std::sync::Arc;

use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;

/// A shard that shares a listener, as the others see it.
#[derive(Debug)]
pub(crate) struct Sharer {
    counters: Arc<Counters>,
    mailbox: Arc<Mailbox>,
}

/// A shard with more to do waits this long, times its rank, for those that have less. It is many times
/// what a shard that sleeps needs to wake up.
const PATIENCE_NS: u64 = 1_000_000;
/// The longest wait, whatever the rank.
const PATIENCE_NS_MAX: u64 = 8 * PATIENCE_NS;
/// A shard that sleeps is not held: on a machine with more to do than CPUs it only wakes up late, and
/// would get less than its part if it were not waited for. So long at most.
const SLEEP_PATIENCE_NS: u64 = 100_000_000;

impl Sharer {
    pub(crate) fn new(counters: &Arc<Counters>, mailbox: &Arc<Mailbox>) -> Self {
        Self {
            counters: Arc::clone(counters),
            mailbox: Arc::clone(mailbox),
        }
    }

    /// What is compared: connections now, and connections in all, so that those that come and go one
    /// by one are spread as well.
    fn load(&self) -> (u64, u64) {
        (
            self.counters.connections.get(),
            self.counters.accepted.get(),
        )
    }

    /// Changes with every turn of the shard.
    fn pulse(&self) -> u64 {
        self.counters.pulse.get()
    }
}

/// What a shard knows of those with which it shares a listener.
#[derive(Debug)]
pub(super) struct Sharing {
    sharers: Arc<[Sharer]>,
    me: usize,
    /// The pulse at which a shard did not take what was its own, for each that did not.
    held: Vec<Option<u64>>,
    /// What this shard has left to another.
    left: Option<Left>,
}

/// A connection that was left to another shard.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// When to look whether it is still there.
    look_ns: u64,
    /// When it is taken even if that shard still sleeps.
    until_ns: u64,
    to: usize,
    /// Of that shard, when it was left to it.
    pulse: u64,
}

impl Sharing {
    pub(super) fn new(sharers: Arc<[Sharer]>, me: usize) -> Self {
        Self {
            held: vec![None; sharers.len()],
            sharers,
            me,
            left: None,
        }
    }

    /// Whether this shard may accept a connection now; if not, when it should look again.
    pub(super) fn may_accept(&mut self, now_ns: u64) -> Result<(), u64> {
        let (first, rank) = self.standing();
        if first == self.me {
            self.left = None;
            return Ok(());
        }
        let left = self.left.get_or_insert_with(|| Left {
            look_ns: now_ns + (rank as u64 * PATIENCE_NS).min(PATIENCE_NS_MAX),
            until_ns: now_ns + SLEEP_PATIENCE_NS,
            to: first,
            pulse: self.sharers[first].pulse(),
        });
        if now_ns < left.look_ns {
            return Err(left.look_ns);
        }
        let sleeps = is_asleep(left.pulse) && self.sharers[left.to].pulse() == left.pulse;
        if sleeps && now_ns < left.until_ns {
            left.look_ns = now_ns + PATIENCE_NS;
            return Err(left.look_ns);
        }
        Ok(())
    }

    /// A connection was accepted, and more may wait. Wakes the shard whose turn it is then.
    pub(super) fn accepted(&mut self) {
        if let Some(left) = self.left.take()
            && self.sharers[left.to].pulse() == left.pulse
        {
            self.held[left.to] = Some(left.pulse);
        }
        let (first, _) = self.standing();
        if first != self.me {
            self.sharers[first].mailbox.poke();
        }
    }

    /// There was nothing to accept: another shard was faster, or the peer has given up.
    pub(super) fn found_none(&mut self) {
        self.left = None;
    }

    /// The shard with the least to do among those that show signs of life, and how many of them have
    /// less to do than this one.
    fn standing(&self) -> (usize, usize) {
        let my_load = (self.sharers[self.me].load(), self.me);
        let mut first = (my_load, self.me);
        let mut rank = 0;
        for (id, sharer) in self.sharers.iter().enumerate() {
            let is_held = self.held[id].is_some_and(|pulse| pulse == sharer.pulse());
            if id == self.me || is_held {
                continue;
            }
            let load = (sharer.load(), id);
            rank += usize::from(load < my_load);
            first = first.min((load, id));
        }
        (first.1, rank)
    }
}

/// Whether a shard with this pulse sleeps, and is in no turn.
fn is_asleep(pulse: u64) -> bool {
    pulse.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards that are in a turn.
    fn sharers(count: usize) -> Arc<[Sharer]> {
        (0..count)
            .map(|_| {
                let mailbox = Mailbox::new(true).expect("a descriptor");
                let sharer = Sharer::new(&Arc::default(), &mailbox);
                sharer.counters.pulse.set(1);
                sharer
            })
            .collect()
    }

    fn accept(sharers: &[Sharer], id: usize) {
        sharers[id].counters.connections.add(1);
        sharers[id].counters.accepted.add(1);
        live(sharers, id);
    }

    fn live(sharers: &[Sharer], id: usize) {
        sharers[id].counters.pulse.add(2);
    }

    #[test]
    fn connections_go_to_each_in_turn() {
        let sharers = sharers(3);
        let mut all: Vec<_> = (0..3)
            .map(|me| Sharing::new(Arc::clone(&sharers), me))
            .collect();
        let mut taken = Vec::new();
        for now_ns in 0..9 {
            let takers: Vec<_> = (0..3)
                .filter(|id| all[*id].may_accept(now_ns).is_ok())
                .collect();
            assert_eq!(takers.len(), 1, "one shard alone");
            accept(&sharers, takers[0]);
            all[takers[0]].accepted();
            all.iter_mut().for_each(Sharing::found_none);
            taken.extend(takers);
        }
        assert_eq!(taken, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn those_that_come_and_go_are_spread_too() {
        let sharers = sharers(2);
        accept(&sharers, 0);
        sharers[0].counters.connections.set(0);
        let mut other = Sharing::new(Arc::clone(&sharers), 1);
        assert_eq!(other.may_accept(0), Ok(()));
    }

    #[test]
    fn a_shard_that_is_held_is_waited_for_once() {
        let sharers = sharers(2);
        let mut free = Sharing::new(Arc::clone(&sharers), 1);
        assert_eq!(free.may_accept(0), Err(PATIENCE_NS));
        assert_eq!(free.may_accept(PATIENCE_NS - 1), Err(PATIENCE_NS));
        assert_eq!(free.may_accept(PATIENCE_NS), Ok(()));
        accept(&sharers, 1);
        free.accepted();
        // From now on it is not waited for, until it lives.
        assert_eq!(free.may_accept(PATIENCE_NS), Ok(()));
        accept(&sharers, 1);
        free.accepted();
        live(&sharers, 0);
        let until_ns = 2 * PATIENCE_NS;
        assert_eq!(free.may_accept(PATIENCE_NS), Err(until_ns));
    }

    #[test]
    fn a_shard_that_is_slow_but_lives_keeps_its_turn() {
        let sharers = sharers(2);
        let mut other = Sharing::new(Arc::clone(&sharers), 1);
        assert_eq!(other.may_accept(0), Err(PATIENCE_NS));
        live(&sharers, 0);
        assert_eq!(other.may_accept(PATIENCE_NS), Ok(()));
        accept(&sharers, 1);
        other.accepted();
        let until_ns = 2 * PATIENCE_NS;
        assert_eq!(other.may_accept(PATIENCE_NS), Err(until_ns));
    }

    #[test]
    fn a_shard_that_sleeps_is_waited_for_longer() {
        let sharers = sharers(2);
        sharers[0].counters.pulse.set(2);
        let mut other = Sharing::new(Arc::clone(&sharers), 1);
        let mut now_ns = 0;
        while let Err(look_ns) = other.may_accept(now_ns) {
            assert_eq!(look_ns, now_ns + PATIENCE_NS);
            now_ns = look_ns;
        }
        assert_eq!(now_ns, SLEEP_PATIENCE_NS);
        // It has woken up, and is held in that turn.
        other.found_none();
        assert_eq!(other.may_accept(0), Err(PATIENCE_NS));
        sharers[0].counters.pulse.set(3);
        assert_eq!(other.may_accept(PATIENCE_NS), Ok(()));
    }

    #[test]
    fn the_more_a_shard_has_to_do_the_longer_it_waits() {
        let sharers = sharers(20);
        for (id, _) in sharers.iter().enumerate() {
            (0..id).for_each(|_| accept(&sharers, id));
        }
        for (me, _) in sharers.iter().enumerate().skip(1) {
            let wait = Sharing::new(Arc::clone(&sharers), me).may_accept(0);
            assert_eq!(wait, Err((me as u64 * PATIENCE_NS).min(PATIENCE_NS_MAX)));
        }
    }
}
