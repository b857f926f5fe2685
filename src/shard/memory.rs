//! What peers can make a shard hold: bodies that arrive, requests, answers that wait to be read, and
//! calls that wait. All of it stands in one account, of which each connection has a part.
//!
//! The rule of the *commons* is that of buffers in switches: a connection may hold as much as is
//! free. So one that takes all it can get has half, three have a quarter each, and whoever comes next
//! finds as much as each of them has. A little is every connection's own, whatever the others hold.
//!
//! That alone could leave many bodies lying half arrived, each waiting for the others. So there is a
//! *reserve*, out of which a body that waits is granted all that it needs, one after another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::conn::Conn;
use super::{ShardConfig, ShardCore};
use crate::buf::Account;
use crate::connection::flow::Pause;
use crate::connection::lifecycle::Stage;

/// What a connection may hold whatever the others do: a small request that arrives in two parts, or a
/// call that waits.
const OWN_BYTES: usize = 4 << 10;
/// What it may hold as long as the commons are not overdrawn by more than a quarter, or by this much.
const SMALL_BYTES: usize = 32 << 10;
const OVERDRAFT_BYTES_MIN: usize = 32 << 20;
/// Output up to this much is not entered in the account, so that ordinary calls need not be.
pub(super) const OUTPUT_FREE_BYTES: usize = 4 << 10;
/// What a call that waits takes: its future, waker, timer and entries, measured at 1.1 to 1.5 KiB.
pub(super) const SUSPENDED_CALL_BYTES: usize = 2 << 10;
/// Connections that are looked at in one turn when there is room again.
const OFFERS_PER_TURN: usize = 64;
/// When less than this was given back, as each small call does while memory is short, those that wait are
/// looked at only after so many turns.
const LITTLE_BYTES: usize = 16 << 10;
const TURNS_UNTIL_LOOK: u32 = 16;
/// What a connection takes in the tables of shard and engine, measured at 2 KiB.
const CONNECTION_BYTES: usize = 4 << 10;

/// The accounts of a shard.
#[derive(Debug)]
pub(crate) struct Memory {
    commons: Rc<Account>,
    commons_max: usize,
    reserve: Rc<Account>,
    reserve_max: usize,
    /// Connections that are not read from until there is room.
    waiting: RefCell<VecDeque<Rc<Conn>>>,
    /// How many of them have to be looked at, since there may be room.
    to_look_at: Cell<usize>,
    /// What was held when all of them were looked at last.
    looked_at_bytes: Cell<usize>,
    /// Turns since something was given back for which they were not looked at.
    turns_unlooked: Cell<u32>,
}

impl Memory {
    pub(super) fn new(config: &ShardConfig) -> Self {
        Self {
            commons: Rc::default(),
            commons_max: config.commons_bytes(),
            reserve: Rc::default(),
            reserve_max: config.reserve_bytes(),
            waiting: RefCell::default(),
            to_look_at: Cell::new(0),
            looked_at_bytes: Cell::new(0),
            turns_unlooked: Cell::new(0),
        }
    }

    /// The account of a new connection.
    pub(super) fn account(&self) -> Rc<Account> {
        Account::below(&self.commons)
    }

    /// All that the shard holds for peers.
    pub(super) fn bytes(&self) -> usize {
        self.commons.bytes() + self.reserve.bytes()
    }

    /// What stands in the accounts of connections.
    #[cfg(feature = "simulation")]
    pub(super) fn commons_bytes(&self) -> usize {
        self.commons.bytes()
    }

    fn was_released(&self) -> bool {
        self.commons.was_released() || self.reserve.was_released()
    }

    /// Whether enough was given back to look at all that wait. Asked once in each turn.
    fn is_release_due(&self) -> bool {
        if !self.was_released() {
            return false;
        }
        let turns = self.turns_unlooked.get() + 1;
        self.turns_unlooked.set(turns);
        turns >= TURNS_UNTIL_LOOK || self.bytes() + LITTLE_BYTES <= self.looked_at_bytes.get()
    }

    /// Takes note of what was given back.
    fn note_look(&self) {
        self.commons.forget_release();
        self.reserve.forget_release();
        self.looked_at_bytes.set(self.bytes());
        self.turns_unlooked.set(0);
        self.to_look_at.set(self.waiting.borrow().len());
    }

