//! How a server comes up: all of it, or nothing.
//!
//! Whatever can be short is asked for in this order: addresses, the descriptors of all shards, threads.
//! A shard reports itself when it has everything that it will ever take. Where anything fails, the
//! server that was begun is dropped, which ends and awaits the threads that were started; nothing here
//! may keep a sender of theirs beyond that.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use super::builder::ServerBuilder;
use super::error::{ConfigurationError, ServeError};
use super::tokio_thread::TokioThread;
use super::watchdog::Watchdog;
use super::{Server, ShardHandle};
use crate::engine::{
    Engine, EngineConfig, Failures, Listener, ShardFailure, ShardStart, Sharer, StartError,
    run_shard,
};
use crate::net::address::Address;
use crate::platform::listen::{ListenOptions, Listening, listen};
use crate::platform::shortage::{Shortage, room_for};
use crate::platform::uring::probe;
use crate::shard::Place;
use crate::shard::context::Shard;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::service::Service;

/// Makes the services of every shard, each on its own thread.
pub(super) type SharedFactory =
    dyn Fn(&Shard) -> Result<Vec<Box<dyn Service>>, String> + Send + Sync;

/// Stack of a shard's thread. Validation follows at most 64 pointers and handlers run on it.
const SHARD_STACK_BYTES: usize = 8 << 20;
/// What a shard maps beside its stack and its receive buffers: rings, tables, its executor and the
/// stack of that one's thread.
const SHARD_OTHER_BYTES: usize = 8 << 20;
/// What a local runtime maps, which has no thread of its own but its executor's.
pub(super) const LOCAL_BYTES: usize =
    SHARD_OTHER_BYTES + super::builder::RECV_BUFFERS as usize * super::builder::RECV_BUFFER_BYTES;
/// What a server maps beside its shards: the stacks of two threads, and room for small things.
const SERVER_BYTES: usize = 16 << 20;

impl ServerBuilder {
    /// Whether there is address space for all shards.
    pub(super) fn check_room(&self, shards: usize) -> Result<(), ServeError> {
        let buffers = usize::from(self.recv_buffers) * self.recv_buffer_bytes;
        let shard_bytes = SHARD_STACK_BYTES + SHARD_OTHER_BYTES + buffers;
        let what = format!(
            "{shards} shards with {} receive buffers of {} bytes each",
            self.recv_buffers, self.recv_buffer_bytes
        );
        room_for(&what, shards * shard_bytes + SERVER_BYTES)
            .map_err(|shortage| StartError::from(shortage).into())
    }

    /// Starts all shards on an engine, or none. What no engine can help comes first among the
    /// failures.
    pub(super) fn start(
        &self,
        engine: Engine,
        features: String,
        cpus: &[usize],
        factory: &Arc<SharedFactory>,
    ) -> Result<Result<Server, Vec<StartError>>, ServeError> {
        let listening = self.bind(cpus.len(), engine)?;
        Ok(self.start_on(engine, features, cpus, factory, listening))
    }

    fn bind(&self, shards: usize, engine: Engine) -> Result<Vec<Listening>, ServeError> {
        let options = ListenOptions {
            nonblocking: engine == Engine::Epoll,
            stream: self.stream.clone(),
            ..ListenOptions::default()
        };
        let mut bound = Vec::new();
        for text in &self.addresses {
            let address: Address = text.parse().map_err(ConfigurationError::Address)?;
            let listening = listen(&address, shards, &options);
            bound.push(listening.map_err(ServeError::of_listening)?);
        }
        Ok(bound)
    }

    fn start_on(
        &self,
        engine: Engine,
        features: String,
        cpus: &[usize],
        factory: &Arc<SharedFactory>,
        mut listening: Vec<Listening>,
    ) -> Result<Server, Vec<StartError>> {
        let members = self.members(engine, cpus).map_err(one)?;
        let tokio_thread = TokioThread::start().map_err(|error| {
            one(Shortage::new(
                "the runtime for handlers that use tokio",
                error,
            ))
        })?;
        let listeners = share(&mut listening, &members);
        let (running, ended) = channel();
        let mut server = Server {
            addresses: listening
                .iter()
                .map(|one| one.bound_address().to_string())
                .collect(),
            engine: match engine {
                Engine::Epoll => "epoll",
                _ => "uring",
            },
            features,
            memory_ceiling_bytes: self
                .shard_config()
                .memory_ceiling_bytes()
                .saturating_mul(cpus.len()),
            shards: members.iter().map(Member::handle).collect(),
            failures: Arc::default(),
            ended: Mutex::new(ended),
            watchdog: None,
            _listening: listening,
            tokio_thread: Some(tokio_thread),
        };
        // The senders go with it, so that the server can be dropped if it fails.
        self.start_shards(&mut server, engine, members, listeners, factory, running)?;
        Ok(server)
    }

    /// What each shard shares with other threads. It takes all descriptors of theirs.
    fn members(&self, engine: Engine, cpus: &[usize]) -> Result<Vec<Member>, Shortage> {
        let members = cpus.iter().enumerate().map(|(id, &cpu)| {
            let place = Place {
                id,
                count: cpus.len(),
                cpu: self.is_pinned.then_some(cpu),
                serves: true,
            };
            // The io_uring engine waits in a read of the eventfd, which must not fail at once.
            let mailbox = Mailbox::new(engine == Engine::Epoll)
                .map_err(|error| Shortage::new(format!("the eventfd of shard {id}"), error))?;
            Ok(Member {
                place,
                mailbox,
                counters: Arc::default(),
            })
        });
        members.collect()
    }

