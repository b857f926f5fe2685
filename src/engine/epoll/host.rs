//! Where the engine runs: a future on a current-thread runtime of tokio's, which handlers may use too.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};

use super::Engine;
use super::watched::watch;
use crate::engine::{EngineConfig, Idle, Listener, ShardStart};
use crate::platform::refusal::{Refusal, Step};
use crate::shard::ShardCore;

/// The runtime gets a turn this often although ours never ends.
const YIELD_EVERY_NS: u64 = 10_000_000;
/// The same while handlers wait, perhaps for something of the runtime's, or have spawned tasks on it.
const SHARE_EVERY_NS: u64 = 50_000;
/// A sleeping shard looks at least this often, which costs nothing and bounds any mistake.
const SLEEP_MAX_NS: u64 = 1_000_000_000;

/// Runs a shard on the calling thread until it has drained.
///
/// # Errors
/// When epoll fails later.
pub(crate) fn run(start: ShardStart) -> io::Result<()> {
    let runtime = match Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let refusal = Refusal::from_io(Step::EpollRuntime, &error);
            start.fail(&refusal.to_string());
            return Ok(());
        }
    };
    runtime.block_on(async move {
        match start.start(begin) {
            Some(((engine, sleeper), config)) => pump(engine, sleeper, config.idle).await,
            None => Ok(()),
        }
    })
}

/// Makes all that the shard will ever need. Its first turn starts to accept, which can fail as well.
fn begin(
    shard: Rc<ShardCore>,
    config: &EngineConfig,
    listeners: Vec<Listener>,
) -> io::Result<(Engine, Sleeper)> {
    let mut engine = Engine::new(shard, config, listeners)?;
    let sleeper = Sleeper::new(&engine)?;
    engine.turn(0)?;
    engine.shard.end_turn();
    Ok((engine, sleeper))
}

/// The life of a shard.
async fn pump(mut engine: Engine, sleeper: Sleeper, idle: Idle) -> io::Result<()> {
    let runtime = Handle::current().metrics();
    let spin_ns = idle.spin_ns();
    let (mut busy_ns, mut yielded_ns, mut wait_ns) = (0, 0, 0);
    while !engine.has_ended() {
        let was_busy = engine.turn(wait_ns)?;
        wait_ns = 0;
        let now_ns = engine.shard.now_ns();
        let is_idle = engine.is_idle();
        if was_busy || !is_idle {
            busy_ns = now_ns;
        }
        let is_shared = engine.shard.tasks.waiting() > 0 || runtime.num_alive_tasks() > 0;
        let yield_every_ns = if is_shared {
            SHARE_EVERY_NS
        } else {
            YIELD_EVERY_NS
        };
        let until_yield_ns = (yielded_ns + yield_every_ns).saturating_sub(now_ns);
        if is_idle && now_ns - busy_ns >= spin_ns {
            if until_yield_ns > 0 && !is_shared {
                // Calls follow each other closely: waking by way of the runtime would cost each of
                // them two more system calls.
                wait_ns = until_yield_ns;
            } else {
                sleeper.sleep(&mut engine).await?;
                yielded_ns = engine.shard.clock.now_ns();
            }
        } else if until_yield_ns == 0 {
            yielded_ns = now_ns;
            tokio::task::yield_now().await;
        }
    }
    engine.shard.finish();
    Ok(())
}

/// Sleeps in the runtime, which watches our epoll instance.
struct Sleeper {
    readiness: AsyncFd<OwnedFd>,
}

impl Sleeper {
    fn new(engine: &Engine) -> io::Result<Self> {
        let readiness = watch(engine.readiness.duplicate()?)?;
        Ok(Self { readiness })
    }

    /// Gives the CPU to the runtime until there may be work. First everybody is told to write to the
    /// eventfd, then it is looked once more: whoever came before is seen, whoever comes later writes.
    async fn sleep(&self, engine: &mut Engine) -> io::Result<()> {
        engine.shard.end_turn();
        engine.shard.mailbox.announce_park();
        if engine.is_idle() {
            let until_due_ns = engine.until_due_ns().unwrap_or(u64::MAX);
            let due = tokio::time::sleep(Duration::from_nanos(until_due_ns.min(SLEEP_MAX_NS)));
            tokio::select! {
                // What is ready stays ready in our own instance, where the next turn finds it.
                ready = self.readiness.readable() => ready?.clear_ready(),
                () = due => (),
            }
        }
        engine.shard.mailbox.unpark();
        Ok(())
    }
}
