//! The description of a server, and how it is started.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use super::companion::Companion;
use super::watchdog::Watchdog;
use super::{Server, ShardHandle};
use crate::engine::{
    Engine, EngineConfig, Failures, Idle, Listener, ShardStart, StartFailure, run_shard,
};
use crate::platform::address::Address;
use crate::platform::cpus::shard_cpus;
use crate::platform::listen::{ListenOptions, Listening, listen};
use crate::platform::options::StreamOptions;
use crate::platform::{probe, rlimit};
use crate::proto::limits::Limits;
use crate::shard::context::Shard;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::service::{IntoServices, Service};
use crate::shard::{Place, ShardConfig};

/// A server to be. Every method has a sensible default; [`ServerBuilder::listen`] alone is needed.
#[derive(Debug)]
#[must_use = "nothing listens before `serve`"]
pub struct ServerBuilder {
    addresses: Vec<String>,
    shards: Option<usize>,
    is_pinned: bool,
    engine: Engine,
    idle: Idle,
    limits: Limits,
    connections_max: usize,
    recv_buffers: u16,
    recv_buffer_bytes: usize,
    memory_per_shard: usize,
    drain_timeout: Duration,
    stall_threshold: Duration,
    stream: StreamOptions,
}

/// A shorter threshold would make the watchdog itself a burden.
const STALL_THRESHOLD_MIN: Duration = Duration::from_millis(4);
/// Receive buffers of a shard, and the bytes of each: 8 MiB, enough for the turns of thousands of
/// connections.
pub(super) const RECV_BUFFERS: u16 = 256;
pub(super) const RECV_BUFFER_BYTES: usize = 32 * 1024;

/// Less memory would not serve a few connections.
const MEMORY_PER_SHARD_MIN: usize = 1 << 20;

/// Makes the services of every shard, each on its own thread.
type SharedFactory = dyn Fn(&Shard) -> Result<Vec<Box<dyn Service>>, String> + Send + Sync;

