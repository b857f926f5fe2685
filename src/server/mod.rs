//! Building, running and ending a server.

mod builder;
mod error;
mod local_runtime;
mod metrics;
mod stack;
mod start;
mod tokio_thread;
mod watchdog;

pub use self::builder::ServerBuilder;
pub use self::error::{ConfigurationError, ServeError};
pub use self::local_runtime::{LocalRuntime, LocalRuntimeBuilder};
pub use self::metrics::Metrics;

use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use self::tokio_thread::TokioThread;
use self::watchdog::Watchdog;
use crate::engine::{Failures, ShardFailure};
use crate::panics;
use crate::platform::listen::Listening;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;

/// A server that runs. Dropping it shuts it down and waits until it has ended; on a thread of its own, such
/// as in one of its handlers, it shuts down and ends after the drop.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<String>,
    engine: &'static str,
    features: String,
    memory_ceiling_bytes: usize,
    /// Ended before the shards whose threads it looks at.
    watchdog: Option<Watchdog>,
    shards: Vec<ShardHandle>,
    failures: Arc<Failures>,
    /// Closed when the threads of all shards have ended.
    ended: Mutex<Receiver<()>>,
    /// Removes socket files when the server ends.
    _listening: Vec<Listening>,
    /// Ends after the shards, whose handlers use it.
    tokio_thread: Option<TokioThread>,
}

/// What other threads hold of a shard.
#[derive(Debug)]
struct ShardHandle {
    cpu: Option<usize>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to describe a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// The addresses that it listens on, with the ports that the system has chosen.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The engine that moves the bytes: `uring` or `epoll`.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// What the engine found and uses, comma separated; empty for epoll.
    pub fn engine_features(&self) -> &str {
        &self.features
    }

    /// The CPU of each shard; `None` for one that is not pinned.
    pub fn cpus(&self) -> Vec<Option<usize>> {
        self.shards.iter().map(|shard| shard.cpu).collect()
    }

    /// The most memory that peers can make this server take, in bytes, whatever they do: for each shard
    /// [`ServerBuilder::memory_per_shard`], three messages of the largest size, 16 KiB for each connection
    /// that it may accept ([`ServerBuilder::connections_max`]), its receive buffers, and some 34 MiB of
    /// buffers that it keeps to use again. What the program itself takes comes on top, and so does what its
    /// handlers make of their requests.
    pub fn memory_ceiling_bytes(&self) -> usize {
        self.memory_ceiling_bytes
    }

    /// The present values of all counters, summed over the shards.
    pub fn metrics(&self) -> Metrics {
        Metrics::sum(self.shards.iter().map(|shard| &*shard.counters))
    }

    /// Whether every shard runs. It ends by [`Server::shut_down`], or by a failure that
    /// [`Server::wait`] returns.
    pub fn is_running(&self) -> bool {
        let mut threads = self.shards.iter().filter_map(|shard| shard.thread.as_ref());
        !threads.any(JoinHandle::is_finished)
    }

    /// Begins to shut down and returns at once: no new calls are taken, those in flight may end
    /// within the drain time, and every client is told.
    pub fn shut_down(&self) {
        for shard in &self.shards {
            shard.mailbox.begin_drain();
        }
    }

    /// Waits until the server has ended, which [`Server::shut_down`] brings about.
    ///
    /// # Errors
    /// What ended a shard before its time. [`ServeError::WaitOnOwnThread`] at once when a handler of the server,
    /// or what one has spawned, waits for it: the server shuts down then.
    pub fn wait(mut self) -> Result<(), ServeError> {
        if self.is_on_own_thread() {
            return Err(ServeError::WaitOnOwnThread);
        }
        self.join();
        match self.failures.take() {
            failures if failures.is_empty() => Ok(()),
            failures => Err(ServeError::Shards(failures)),
        }
    }

    fn join(&mut self) {
        // Every shard's thread holds a sender. The watchdog needs threads that are not joined.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        while ended.recv().is_ok() {}
        drop(self.watchdog.take());
        for shard in &mut self.shards {
            if let Some(Err(panic)) = shard.thread.take().map(JoinHandle::join) {
                let text = panics::text(panic);
                self.failures.add(ShardFailure::Panicked { text });
            }
        }
    }

    /// Whether the calling thread is one that [`Server::join`] waits for.
    fn is_on_own_thread(&self) -> bool {
        let here = std::thread::current().id();
        let shards = self.shards.iter().map(|shard| shard.thread.as_ref());
        let tokio_thread = self.tokio_thread.as_ref().and_then(TokioThread::thread);
        let watchdog = self.watchdog.as_ref().and_then(Watchdog::thread);
        shards
            .chain([tokio_thread, watchdog])
            .flatten()
            .any(|thread| thread.thread().id() == here)
    }

    /// Has another thread wait until the server has ended, and put things away.
    fn end_elsewhere(&mut self) {
        tracing::error!(
            "a server was dropped on a thread of its own, by a handler or by what one has spawned, where it can't wait \
             for itself: it shuts down, and ends after this. Call Server::shut_down there instead, and drop the server \
             where it was started"
        );
        // Should there be no thread, it is never dropped: its shards end all the same.
        let whole = ManuallyDrop::new(std::mem::replace(self, Self::of_nothing()));
        let ended = std::thread::Builder::new()
            .name("ringcall-end".into())
            .spawn(move || drop(ManuallyDrop::into_inner(whole)));
        if let Err(error) = ended {
            tracing::error!(%error, "nothing waits for the end of a server that was dropped on its own thread");
        }
    }

    /// What is left of a server whose parts were taken.
    fn of_nothing() -> Self {
        Self {
            addresses: Vec::new(),
            engine: "",
            features: String::new(),
            memory_ceiling_bytes: 0,
            watchdog: None,
            shards: Vec::new(),
            failures: Arc::default(),
            ended: Mutex::new(channel().1),
            _listening: Vec::new(),
            tokio_thread: None,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
        if self.is_on_own_thread() {
            self.end_elsewhere();
        } else {
            self.join();
        }
    }
}
