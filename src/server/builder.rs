//! The description of a server, and how it is started.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{Server, ShardHandle};
use crate::engine::{
    Engine, EngineConfig, Factory, Failures, Idle, Listener, ShardStart, run_shard,
};
use crate::platform::address::Address;
use crate::platform::cpus::shard_cpus;
use crate::platform::listen::{Bound, StreamOptions, listen};
use crate::platform::{probe, rlimit};
use crate::proto::limits::Limits;
use crate::shard::context::Shard;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::service::IntoServices;
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
    drain_timeout: Duration,
    stream: StreamOptions,
}

/// Connections that wait to be accepted on one listening socket; the system's own limit
/// (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 4096;
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
            recv_buffers: 256,
            recv_buffer_bytes: 32 * 1024,
            drain_timeout: Duration::from_secs(10),
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

    /// Time that calls in flight have when the server shuts down. Default 10 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Binds the addresses and starts the shards. `factory` runs once on each shard's thread and
    /// makes its services, which need not be `Send`.
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
        let (engine, features) = self.choose_engine()?;
        let cpus = shard_cpus(self.shards).map_err(ServeError::Configuration)?;
        let bound = self.bind(cpus.len(), engine)?;
        let factory: Arc<Factory> = Arc::new(move |shard| factory(shard).into_services());
        self.start(engine, features, &cpus, bound, &factory)
    }

    fn check(&self) -> Result<(), ServeError> {
        let wrong = |text: String| Err(ServeError::Configuration(text));
        self.limits.check().map_err(ServeError::Configuration)?;
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

    fn choose_engine(&self) -> Result<(Engine, String), ServeError> {
        if self.engine == Engine::Epoll {
            return Ok((Engine::Epoll, String::new()));
        }
        match probe::probe() {
            Ok(features) => Ok((Engine::Uring, features.to_string())),
            Err(refusal) if self.engine == Engine::Uring => {
                Err(ServeError::Engine(refusal.to_string()))
            }
            Err(refusal) => {
                tracing::warn!("io_uring can't be used, serving by epoll instead: {refusal}");
                Ok((Engine::Epoll, String::new()))
            }
        }
    }

    fn bind(&self, shards: usize, engine: Engine) -> Result<Vec<Bound>, ServeError> {
        let mut bound = Vec::new();
        for text in &self.addresses {
            let address: Address = text
                .parse()
                .map_err(|error| ServeError::Configuration(format!("{error}")))?;
            let is_nonblocking = engine == Engine::Epoll;
            bound.push(
                listen(&address, shards, BACKLOG, is_nonblocking).map_err(|error| {
                    ServeError::Listen {
                        address: text.clone(),
                        cause: error.to_string(),
                    }
                })?,
            );
        }
        Ok(bound)
    }

    fn start(
        &self,
        engine: Engine,
        features: String,
        cpus: &[usize],
        bound: Vec<Bound>,
        factory: &Arc<Factory>,
    ) -> Result<Server, ServeError> {
        let mut server = Server {
            addresses: bound
                .iter()
                .map(|bound| bound.address.to_string())
                .collect(),
            engine: if engine == Engine::Epoll {
                "epoll"
            } else {
                "uring"
            },
            features,
            shards: Vec::new(),
            failures: Arc::default(),
            _socket_files: Vec::new(),
        };
        let mut listeners: Vec<Vec<Listener>> = cpus.iter().map(|_| Vec::new()).collect();
        for bound in bound {
            let is_tcp = bound.is_tcp();
            server._socket_files.extend(bound.unlink);
            for (shard, fd) in listeners.iter_mut().zip(bound.sockets) {
                shard.push(Listener {
                    fd: fd.into(),
                    is_tcp,
                });
            }
        }
        let (ready, started) = channel();
        for ((id, &cpu), listeners) in cpus.iter().enumerate().zip(listeners) {
            let place = Place {
                id,
                count: cpus.len(),
                cpu: self.is_pinned.then_some(cpu),
            };
            // The io_uring engine waits in a read of the eventfd, which must not fail at once.
            let mailbox = Mailbox::new(engine == Engine::Epoll).map_err(ServeError::Start)?;
            let start = ShardStart {
                place,
                shard_config: self.shard_config(),
                engine_config: EngineConfig {
                    idle: self.idle,
                    stream: self.stream,
                },
                counters: Arc::new(Counters::default()),
                mailbox,
                listeners,
                factory: Arc::clone(factory),
                ready: ready.clone(),
            };
            server.shards.push(spawn(engine, start, &server.failures)?);
        }
        drop(ready);
        // Each shard reports once; one that panics before closes the channel instead.
        let mut reports: Vec<Result<(), String>> = started.iter().collect();
        if reports.len() < cpus.len() {
            reports.push(Err(
                "a shard's thread panicked while it started; see the log".into(),
            ));
        }
        let failures: Vec<String> = reports.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() {
            Ok(server)
        } else {
            Err(ServeError::Shards(failures))
        }
    }

    fn shard_config(&self) -> ShardConfig {
        ShardConfig {
            limits: Arc::new(self.limits.clone()),
            connections_max: self.connections_max,
            recv_buffers: self.recv_buffers,
            recv_buffer_bytes: self.recv_buffer_bytes,
            drain_timeout: self.drain_timeout,
        }
    }
}

fn spawn(
    engine: Engine,
    start: ShardStart,
    failures: &Arc<Failures>,
) -> Result<ShardHandle, ServeError> {
    let mut handle = ShardHandle {
        cpu: start.place.cpu,
        mailbox: Arc::clone(&start.mailbox),
        counters: Arc::clone(&start.counters),
        thread: None,
    };
    let (id, failures) = (start.place.id, Arc::clone(failures));
    let thread = std::thread::Builder::new()
        .name(format!("ringcall-{id}"))
        .stack_size(SHARD_STACK_BYTES)
        .spawn(move || {
            if let Err(error) = run_shard(engine, start) {
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
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(text) => f.write_str(text),
            Self::Listen { address, cause } => write!(f, "can't listen on {address}: {cause}"),
            Self::Engine(text) => write!(f, "io_uring was asked for but can't be used: {text}"),
            Self::Start(error) => write!(f, "a shard can't be started: {error}"),
            Self::Shards(failures) => f.write_str(&failures.join("; ")),
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