    /// Whether so much is held that each call must be looked at before it starts.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.commons.bytes() > self.commons_max / 2
    }

    /// Whether there is nothing left but what is every connection's own.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.commons.bytes() >= self.commons_max
    }

    /// The shard ends.
    pub(super) fn forget_waiting(&self) {
        drop(self.waiting.take());
    }

    /// How much a connection may hold in all.
    fn allowance(&self) -> usize {
        let held = self.commons.bytes();
        let own = if held <= self.commons_max + overdraft_bytes(self.commons_max) {
            SMALL_BYTES
        } else {
            OWN_BYTES
        };
        own.max(self.commons_max.saturating_sub(held))
    }

    /// Whether a connection may hold so many bytes more.
    pub(super) fn has_room(&self, account: &Account, more: usize) -> bool {
        account.bytes() + more <= self.allowance()
    }

    /// Takes so many bytes out of the reserve for one body, if it has them.
    fn grant(&self, bytes: usize) -> bool {
        let is_granted = self.reserve.bytes() + bytes <= self.reserve_max;
        if is_granted {
            self.reserve.add(bytes);
        }
        is_granted
    }
}

/// How far the commons may be overdrawn by what is small.
fn overdraft_bytes(commons_bytes: usize) -> usize {
    (commons_bytes / 4).max(OVERDRAFT_BYTES_MIN)
}

impl ShardConfig {
    /// What connections share by the rule of the commons.
    fn commons_bytes(&self) -> usize {
        self.memory_bytes / 2
    }

    /// What bodies that wait are granted: at least one of the largest.
    fn reserve_bytes(&self) -> usize {
        (self.memory_bytes / 2).max(self.largest_message_bytes())
    }

    fn largest_message_bytes(&self) -> usize {
        crate::wire::limits::padded(self.limits.payload_bytes_max as usize)
    }

    /// The most that peers can make a shard hold, in bytes, whatever they do: its share of memory, three
    /// messages beyond it (an answer whose length nobody knew, one with an overdraft, and what the
    /// granularity of bodies costs), what is every connection's own, its receive buffers, and what it keeps to use again.
    pub(crate) fn memory_ceiling_bytes(&self) -> usize {
        let own = CONNECTION_BYTES
            + OUTPUT_FREE_BYTES
            + OWN_BYTES
            + crate::wire::framer::WHOLE_BODY_BYTES_MAX;
        let commons = self.commons_bytes();
        let shared = commons + overdraft_bytes(commons) + self.reserve_bytes();
        let kept = crate::buf::AlignedBuf::CACHED_BYTES_MAX
            + crate::connection::spare_buffers::SPARE_BYTES_MAX;
        let buffers = usize::from(self.recv_buffers) * self.recv_buffer_bytes;
        shared
            + 3 * self.largest_message_bytes()
            + self.connections_max.saturating_mul(own)
            + buffers
            + kept
    }
}

/// The bodies that arrive.
impl ShardCore {
    /// Bytes of memory that the body which arrives on a connection may have.
    pub(super) fn body_room(&self, conn: &Conn) -> usize {
        // What a server answers was asked for, and who waits for it may hold much more.
        if !conn.is_server() || conn.budget.is_granted.get() {
            return usize::MAX;
        }
        // Nothing was granted, so the body stands in the connection's own account.
        let others = conn.budget.account.bytes() - conn.budget.arriving_bytes.get();
        if others >= self.config.limits.request_bytes_in_flight_max {
            return 0;
        }
        self.memory.allowance().saturating_sub(others)
    }

    /// Enters what the body that is arriving takes by now.
    pub(super) fn settle_arriving(&self, conn: &Conn) {
        let arriving = conn.link(|link| link.arriving());
        let (account, bytes) = match arriving {
            Some((whole, _)) if conn.budget.is_granted.get() => (&self.memory.reserve, whole),
            Some((_, memory)) => (&conn.budget.account, memory),
            None if conn.budget.is_granted.get() => (&self.memory.reserve, 0),
            None => (&conn.budget.account, 0),
        };
        account.change(conn.budget.arriving_bytes.replace(bytes), bytes);
    }

    /// The account of a body that has just arrived whole. What was granted for it stays so until it is
    /// dropped.
    pub(super) fn account_of_body<'a>(&'a self, conn: &'a Conn) -> &'a Rc<Account> {
        if conn.budget.is_granted.take() {
            &self.memory.reserve
        } else {
            &conn.budget.account
        }
    }

