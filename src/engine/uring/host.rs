//! Where the engine runs: a task on the shard's glommio executor. Beside this file only `executor`, which
//! makes it, and `leftover`, which tidies up after it, know glommio.
#![allow(
    unsafe_code,
    reason = "glommio's file takes over a descriptor, which must be ours to give"
)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use glommio::io::BufferedFile;

use super::Engine;
use super::executor::make_executor;
use super::kernel::Kernel;
use super::leftover::Leftover;
use super::ring::Ring;
use crate::engine::{EngineConfig, Idle, Listener, ShardStart};
use crate::shard::ShardCore;

/// The executor's own tasks get a turn this often although ours never ends. Each of its passes
/// costs tens of microseconds, so it is long.
const YIELD_EVERY_NS: u64 = 10_000_000;
/// While handlers wait for something of the executor's, such as a file, a shard that never sleeps
/// lets it look this often.
const LOOK_AFTER_EXECUTOR_NS: u64 = 50_000;

/// Runs a shard on the calling thread until it has drained.
///
/// # Errors
/// When the executor can't be made, or the ring fails later.
pub(crate) fn run(start: ShardStart) -> io::Result<()> {
    let executor = match make_executor() {
        Ok(executor) => executor,
        Err(why) => {
            start.fail(why);
            return Ok(());
        }
    };
    let exists = Rc::new(Cell::new(false));
    let pump_exists = Exists(Rc::clone(&exists));
    let ran = catch_unwind(AssertUnwindSafe(|| {
        executor.run(async move {
            let result = match start.start(begin) {
                Some(((engine, sleeper), config)) => {
                    pump_exists.0.set(true);
                    pump(engine, sleeper, config.idle).await
                }
                None => Ok(()),
            };
            (result, Leftover::of_this_executor().await)
        })
    }));
    match ran {
        Ok((result, leftover)) => {
            drop(executor);
            if let Some(leftover) = leftover {
                leftover.put_in_order(&mut fastrand::Rng::new());
            }
            result
        }
        Err(panic) if !exists.get() => resume_unwind(panic),
        Err(_) => {
            // The executor's own rings have failed (it panics when one has lost a completion, for
            // one), and the shard is stuck in it with its sockets: its peers would wait for ever.
            tracing::error!("the shard's executor has failed: aborting");
            std::process::abort();
        }
    }
}

/// Whether the shard's task exists: set when it starts, and no longer when it is dropped.
struct Exists(Rc<Cell<bool>>);

impl Drop for Exists {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Makes all that the shard will ever need. Its first turn starts to accept, which can fail as well.
fn begin(
    shard: Rc<ShardCore>,
    config: &EngineConfig,
    listeners: Vec<Listener>,
) -> io::Result<(Engine<Ring>, Sleeper)> {
    let mut engine = Engine::new(shard, config, listeners)?;
    let sleeper = Sleeper::new(engine.shard.mailbox.eventfd())?;
    engine.turn()?;
    engine.shard.end_turn();
    Ok((engine, sleeper))
}

/// The life of a shard.
async fn pump(mut engine: Engine<Ring>, sleeper: Sleeper, idle: Idle) -> io::Result<()> {
    let spin_ns = idle.spin_ns();
    let (mut busy_ns, mut yielded_ns) = (0, 0);
    while !engine.has_ended() {
        let was_busy = engine.turn()?;
        let now_ns = engine.shard.now_ns();
        if was_busy || !engine.is_idle() {
            busy_ns = now_ns;
        } else if now_ns - busy_ns >= spin_ns {
            let until_yield_ns = (yielded_ns + YIELD_EVERY_NS).saturating_sub(now_ns);
            if until_yield_ns > 0 && engine.shard.tasks.waiting() == 0 {
                // Calls follow each other closely: waking by way of the executor would cost each of
                // them as much as all else.
                engine.nap(until_yield_ns)?;
            } else {
                sleeper.sleep(&mut engine).await?;
                yielded_ns = engine.shard.clock.now_ns();
            }
            continue;
        } else if engine.shard.tasks.waiting() > 0 && now_ns - busy_ns > LOOK_AFTER_EXECUTOR_NS {
            glommio::executor().yield_task_queue_now().await;
            continue;
        } else {
            engine.watch_for(LOOKS_PER_TURN);
        }
        if now_ns - yielded_ns >= YIELD_EVERY_NS {
            yielded_ns = now_ns;
            glommio::executor().yield_task_queue_now().await;
        }
    }
    engine.shard.finish();
    sleeper.close().await;
    Ok(())
}

/// Looks for work between two idle turns. A look costs a few loads, a turn reads the clock and asks
/// the timers too.
const LOOKS_PER_TURN: u32 = 16;

/// Sleeps until the eventfd is written: by our ring for a completion, or by another thread.
struct Sleeper {
    eventfd: BufferedFile,
}

impl Sleeper {
    fn new(eventfd: impl AsFd) -> io::Result<Self> {
        let owned = rustix::io::fcntl_dupfd_cloexec(eventfd, 0)?;
        // SAFETY: the descriptor is a fresh duplicate, and is given away whole.
        let eventfd = unsafe { BufferedFile::from_raw_fd(owned.into_raw_fd()) };
        Ok(Self { eventfd })
    }

    /// Gives the CPU to the executor until there may be work. First everybody is told to write to
    /// the eventfd, then it is looked once more: whoever came before is seen, whoever comes later
    /// writes.
    async fn sleep(&self, engine: &mut Engine<Ring>) -> io::Result<()> {
        engine.shard.end_turn();
        engine.arm_timeout()?;
        engine.ring.enter()?;
        engine.ring.wake_by_eventfd(true);
        engine.shard.mailbox.announce_park();
        if engine.is_idle() {
            self.eventfd
                .read_at(0, size_of::<u64>())
                .await
                .map_err(|error| io::Error::other(format!("waiting for work failed: {error}")))?;
        }
        engine.shard.mailbox.unpark();
        engine.ring.wake_by_eventfd(false);
        Ok(())
    }

    async fn close(self) {
        if let Err(error) = self.eventfd.close().await {
            tracing::debug!(%error, "eventfd not closed");
        }
    }
}
