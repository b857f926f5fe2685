//! What moves the bytes: io_uring, or epoll where io_uring is refused.
//!
//! An engine runs one shard on its thread: it accepts, receives and sends, and drives the shard in
//! turns. Both give the same behaviour; `Engine::Auto` chooses.

mod accept;
mod epoll;
mod failure;
pub(crate) mod memory;
mod sharing;
#[cfg(feature = "simulation")]
pub mod sim;
#[cfg(feature = "uring")]
mod uring;
#[cfg(not(feature = "uring"))]
#[path = "without_uring.rs"]
mod uring;

pub(crate) use self::failure::Failures;
pub use self::failure::{ShardFailure, StartError};
pub(crate) use self::sharing::Sharer;
pub(crate) use self::uring::locked_bytes as ring_locked_bytes;

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::net::options::StreamOptions;
use crate::platform::pin::pin_current_thread;
use crate::platform::shortage::Shortage;
use crate::shard::context::{Shard, TimeSource};
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::service::{Service, ServiceTable};
use crate::shard::{Place, ShardConfig, ShardCore};

/// Which engine a server uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// io_uring where it is allowed and complete, else epoll, with one line in the log that says
    /// why. The default. Without ringcall's Cargo feature `uring` it is epoll.
    #[default]
    Auto,
    /// io_uring, or an error at start that says why not: it is not allowed, not complete, or not built, without
    /// ringcall's Cargo feature `uring`.
    Uring,
    /// epoll, with a system call for each receive and each send.
    Epoll,
}

/// What a shard does when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Idle {
    /// Sleeps at once: no CPU is used, each wake-up costs what the machine takes for it.
    Park,
    /// Looks for work for this long, then sleeps. The default, with 50 µs.
    SpinThenPark(Duration),
    /// Never sleeps: lowest latency, a whole CPU per shard.
    Spin,
}

impl Default for Idle {
    fn default() -> Self {
        Self::SpinThenPark(Duration::from_micros(50))
    }
}

impl Idle {
    /// How long to look for work before sleeping, in nanoseconds; `u64::MAX` for ever.
    fn spin_ns(self) -> u64 {
        match self {
            Self::Park => 0,
            Self::SpinThenPark(time) => time.as_nanos().min(u128::from(u64::MAX - 1)) as u64,
            Self::Spin => u64::MAX,
        }
    }
}

/// A listening socket of one shard.
#[derive(Debug)]
pub(crate) struct Listener<S = OwnedFd> {
    pub(crate) fd: S,
    /// All shards that listen on the same socket, which is nonblocking then, as with unix sockets.
    /// `None`: it is this shard's alone, and the kernel spreads connections, as with TCP.
    pub(crate) sharers: Option<Arc<[Sharer]>>,
}

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    pub(crate) idle: Idle,
    pub(crate) stream: StreamOptions,
}

/// Makes the services of a shard, on its thread.
pub(crate) type Factory = dyn FnOnce(&Shard) -> Result<Vec<Box<dyn Service>>, String>;

/// Everything that a shard's thread needs.
pub(crate) struct ShardStart {
    pub(crate) place: Place,
    pub(crate) shard_config: ShardConfig,
    pub(crate) engine_config: EngineConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) factory: Box<Factory>,
    /// Told once whether the shard has started.
    pub(crate) ready: Sender<Result<(), StartError>>,
}

impl ShardStart {
    /// Pins the thread and makes the shard with its services. Without pinning it goes on: the CPU
    /// may have been taken away since it was chosen.
    fn make_shard(&mut self, factory: Box<Factory>) -> Result<Rc<ShardCore>, StartError> {
        if let Some(cpu) = self.place.cpu
            && let Err(error) = pin_current_thread(cpu)
        {
            tracing::warn!(cpu, %error, "shard {} is not pinned", self.place.id);
            self.place.cpu = None;
        }
        let shard = ShardCore::new(
            self.place,
            self.shard_config.clone(),
            Arc::clone(&self.counters),
            Arc::clone(&self.mailbox),
            TimeSource::System,
            fastrand::Rng::new(),
        )
        .ok_or(StartError::RecvBuffers {
            shard: self.place.id,
            count: self.shard_config.recv_buffers,
            bytes: self.shard_config.recv_buffer_bytes,
        })?;
        shard.begin_turn();
        let id = self.place.id;
        shard
            .make_services(factory)
            .map_err(|cause| StartError::Services { shard: id, cause })?;
        if self.place.serves && shard.services.get().is_none_or(ServiceTable::is_empty) {
            return Err(StartError::NoMethod);
        }
        // Until its first turn it may take its time: it serves nobody yet.
        shard.end_turn();
        Ok(shard)
    }

    /// Makes the shard and what the engine adds to it, and reports how that went. From then on the
    /// shard takes nothing more that the process could be short of, but connections.
    fn start<E>(
        mut self,
        make_engine: impl FnOnce(Rc<ShardCore>, &EngineConfig, Vec<Listener>) -> io::Result<E>,
    ) -> Option<(E, EngineConfig)> {
        let listeners = std::mem::take(&mut self.listeners);
        let factory = std::mem::replace(&mut self.factory, Box::new(|_| Ok(Vec::new())));
        let shard = match self.make_shard(factory) {
            Ok(shard) => shard,
            Err(why) => {
                self.report(Err(why));
                return None;
            }
        };
        match make_engine(shard, &self.engine_config, listeners) {
            Ok(engine) => {
                self.report(Ok(()));
                Some((engine, self.engine_config))
            }
            Err(error) if error.raw_os_error().is_some() => {
                let shortage = Shortage::new("what it needs", error);
                self.fail(shortage.to_string());
                None
            }
            Err(error) => {
                self.fail(error.to_string());
                None
            }
        }
    }

    /// Reports that the shard can't have its engine.
    fn fail(&self, cause: String) {
        let shard = self.place.id;
        self.report(Err(StartError::Engine { shard, cause }));
    }

    fn report(&self, report: Result<(), StartError>) {
        if self.ready.send(report).is_err() {
            tracing::debug!("nobody waits for the start of shard {}", self.place.id);
        }
    }
}

/// Runs a shard on the calling thread until it has drained. `tokio` is a runtime that another thread
/// drives, for what handlers await of it.
pub(crate) fn run_shard(
    engine: Engine,
    start: ShardStart,
    tokio: &tokio::runtime::Handle,
) -> io::Result<()> {
    // Whatever the program's code does with tokio on this thread finds its runtime.
    let _entered = tokio.enter();
    let _drives = Drives::new();
    match engine {
        Engine::Auto | Engine::Uring => uring::run(start),
        Engine::Epoll => epoll::run(start),
    }
}

thread_local! {
    static DRIVES_A_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread drives a shard.
pub(crate) fn drives_a_shard() -> bool {
    DRIVES_A_SHARD.get()
}

/// The calling thread drives a shard while this exists.
struct Drives;

impl Drives {
    fn new() -> Self {
        DRIVES_A_SHARD.set(true);
        Self
    }
}

impl Drop for Drives {
    fn drop(&mut self) {
        DRIVES_A_SHARD.set(false);
    }
}
