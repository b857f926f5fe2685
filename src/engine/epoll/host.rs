//! Where the engine runs: a loop on the shard's thread, which sleeps in its own epoll instance.

use std::io;
use std::rc::Rc;

use super::Engine;
use crate::engine::{EngineConfig, Idle, Listener, ShardStart};
use crate::shard::ShardCore;

/// A sleeping shard looks at least this often, which costs nothing and bounds any mistake.
const SLEEP_MAX_NS: u64 = 1_000_000_000;

/// Runs a shard on the calling thread until it has drained.
///
/// # Errors
/// When epoll fails later.
pub(crate) fn run(start: ShardStart) -> io::Result<()> {
    match start.start(begin) {
        Some((engine, config)) => pump(engine, config.idle),
        None => Ok(()),
    }
}

/// Makes all that the shard will ever need. Its first turn starts to accept, which can fail as well.
fn begin(
    shard: Rc<ShardCore>,
    config: &EngineConfig,
    listeners: Vec<Listener>,
) -> io::Result<Engine> {
    let mut engine = Engine::new(shard, config, listeners)?;
    engine.turn(0)?;
    engine.shard.end_turn();
    Ok(engine)
}

/// The life of a shard. It waits in each turn for as long as the one before has found nothing to do:
/// whatever a handler waits for, even of tokio's on another thread, wakes it by the mailbox's eventfd.
fn pump(mut engine: Engine, idle: Idle) -> io::Result<()> {
    let spin_ns = idle.spin_ns();
    let (mut busy_ns, mut wait_ns) = (0, 0);
    while !engine.has_ended() {
        let was_busy = engine.turn(wait_ns)?;
        let now_ns = engine.shard.now_ns();
        let is_idle = engine.is_idle();
        if was_busy || !is_idle {
            busy_ns = now_ns;
        }
        let may_sleep = is_idle && now_ns - busy_ns >= spin_ns;
        wait_ns = if may_sleep { SLEEP_MAX_NS } else { 0 };
    }
    engine.shard.finish();
    Ok(())
}