    /// Starts the threads and waits until each shard has reported itself.
    fn start_shards(
        &self,
        server: &mut Server,
        engine: Engine,
        members: Vec<Member>,
        listeners: Vec<Vec<Listener>>,
        factory: &Arc<SharedFactory>,
        running: Sender<()>,
    ) -> Result<(), Vec<StartError>> {
        let count = members.len();
        let (ready, started) = channel();
        let tokio_thread = server.tokio_thread.as_ref();
        let tokio = tokio_thread.expect("just made").handle();
        for (member, listeners) in members.into_iter().zip(listeners) {
            let id = member.place.id;
            let (shard_config, factory, ready) =
                (self.shard_config(), Arc::clone(factory), ready.clone());
            let engine_config = EngineConfig {
                idle: self.idle,
                stream: self.stream.clone(),
            };
            let make_start = move || ShardStart {
                place: member.place,
                shard_config,
                engine_config,
                counters: member.counters,
                mailbox: member.mailbox,
                listeners,
                factory: Box::new(move |shard| factory(shard)),
                ready,
            };
            let (tokio, running) = (tokio.clone(), running.clone());
            let make_start = move || (make_start(), tokio, running);
            let thread = spawn(engine, id, make_start, &server.failures)
                .map_err(|error| one(Shortage::new(format!("the thread of shard {id}"), error)))?;
            server.shards[id].thread = Some(thread);
        }
        drop((ready, running));
        let watchdog = Watchdog::start(&server.shards, self.stall_threshold)
            .map_err(|error| one(Shortage::new("the thread of the watchdog", error)))?;
        server.watchdog = Some(watchdog);
        // Each shard reports once; one that panics before closes the channel instead.
        let mut reports: Vec<Result<(), StartError>> = started.iter().collect();
        if reports.len() < count {
            reports.push(Err(StartError::Panicked));
        }
        let mut failures: Vec<_> = reports.into_iter().filter_map(Result::err).collect();
        failures.sort_by_key(StartError::is_of_engine);
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures)
        }
    }
}

/// The one thing that a start lacked.
fn one(shortage: Shortage) -> Vec<StartError> {
    vec![shortage.into()]
}

/// What a shard's thread and all others hold of it.
struct Member {
    place: Place,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
}

impl Member {
    fn handle(&self) -> ShardHandle {
        ShardHandle {
            cpu: self.place.cpu,
            mailbox: Arc::clone(&self.mailbox),
            counters: Arc::clone(&self.counters),
            thread: None,
        }
    }
}

/// The sockets of each shard, taken out of what listens.
fn share(listening: &mut [Listening], members: &[Member]) -> Vec<Vec<Listener>> {
    let sharers: Arc<[Sharer]> = members
        .iter()
        .map(|member| Sharer::new(&member.counters, &member.mailbox))
        .collect();
    let mut listeners: Vec<Vec<Listener>> = members.iter().map(|_| Vec::new()).collect();
    for one in listening {
        let is_tcp = one.bound_address().is_tcp();
        for (shard, sockets) in listeners.iter_mut().zip(std::mem::take(&mut one.shards)) {
            shard.extend(sockets.into_iter().map(|fd| Listener {
                fd: fd.into(),
                sharers: (!is_tcp).then(|| Arc::clone(&sharers)),
            }));
        }
    }
    listeners
}

/// Settles which engine is used, and with which features.
pub(super) fn choose_engine(wanted: Engine) -> Result<(Engine, String), ServeError> {
    // Who has left io_uring out at build time needs no line in the log about it.
    let is_built = cfg!(feature = "uring");
    if wanted == Engine::Epoll || (wanted == Engine::Auto && !is_built) {
        return Ok((Engine::Epoll, String::new()));
    }
    match probe() {
        Ok(features) => Ok((Engine::Uring, features.to_string())),
        Err(refusal) if wanted == Engine::Uring => Err(ServeError::of_refusal(&refusal)),
        Err(refusal) => {
            say_fallback(&refusal);
            Ok((Engine::Epoll, String::new()))
        }
    }
}

pub(super) fn say_fallback(why: &dyn fmt::Display) {
    tracing::warn!("io_uring can't be used, epoll is used instead: {why}");
}

fn spawn(
    engine: Engine,
    id: usize,
    make_start: impl FnOnce() -> (ShardStart, Handle, Sender<()>) + Send + 'static,
    failures: &Arc<Failures>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let failures = Arc::clone(failures);
    std::thread::Builder::new()
        .name(format!("ringcall-{id}"))
        .stack_size(SHARD_STACK_BYTES)
        .spawn(move || {
            let (start, tokio, _running) = make_start();
            if let Err(error) = run_shard(engine, start, &tokio) {
                tracing::error!(shard = id, %error, "a shard has failed");
                failures.add(ShardFailure::Engine { shard: id, error });
            }
        })
}
