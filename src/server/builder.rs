//! The description of a server, and how it is started.

use std::fmt;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::error::{ConfigurationError, ServeError};
use super::start::{SharedFactory, choose_engine, say_fallback};
use crate::engine::{Engine, Idle, StartError};
use crate::net::options::StreamOptions;
use crate::platform::cpus::shard_cpus;
use crate::platform::rlimit;
use crate::shard::ShardConfig;
use crate::shard::context::Shard;
use crate::shard::hook::{ServerHook, hooked};
use crate::shard::service::IntoServices;
use crate::wire::limits::Limits;

/// A server to be. Every method has a sensible default; [`ServerBuilder::listen`] alone is needed.
#[derive(Debug)]
#[must_use = "nothing listens before `serve`"]
pub struct ServerBuilder {
    pub(super) addresses: Vec<String>,
    shards: Option<NonZeroUsize>,
    pub(super) is_pinned: bool,
    engine: Engine,
    pub(super) idle: Idle,
    limits: Limits,
    connections_max: usize,
    pub(super) recv_buffers: u16,
    pub(super) recv_buffer_bytes: usize,
    memory_per_shard: usize,
    drain_timeout: Duration,
    pub(super) stall_threshold: Duration,
    pub(super) stream: StreamOptions,
    hook: Option<HookFactory>,
}

/// Makes the hook of each shard.
#[derive(Clone)]
struct HookFactory(Arc<MakeHook>);

type MakeHook = dyn Fn(&Shard) -> Rc<dyn ServerHook> + Send + Sync;

impl fmt::Debug for HookFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookFactory")
    }
}

/// A shorter threshold would make the watchdog itself a burden.
const STALL_THRESHOLD_MIN: Duration = Duration::from_millis(4);
/// Receive buffers of a shard, and the bytes of each: 8 MiB, enough for the turns of thousands of
/// connections.
pub(super) const RECV_BUFFERS: u16 = 256;
pub(super) const RECV_BUFFER_BYTES: usize = 32 * 1024;