    /// Grants the lightest of those that wait with a request's body all the memory that it needs, if there is
    /// as much in reserve. Left out are those that hold as much as a connection may in other ways, and those
    /// whose output waits: nothing is read of these, so no time would end the grant.
    fn grant_one(&self, waiting: &VecDeque<Rc<Conn>>) -> bool {
        let may_be_granted = |conn: &&Rc<Conn>| {
            conn.stage() == Stage::Open
                && self.lacks_room_for_body(conn)
                && conn.output().len() < self.config.limits.write_queue_bytes_high
                && conn.link(|link| link.is_request_arriving())
                && conn.budget.account.bytes() - conn.budget.arriving_bytes.get()
                    < self.config.limits.request_bytes_in_flight_max
        };
        let lightest = waiting
            .iter()
            .filter(may_be_granted)
            .min_by_key(|conn| conn.budget.account.bytes());
        let Some(conn) = lightest else {
            return false;
        };
        let (whole, _) = conn
            .link(|link| link.arriving())
            .expect("it waits for room");
        if !self.memory.grant(whole) {
            return false;
        }
        conn.budget
            .account
            .change(conn.budget.arriving_bytes.replace(whole), 0);
        conn.budget.is_granted.set(true);
        self.note_body_granted();
        conn.attend();
        true
    }
}

/// Those that wait.
impl ShardCore {
    /// Remembers a connection that must wait until there is room.
    pub(super) fn wait_for_room(&self, conn: &Rc<Conn>) {
        let memory = &self.memory;
        if !conn.budget.waits_for_room.replace(true) {
            memory.waiting.borrow_mut().push_front(Rc::clone(conn));
            // It may be granted what it needs.
            memory.to_look_at.update(|count| count + 1);
        } else if conn.pause() != Some(Pause::Memory) {
            // It has gone on for another reason, and stands somewhere in the list.
            memory.to_look_at.set(memory.waiting.borrow().len());
        }
    }

    /// Goes on with connections that wait for room, when some has been given back.
    #[inline]
    pub(super) fn offer_room(&self) {
        if !self.is_offering_room() {
            return;
        }
        if self.memory.is_release_due() {
            self.memory.note_look();
        }
        if self.memory.to_look_at.get() > 0 {
            self.look_at_waiting();
        }
    }

    /// Whether there is work for [`ShardCore::offer_room`].
    #[inline]
    pub(super) fn is_offering_room(&self) -> bool {
        let memory = &self.memory;
        (memory.to_look_at.get() > 0 || memory.was_released())
            && !memory.waiting.borrow().is_empty()
    }

    #[inline(never)]
    fn look_at_waiting(&self) {
        let memory = &self.memory;
        let mut waiting = memory.waiting.borrow_mut();
        let count = memory.to_look_at.get().min(waiting.len());
        for _ in 0..count.min(OFFERS_PER_TURN) {
            let Some(conn) = waiting.pop_front() else {
                break;
            };
            if conn.stage() == Stage::Open && self.must_wait_for_room(&conn) {
                waiting.push_back(conn);
            } else {
                conn.budget.waits_for_room.set(false);
                conn.attend();
            }
        }
        // The others have their turn in the next one.
        memory.to_look_at.set(count.saturating_sub(OFFERS_PER_TURN));
        while self.grant_one(&waiting) {}
    }
}

/// Calls and their answers.
impl ShardCore {
    /// Whether a call may start whose answer is likely to have so many bytes. `waiting_bytes` of what the
    /// connection holds are its own requests, which wait.
    pub(super) fn has_room_for_answer(
        &self,
        conn: &Conn,
        waiting_bytes: usize,
        expected_bytes: usize,
    ) -> bool {
        let others = conn.budget.account.bytes() - waiting_bytes;
        // However long: with nothing else held it starts.
        let expected_bytes = expected_bytes.min(self.memory.commons_max / 2);
        others + expected_bytes <= self.memory.allowance()
    }

    /// Enters the memory of the output that waits for a connection's peer. Returns how many bytes wait.
    #[inline]
    pub(super) fn settle_output(&self, conn: &Conn) -> usize {
        let (queued, memory) = {
            let queue = conn.output();
            (queue.len(), queue.memory_bytes())
        };
        if memory > OUTPUT_FREE_BYTES || conn.budget.output_bytes.get() > 0 {
            self.enter_output(conn, memory);
        }
        queued
    }

    #[inline(never)]
    fn enter_output(&self, conn: &Conn, mut memory: usize) {
        if conn.output().is_empty() {
            // Its buffer is empty too, however large.
            self.release_idle_buffer(conn);
            memory = 0;
        }
        // What a client sends it has made itself.
        let bytes = if conn.is_server() && memory > OUTPUT_FREE_BYTES {
            memory
        } else {
            0
        };
        conn.budget
            .account
            .change(conn.budget.output_bytes.replace(bytes), bytes);
        if self.must_answer_briefly(conn) {
            conn.answer_briefly();
        }
    }

