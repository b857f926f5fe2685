//! The io_uring engine: one ring per shard, pumped by a task of the shard's glommio executor.
//!
//! A turn: take what has completed, act on it, start what follows from it, enter the kernel once.

mod accept;
mod buf_ring;
mod executor;
mod host;
pub(super) mod kernel;
mod leftover;
pub(super) mod operation;
mod ring;
mod sockets;

use std::io;
use std::rc::Rc;

use self::accept::Listeners;
use self::kernel::{Completion, Kernel};
use self::operation::{OpKey, Operation};
use self::ring::Ring;
use self::sockets::Sockets;
use super::{EngineConfig, Listener};
use crate::planted_bugs::{Bug, is_planted};
use crate::shard::ShardCore;

pub(super) use self::host::run;
pub(crate) use self::ring::locked_bytes;

/// Rounds in which all sockets are read before timers are acted on; a peer that never stops sending does
/// not keep them from it.
const READ_ALL_ROUNDS_MAX: usize = 64;

/// Everything of one shard that belongs to this engine.
pub(super) struct Engine<K: Kernel> {
    shard: Rc<ShardCore>,
    ring: K,
    sockets: Sockets<K>,
    listeners: Listeners<K>,
    /// The wake-up that was asked of the kernel, and when it comes.
    timeout: Option<(OpKey, u64)>,
}

impl Engine<Ring> {
    fn new(
        shard: Rc<ShardCore>,
        config: &EngineConfig,
        listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        let ring = Ring::new(Rc::clone(&shard.pool), &shard.mailbox)?;
        Ok(Self::of(shard, ring, config, listeners))
    }

    /// Sleeps in the ring until something completes, another thread wakes the shard, a timer is due, or
    /// so much time has passed. As with every sleep, wakers are told before the last look for work.
    fn nap(&mut self, at_most_ns: u64) -> io::Result<()> {
        self.shard.end_turn();
        self.ring.await_wakeup()?;
        self.shard.mailbox.announce_nap();
        if !self.ring.has_completions() && !self.shard.has_work() {
            let rest_ns = self.rest(at_most_ns);
            self.ring.wait(rest_ns)?;
        }
        self.shard.mailbox.unpark();
        Ok(())
    }
}

impl<K: Kernel> Engine<K> {
    /// On any system.
    pub(super) fn of(
        shard: Rc<ShardCore>,
        ring: K,
        config: &EngineConfig,
        listeners: Vec<Listener<K::Socket>>,
    ) -> Self {
        Self {
            sockets: Sockets::new(config.stream.clone()),
            listeners: Listeners::new(listeners, shard.place.id),
            ring,
            shard,
            timeout: None,
        }
    }

    /// What drives the simulation's nodes.
    #[cfg(feature = "simulation")]
    pub(super) fn shard(&self) -> &Rc<ShardCore> {
        &self.shard
    }

    #[cfg(feature = "simulation")]
    pub(super) fn kernel(&self) -> &K {
        &self.ring
    }

    #[cfg(feature = "simulation")]
    pub(super) fn kernel_mut(&mut self) -> &mut K {
        &mut self.ring
    }

    #[cfg(feature = "simulation")]
    pub(super) fn kernel_enter(&mut self) -> io::Result<()> {
        self.ring.enter()
    }

    /// One turn. Says whether something happened.
    #[inline]
    pub(super) fn turn(&mut self) -> io::Result<bool> {
        self.shard.begin_turn();
        let completions = self.act_on_completions()?;
        if self.shard.is_timer_due() && !is_planted(Bug::TimerBeforeBytes) {
            self.read_all()?;
        }
        self.shard.run_due();
        // Before they are attended to: one that was given up meanwhile has a socket to close then.
        self.connect_clients()?;
        if self.sockets.has_starved() {
            // Before those that have had their bytes in this turn: who asks first gets the buffers.
            self.ring.publish_buffers(self.shard.is_short_of_memory());
            self.sockets.feed_starved(&mut self.ring)?;
        }
        while let Some(conn) = self.shard.pop_attention() {
            self.sockets.attend(&mut self.ring, &conn)?;
        }
        self.ring.publish_buffers(self.shard.is_short_of_memory());
        self.sockets.feed_starved(&mut self.ring)?;
        self.listeners.arm(
            &mut self.ring,
            &mut self.sockets,
            &self.shard,
            self.shard.mailbox.must_drain(),
        )?;
        let has_pending = self.ring.has_pending();
        if has_pending || !self.ring.announces_work() {
            self.ring.enter()?;
        }
        Ok(completions > 0 || has_pending)
    }