/// Receive buffers that a ring can have, and the bytes that each may have.
pub(super) const RECV_BUFFERS_MAX: u16 = 32_768;
pub(super) const RECV_BUFFER_BYTES_MIN: usize = 1 << 10;
pub(super) const RECV_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Less memory would not serve a few connections.
pub(super) const MEMORY_PER_SHARD_MIN: usize = 1 << 20;

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            addresses: Vec::new(),
            shards: None,
            is_pinned: true,
            engine: Engine::default(),
            idle: Idle::default(),
            limits: Limits::default(),
            connections_max: 65_536,
            recv_buffers: RECV_BUFFERS,
            recv_buffer_bytes: RECV_BUFFER_BYTES,
            memory_per_shard: 256 << 20,
            drain_timeout: Duration::from_secs(10),
            stall_threshold: Duration::from_millis(100),
            stream: StreamOptions::default(),
            hook: None,
        }
    }

    /// Adds an address: `tcp://host:port` (port 0: the system chooses), `unix:/path`, or
    /// `unix:@name` for an abstract name. Wrong ones are reported by [`ServerBuilder::serve`].
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Number of shards. Default: one for each CPU that the process may use, by its affinity mask
    /// and its cgroup's quota.
    pub fn shards(mut self, count: NonZeroUsize) -> Self {
        self.shards = Some(count);
        self
    }

    /// Whether each shard is pinned to its CPU. Default: yes.
    ///
    /// The pin is the shard's alone. Threads and programs that its services and handlers start, by
    /// `std::thread`, `tokio::task::spawn_blocking` or `std::process::Command`, as well as the server's
    /// other threads, may run on every CPU that was allowed to the thread that called
    /// [`ServerBuilder::serve`]. (Linux would have them inherit the pin. It is taken off while they are
    /// made, which with a C library other than glibc, or one linked statically, can't be done for threads
    /// and programs.)
    pub fn pinned(mut self, is_pinned: bool) -> Self {
        self.is_pinned = is_pinned;
        self
    }

    /// The engine. Default: [`Engine::Auto`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// What a shard does when it has nothing to do. Default: spin for 50 µs, then sleep.
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// What is accepted from a peer; see each field of [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Connections that one shard accepts; further ones are told so and closed. Default 65536.
    pub fn connections_max(mut self, count: usize) -> Self {
        self.connections_max = count;
        self
    }

    /// Receive buffers of one shard, and the bytes of each (a multiple of 16, at least 1 KiB).
    /// Default 256 of 32 KiB.
    pub fn recv_buffers(mut self, count: u16, bytes: usize) -> Self {
        (self.recv_buffers, self.recv_buffer_bytes) = (count, bytes);
        self
    }

    /// Memory that peers may make one shard hold, in bytes: bodies that arrive, requests in buffers of
    /// their own until their handlers have dropped them, answers that wait to be read, and calls that
    /// wait (2 KiB each, and their futures). Default 256 MiB; at least 1 MiB.
    ///
    /// When it is short, those connections are no longer read from that hold most, until there is room
    /// again (`ringcall_paused{reason="memory"}`), while small calls of all others go on. Half of it is
    /// shared so that each connection may have as much as is free; out of the other half, or one largest
    /// message if that is more, bodies that wait are let in one after another.
    /// [`Server::memory_ceiling_bytes`](super::Server::memory_ceiling_bytes) says what follows for the
    /// process.
    pub fn memory_per_shard(mut self, bytes: usize) -> Self {
        self.memory_per_shard = bytes;
        self
    }

    /// Time that calls in flight have when the server shuts down. Default 10 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Time for which a handler may hold the CPU before it is counted as a stall and its stack is
    /// logged. Default 100 ms; at least 4 ms.
    pub fn stall_threshold(mut self, threshold: Duration) -> Self {
        self.stall_threshold = threshold.max(STALL_THRESHOLD_MIN);
        self
    }

    /// Has each call looked at by a hook, before its payload is validated and when it has ended; see
    /// [`ServerHook`]. `factory` makes that of each shard, on the shard's thread, before its services. Shards
    /// share one where it returns clones of one `Arc`. Default: none, which costs nothing. A second one takes
    /// the place of the first.
    pub fn hook<F, H>(mut self, factory: F) -> Self
    where
        F: Fn(&Shard) -> H + Send + Sync + 'static,
        H: ServerHook,
    {
        self.hook = Some(HookFactory(Arc::new(move |shard| Rc::new(factory(shard)))));
        self
    }

    /// Binds the addresses and starts the shards. `factory` runs once on each shard's thread and
    /// makes its services, which need not be `Send`. (Where [`Engine::Auto`] finds only then that
    /// io_uring can't be had, it runs again on new threads.)
    ///
    /// It raises two soft limits of the whole process to their hard ones, and leaves them there:
    /// `RLIMIT_NOFILE`, as each connection takes a descriptor, and, unless the engine is
    /// [`Engine::Epoll`], `RLIMIT_MEMLOCK`, which bounds the memory of rings. Programs that the
    /// process starts inherit both.
    ///
    /// # Errors
    /// A wrong setting or address, an address that can't be bound, io_uring refused although
    /// [`Engine::Uring`] was asked for, or anything of which the process or the system is short. Nothing
    /// is left running. An address in use is tried for a second before that is an error, since the
    /// kernel may free the sockets of a server that was just killed a little late.
    pub fn serve<F, S>(self, factory: F) -> Result<Server, ServeError>
    where
        F: Fn(&Shard) -> S + Send + Sync + 'static,
        S: IntoServices,
    {
        self.check()?;
        rlimit::raise_nofile();
        let cpus = shard_cpus(self.shards).map_err(ConfigurationError::Cpus)?;
        self.check_room(cpus.len())?;
        let (engine, features) = choose_engine(self.engine)?;
        let hook = self.hook.clone();
        let factory: Arc<SharedFactory> = Arc::new(move |shard| {
            let hook = hook.as_ref().map(|make| make.0(shard));
            let services = factory(shard).into_services()?;
            Ok(match hook {
                Some(hook) => hooked(services, hook),
                None => services,
            })
        });
        let mut started = self.start(engine, features, &cpus, &factory)?;
        if let Err(failures) = &mut started
            && (self.engine, engine) == (Engine::Auto, Engine::Uring)
            && failures.first().is_some_and(StartError::is_of_engine)
        {
            // What the probe found was not enough: locked memory for all shards, as a rule.
            let first = failures.swap_remove(0);
            say_fallback(&first);
            started = self.start(Engine::Epoll, String::new(), &cpus, &factory)?;
            if let Err(failures) = &mut started {
                failures.insert(0, first);
            }
        }
        started.map_err(ServeError::Start)
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        self.limits.check().map_err(ConfigurationError::Limits)?;
        if self.memory_per_shard < MEMORY_PER_SHARD_MIN {
            return Err(ConfigurationError::MemoryPerShard {
                bytes: self.memory_per_shard,
            });
        }
        if self.addresses.is_empty() {
            return Err(ConfigurationError::NoAddress);
        }
        let count = self.recv_buffers;
        if !(1..=RECV_BUFFERS_MAX).contains(&count) {
            return Err(ConfigurationError::RecvBuffers { count });
        }
        let bytes = self.recv_buffer_bytes;
        let may_be = RECV_BUFFER_BYTES_MIN..=RECV_BUFFER_BYTES_MAX;
        if !bytes.is_multiple_of(16) || !may_be.contains(&bytes) {
            return Err(ConfigurationError::RecvBufferBytes { bytes });
        }
        if self.connections_max == 0 {
            return Err(ConfigurationError::NoConnections);
        }
        Ok(())
    }

    pub(super) fn shard_config(&self) -> ShardConfig {
        ShardConfig {
            limits: Arc::new(self.limits.clone()),
            connections_max: self.connections_max,
            recv_buffers: self.recv_buffers,
            recv_buffer_bytes: self.recv_buffer_bytes,
            memory_bytes: self.memory_per_shard,
            drain_timeout: self.drain_timeout,
        }
    }
}