    /// Whether a connection gets short answers only: more would go beyond what may be held for it.
    pub(super) fn must_answer_briefly(&self, conn: &Conn) -> bool {
        self.memory.is_full() || self.has_all_output(conn)
    }

    /// Whether as much output waits for a peer as may for any.
    fn has_all_output(&self, conn: &Conn) -> bool {
        conn.output().len() >= self.config.limits.write_queue_bytes_max
    }

    /// Whether an answer of so many bytes may stay behind the output that was queued before it.
    pub(super) fn has_room_for_more_output(
        &self,
        conn: &Conn,
        queued_bytes: usize,
        bytes: usize,
    ) -> bool {
        queued_bytes < self.config.limits.write_queue_bytes_max
            && self.memory.has_room(&conn.budget.account, bytes)
    }

    /// Enters a call that waits, and says whether another one of its connection may.
    pub(super) fn enter_suspended(&self, conn: &Conn, bytes: usize) -> bool {
        conn.budget.account.add(bytes);
        self.memory
            .has_room(&conn.budget.account, SUSPENDED_CALL_BYTES)
    }

    /// Gives back what a connection holds no longer which has ended. The engine may still have a body.
    pub(super) fn release_memory(&self, conn: &Conn) {
        self.settle_arriving(conn);
        self.settle_output(conn);
    }

    /// Gives back all that a connection held which is closed, but for requests in handlers.
    pub(super) fn forget_memory(&self, conn: &Conn) {
        let account = if conn.budget.is_granted.take() {
            &self.memory.reserve
        } else {
            &conn.budget.account
        };
        account.change(conn.budget.arriving_bytes.take(), 0);
        conn.budget
            .account
            .change(conn.budget.output_bytes.take(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{AlignedBuf, Chunk};

    const MIB: usize = 1 << 20;

    fn memory() -> Memory {
        Memory {
            commons: Rc::default(),
            commons_max: 64 * MIB,
            reserve: Rc::default(),
            reserve_max: 16 * MIB,
            waiting: RefCell::default(),
            to_look_at: Cell::new(0),
            looked_at_bytes: Cell::new(0),
            turns_unlooked: Cell::new(0),
        }
    }

    /// Takes in steps all that a connection can get.
    fn take_all(memory: &Memory, account: &Account) -> usize {
        while memory.has_room(account, 64 << 10) {
            account.add(64 << 10);
        }
        account.bytes()
    }

    #[test]
    fn whoever_comes_next_finds_as_much_as_each_of_the_others_has() {
        for greedy in 1..9 {
            let memory = memory();
            let accounts: Vec<_> = (0..greedy).map(|_| memory.account()).collect();
            // They take turns, as connections do.
            while accounts
                .iter()
                .any(|account| memory.has_room(account, 4096))
            {
                for account in &accounts {
                    if memory.has_room(account, 4096) {
                        account.add(4096);
                    }
                }
            }
            let next = memory.account();
            let (each, free) = (accounts[0].bytes(), 64 * MIB - memory.bytes());
            assert!(
                memory.has_room(&next, each - 4096),
                "{greedy}: {each}, {free}"
            );
            assert!(
                each.abs_diff(64 * MIB / (greedy + 1)) < 64 << 10,
                "{greedy}: {each}"
            );
        }
    }

    #[test]
    fn a_little_is_every_connections_own() {
        let memory = memory();
        let greedy: Vec<_> = (0..200).map(|_| memory.account()).collect();
        for account in &greedy {
            take_all(&memory, account);
        }
        let held = Chunk::on_account(AlignedBuf::with_len(10 * MIB), &greedy[0]);
        assert!(memory.is_full());
        let small = memory.account();
        assert!(memory.has_room(&small, SMALL_BYTES) && !memory.has_room(&small, SMALL_BYTES + 1));
        let more = Chunk::on_account(AlignedBuf::with_len(40 * MIB), &greedy[1]);
        assert!(memory.has_room(&small, OWN_BYTES) && !memory.has_room(&small, OWN_BYTES + 1));
        drop((held, more));
        assert!(memory.commons.was_released());
    }

    #[test]
    fn the_reserve_is_granted_as_far_as_it_reaches() {
        let memory = memory();
        assert!(memory.grant(10 * MIB) && !memory.grant(7 * MIB) && memory.grant(6 * MIB));
    }
}