    /// Acts on all that has completed, and says how much that was.
    #[inline(always)]
    fn act_on_completions(&mut self) -> io::Result<usize> {
        self.ring.fetch();
        let completions = self.ring.fetched();
        for at in 0..completions {
            let completion = self.ring.completion(at);
            if is_planted(Bug::CompletionDropped) && at == 5 {
                continue;
            }
            self.complete(completion)?;
        }
        self.ring.drop_handled(completions);
        Ok(completions)
    }

    /// Reads what lies in the sockets by now: what came in time counts, however late it is found.
    fn read_all(&mut self) -> io::Result<()> {
        for _ in 0..READ_ALL_ROUNDS_MAX {
            while let Some(conn) = self.shard.pop_attention() {
                self.sockets.attend(&mut self.ring, &conn)?;
            }
            self.ring.publish_buffers(self.shard.is_short_of_memory());
            self.sockets.feed_starved(&mut self.ring)?;
            self.ring.enter()?;
            if self.act_on_completions()? == 0 && !self.ring.has_pending() {
                break;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn complete(&mut self, completion: Completion) -> io::Result<()> {
        let Completion {
            operation,
            result,
            buffer,
            is_last,
        } = completion;
        match operation {
            Operation::Receive { socket, .. } => {
                self.sockets
                    .received(&mut self.ring, socket, result, buffer, is_last);
                Ok(())
            }
            Operation::Send {
                socket,
                message,
                vectors,
            } => {
                self.ring.put_vectors(vectors);
                self.sockets.sent(&mut self.ring, socket, message, result)
            }
            Operation::ReceiveDirect { socket, body } => {
                self.sockets.received_direct(socket, body, result);
                Ok(())
            }
            Operation::Watch { socket } => {
                self.sockets.watched(&self.ring, socket, result);
                Ok(())
            }
            Operation::Accept { listener } => {
                let options = self.sockets.options();
                let accepted = self.listeners.accepted(
                    &mut self.ring,
                    &self.shard,
                    options,
                    listener,
                    result,
                    is_last,
                );
                if let Some((conn, socket)) = accepted {
                    self.sockets.add(&conn, socket);
                }
                Ok(())
            }
            Operation::Poll { listener } => {
                self.listeners.told(listener, result, is_last);
                Ok(())
            }
            Operation::Connect { socket, .. } => {
                self.sockets.connected(&self.ring, socket, result);
                Ok(())
            }
            Operation::Timeout { time, due_ns } => {
                self.ring.put_time(time);
                // One that was cancelled for an earlier one is no longer the one that is awaited.
                self.timeout = self.timeout.filter(|(_, awaited_ns)| *awaited_ns != due_ns);
                Ok(())
            }
            Operation::Wakeup { .. } => {
                self.ring.was_woken();
                Ok(())
            }
            Operation::Cancel => Ok(()),
        }
    }

    fn connect_clients(&mut self) -> io::Result<()> {
        if self.shard.connects.borrow().is_empty() {
            return Ok(());
        }
        let connects = std::mem::take(&mut *self.shard.connects.borrow_mut());
        for (conn, target) in connects {
            self.sockets.connect(&mut self.ring, &conn, &target)?;
        }
        Ok(())
    }

    /// Whether the shard has drained.
    pub(super) fn has_ended(&self) -> bool {
        self.shard.is_drained()
    }

    /// Whether there is nothing to do until something completes or a task is woken.
    #[inline]
    pub(super) fn is_idle(&mut self) -> bool {
        !self.has_ended()
            && !self.ring.has_completions()
            && !self.ring.has_pending()
            && !self.shard.has_work()
    }

    /// Spins until there may be something to do, for so many looks at most.
    fn watch_for(&mut self, looks: u32) {
        for _ in 0..looks {
            if !self.ring.announces_work() || !self.is_idle() {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// Nanoseconds for which the shard may sleep: until a timer is due, and no longer than that.
    fn rest(&self, at_most_ns: u64) -> u64 {
        let shard = self.shard.next_deadline_ns();
        let listeners = self.listeners.retry_ns();
        let due_ns = [shard, listeners].into_iter().flatten().min();
        self.shard.clock.rest(due_ns, at_most_ns)
    }

    /// Asks the kernel for a wake-up at the next timer, before the shard sleeps.
    pub(super) fn arm_timeout(&mut self) -> io::Result<()> {
        let after_ns = self.rest(u64::MAX);
        if after_ns == u64::MAX {
            return Ok(());
        }
        let due_ns = self.shard.now_ns() + after_ns;
        if let Some((key, armed_ns)) = self.timeout {
            // An earlier wake-up that is under way is enough: the shard looks again then.
            if armed_ns <= due_ns {
                return Ok(());
            }
            self.ring.cancel(key)?;
        }
        let key = self.ring.start_timeout(after_ns.max(1), due_ns)?;
        self.timeout = Some((key, due_ns));
        Ok(())
    }
}