/// Stack of a shard's thread. Validation follows at most 64 pointers and handlers run on it.
const SHARD_STACK_BYTES: usize = 8 << 20;

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
        self.shards = Some(count.get());
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
    /// [`Engine::Uring`] was asked for, or a shard that can't start. Nothing is left running.
    pub fn serve<F, S>(self, factory: F) -> Result<Server, ServeError>
    where
        F: Fn(&Shard) -> S + Send + Sync + 'static,
        S: IntoServices,
    {
        self.check()?;
        rlimit::raise_nofile();
        let (engine, features) = choose_engine(self.engine)?;
        let cpus = shard_cpus(self.shards).map_err(ServeError::Configuration)?;
        let factory: Arc<SharedFactory> = Arc::new(move |shard| factory(shard).into_services());
        let mut started = self.start(engine, features, &cpus, &factory)?;
        if let Err(failures) = &started
            && (self.engine, engine) == (Engine::Auto, Engine::Uring)
            && let [StartFailure::Engine(why), ..] = &failures[..]
        {
            // What the probe found was not enough: locked memory for all shards, as a rule.
            say_fallback(why);
            let first = why.clone();
            started = self.start(Engine::Epoll, String::new(), &cpus, &factory)?;
            if let Err(failures) = &mut started {
                failures.insert(0, StartFailure::Engine(first));
            }
        }
        started.map_err(|failures| {
            let texts = failures.into_iter().map(StartFailure::into_text);
            ServeError::Shards(texts.collect())
        })
    }

    fn check(&self) -> Result<(), ServeError> {
        let wrong = |text: String| Err(ServeError::Configuration(text));
        self.limits.check().map_err(ServeError::Configuration)?;
        if self.memory_per_shard < MEMORY_PER_SHARD_MIN {
            return wrong(format!(
                "memory_per_shard is {} bytes; use at least {MEMORY_PER_SHARD_MIN}",
                self.memory_per_shard
            ));
        }
        if self.addresses.is_empty() {
            return wrong("no address to listen on: call listen(\"tcp://127.0.0.1:7411\")".into());
        }
        if !(1..=32_768).contains(&self.recv_buffers) {
            return wrong(format!(
                "{} receive buffers: use 1 to 32768",
                self.recv_buffers
            ));
        }
        let bytes = self.recv_buffer_bytes;
        if !bytes.is_multiple_of(16) || !(1024..=1 << 20).contains(&bytes) {
            return wrong(format!(
                "receive buffers of {bytes} bytes: use a multiple of 16 from 1 KiB to 1 MiB"
            ));
        }
        if self.connections_max == 0 {
            return wrong("connections_max is 0: no connection would be accepted".into());
        }
        Ok(())
    }

    fn bind(&self, shards: usize, engine: Engine) -> Result<Vec<Listening>, ServeError> {
        let options = ListenOptions {
            nonblocking: engine == Engine::Epoll,
            stream: self.stream.clone(),
            ..ListenOptions::default()
        };
        let mut bound = Vec::new();
        for text in &self.addresses {
            let address: Address = text
                .parse()
                .map_err(|error| ServeError::Configuration(format!("{error}")))?;

            bound.push(
                listen(&address, shards, &options).map_err(|error| ServeError::Listen {
                    address: text.clone(),
                    cause: error.to_string(),
                })?,
            );
        }
        Ok(bound)
    }

    /// Starts all shards on an engine, or none. What no engine can help comes first among the
    /// failures.
    fn start(
        &self,
        engine: Engine,
        features: String,
        cpus: &[usize],
        factory: &Arc<SharedFactory>,
    ) -> Result<Result<Server, Vec<StartFailure>>, ServeError> {
        let mut listening = self.bind(cpus.len(), engine)?;
        let (running, ended) = channel();
        let mut server = Server {
            addresses: listening
                .iter()
                .map(|one| one.bound_address().to_string())
                .collect(),
            engine: if engine == Engine::Epoll {
                "epoll"
            } else {
                "uring"
            },
            features,
            memory_ceiling_bytes: self
                .shard_config()
                .memory_ceiling_bytes()
                .saturating_mul(cpus.len()),
            shards: Vec::new(),
            failures: Arc::default(),
            ended: Mutex::new(ended),
            watchdog: None,
            _listening: Vec::new(),
            _companion: None,
        };
        let companion = Companion::start().map_err(ServeError::Start)?;
        let tokio = companion.handle();
        server._companion = Some(companion);
        let mut listeners: Vec<Vec<Listener>> = cpus.iter().map(|_| Vec::new()).collect();
        for one in &mut listening {
            let is_tcp = one.bound_address().is_tcp();
            for (shard, sockets) in listeners.iter_mut().zip(std::mem::take(&mut one.shards)) {
                shard.extend(sockets.into_iter().map(|fd| Listener {
                    fd: fd.into(),
                    is_tcp,
                }));
            }
        }
        server._listening = listening;
        let (ready, started) = channel();
        for ((id, &cpu), listeners) in cpus.iter().enumerate().zip(listeners) {
            let place = Place {
                id,
                count: cpus.len(),
                cpu: self.is_pinned.then_some(cpu),
                serves: true,
            };
            // The io_uring engine waits in a read of the eventfd, which must not fail at once.
            let mailbox = Mailbox::new(engine == Engine::Epoll).map_err(ServeError::Start)?;
            let counters = Arc::new(Counters::default());
            let handle = ShardHandle {
                cpu: place.cpu,
                mailbox: Arc::clone(&mailbox),
                counters: Arc::clone(&counters),
                thread: None,
            };
            let (shard_config, factory, ready) =
                (self.shard_config(), Arc::clone(factory), ready.clone());
            let engine_config = EngineConfig {
                idle: self.idle,
                stream: self.stream.clone(),
            };
            let make_start = move || ShardStart {
                place,
                shard_config,
                engine_config,
                counters,
                mailbox,
                listeners,
                factory: Box::new(move |shard| factory(shard)),
                ready,
            };
            let (tokio, running) = (tokio.clone(), running.clone());
            let make_start = move || (make_start(), tokio, running);
            server
                .shards
                .push(spawn(engine, id, make_start, handle, &server.failures)?);
        }
        drop((ready, running));
        server.watchdog =
            Some(Watchdog::start(&server.shards, self.stall_threshold).map_err(ServeError::Start)?);
        // Each shard reports once; one that panics before closes the channel instead.
        let mut reports: Vec<Result<(), StartFailure>> = started.iter().collect();
        if reports.len() < cpus.len() {
            let text = "a shard's thread panicked while it started; see the log";
            reports.push(Err(StartFailure::Other(text.into())));
        }
        let mut failures: Vec<_> = reports.into_iter().filter_map(Result::err).collect();
        failures.sort_by_key(|failure| matches!(failure, StartFailure::Engine(_)));
        Ok(if failures.is_empty() {
            Ok(server)
        } else {
            Err(failures)
        })
    }

    fn shard_config(&self) -> ShardConfig {
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

/// Settles which engine is used, and with which features.
pub(super) fn choose_engine(wanted: Engine) -> Result<(Engine, String), ServeError> {
    if wanted == Engine::Epoll {
        return Ok((Engine::Epoll, String::new()));
    }
    match probe::probe() {
        Ok(features) => Ok((Engine::Uring, features.to_string())),
        Err(refusal) if wanted == Engine::Uring => Err(ServeError::Engine(refusal.to_string())),
        Err(refusal) => {
            say_fallback(&refusal.to_string());
            Ok((Engine::Epoll, String::new()))
        }
    }
}

fn say_fallback(why: &str) {
    tracing::warn!("io_uring can't be used, epoll is used instead: {why}");
}

fn spawn(
    engine: Engine,
    id: usize,
    make_start: impl FnOnce() -> (ShardStart, Handle, Sender<()>) + Send + 'static,
    mut handle: ShardHandle,
    failures: &Arc<Failures>,
) -> Result<ShardHandle, ServeError> {
    let failures = Arc::clone(failures);
    let thread = std::thread::Builder::new()
        .name(format!("ringcall-{id}"))
        .stack_size(SHARD_STACK_BYTES)
        .spawn(move || {
            let (start, tokio, _running) = make_start();
            if let Err(error) = run_shard(engine, start, &tokio) {
                tracing::error!(shard = id, %error, "a shard has failed");
                failures.add(format!("shard {id} failed: {error}"));
            }
        });
    handle.thread = Some(thread.map_err(ServeError::Start)?);
    Ok(handle)
}

/// Why a server did not start, or ended before its time.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting or an address is wrong; the text says which and how to mend it.
    Configuration(String),
    /// An address can't be bound.
    Listen {
        /// The address as it was given.
        address: String,
        /// Why not, and what to do.
        cause: String,
    },
    /// io_uring was asked for and is refused; the text says why and what to do.
    Engine(String),
    /// A thread or a descriptor can't be had.
    Start(io::Error),
    /// Shards failed, each with its reason.
    Shards(Vec<String>),
    /// A thread that drives a shard was to wait for one; the text says what to do instead.
    OwnThread(&'static str),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(text) => f.write_str(text),
            Self::Listen { address, cause } => write!(f, "can't listen on {address}: {cause}"),
            Self::Engine(text) => write!(f, "io_uring was asked for but can't be used: {text}"),
            Self::Start(error) => write!(f, "a shard can't be started: {error}"),
            Self::Shards(failures) => f.write_str(&failures.join("; ")),
            Self::OwnThread(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(error) => Some(error),
            _ => None,
        }
    }
}
