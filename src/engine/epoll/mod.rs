//! The fallback engine: the same shard, which asks epoll what is ready and makes each call itself.
//!
//! A turn: learn what is ready; read each socket, let the shard act, and send; then all that follows.

mod accept;
mod host;
mod readiness;
mod sockets;
mod transfer;

use std::io;
use std::rc::Rc;

use self::accept::Listeners;
use self::readiness::{Readiness, Ready};
use self::sockets::Sockets;
use super::{EngineConfig, Listener};
use crate::shard::ShardCore;

pub(super) use self::host::run;

/// Rounds in which all sockets are read before timers are acted on; a peer that never stops sending does
/// not keep them from it.
const READ_ALL_ROUNDS_MAX: usize = 64;

/// Everything of one shard that belongs to this engine.
struct Engine {
    shard: Rc<ShardCore>,
    readiness: Readiness,
    sockets: Sockets,
    listeners: Listeners,
}

impl Engine {
    fn new(
        shard: Rc<ShardCore>,
        config: &EngineConfig,
        listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        let readiness = Readiness::new()?;
        readiness.add_wakeup(shard.mailbox.eventfd())?;
        Ok(Self {
            sockets: Sockets::new(config.stream.clone()),
            listeners: Listeners::new(listeners, shard.place.id),
            readiness,
            shard,
        })
    }

    /// One turn, which waits up to so many nanoseconds for something to do. Says whether something
    /// happened.
    fn turn(&mut self, wait_ns: u64) -> io::Result<bool> {
        if wait_ns == 0 {
            self.readiness.wait(0)?;
        } else {
            self.nap(wait_ns)?;
        }
        self.shard.begin_turn();
        let events = self.act_on_events()?;
        if self.shard.is_timer_due() {
            self.read_all()?;
        }
        self.shard.run_due();
        let connects = std::mem::take(&mut *self.shard.connects.borrow_mut());
        for (conn, target) in connects {
            self.sockets.connect(&self.readiness, &conn, &target);
        }
        self.sockets.attend_all(&self.readiness, &self.shard)?;
        self.sockets.feed_starved(&self.shard);
        self.listeners.arm(
            &self.readiness,
            &mut self.sockets,
            &self.shard,
            self.shard.mailbox.must_drain(),
        )?;
        Ok(events > 0)
    }

    /// Does what the kernel has told of, and says of how many descriptors it has.
    fn act_on_events(&mut self) -> io::Result<usize> {
        let events = self.readiness.count();
        for at in 0..events {
            let (ready, flags) = self.readiness.event(at);
            match ready {
                // What was woken is found later.
                Ready::Wakeup => (),
                Ready::Listener(index) => self.accept(index)?,
                Ready::Socket { slot, life } => {
                    self.sockets.ready(&self.readiness, slot, life, flags)?;
                }
            }
        }
        Ok(events)
    }

    /// Reads what lies in the sockets by now: what came in time counts, however late it is found.
    fn read_all(&mut self) -> io::Result<()> {
        for _ in 0..READ_ALL_ROUNDS_MAX {
            self.sockets.attend_all(&self.readiness, &self.shard)?;
            self.readiness.wait(0)?;
            if self.act_on_events()? == 0 && !self.shard.has_attention() {
                break;
            }
        }
        Ok(())
    }

    fn accept(&mut self, index: u32) -> io::Result<()> {
        let options = self.sockets.options();
        let accepted = self
            .listeners
            .ready(&self.readiness, &self.shard, options, index)?;
        if let Some((conn, fd)) = accepted {
            self.sockets.add(&self.readiness, &conn, fd, false);
        }
        Ok(())
    }

    /// Whether the shard has drained.
    fn has_ended(&self) -> bool {
        self.shard.is_drained()
    }

    /// Whether there is nothing to do until something is ready or a task is woken.
    fn is_idle(&self) -> bool {
        !self.has_ended() && !self.shard.has_work()
    }

    /// Waits until something is ready, another thread wakes the shard, a timer is due, or so much time
    /// has passed. As with every sleep, wakers are told before the last look for work.
    fn nap(&mut self, at_most_ns: u64) -> io::Result<()> {
        self.shard.end_turn();
        self.shard.mailbox.announce_park();
        let wait_ns = if self.is_idle() {
            self.rest(at_most_ns)
        } else {
            0
        };
        let waited = self.readiness.wait(wait_ns);
        self.shard.mailbox.unpark();
        waited
    }

    /// Nanoseconds for which the shard may sleep: until a timer is due, and no longer than that.
    fn rest(&self, at_most_ns: u64) -> u64 {
        let shard = self.shard.next_deadline_ns();
        let listeners = self.listeners.retry_ns();
        let due_ns = [shard, listeners].into_iter().flatten().min();
        self.shard.clock.rest(due_ns, at_most_ns)
    }
}
