//! Building, running and ending a server.

mod builder;
mod companion;
mod local_runtime;
mod metrics;
mod stack;
mod start;
mod watchdog;

pub use self::builder::{ServeError, ServerBuilder};
pub use self::local_runtime::{LocalRuntime, LocalRuntimeBuilder};
pub use self::metrics::Metrics;

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use self::companion::Companion;
use self::watchdog::Watchdog;
use crate::engine::Failures;
use crate::platform::listen::Listening;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;

/// A server that runs. Dropping it shuts it down and waits until it has ended.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<String>,
    engine: &'static str,
    features: String,
    /// Ended before the shards whose threads it looks at.
    watchdog: Option<Watchdog>,
    shards: Vec<ShardHandle>,
    failures: Arc<Failures>,
    /// Closed when the threads of all shards have ended.
    ended: Mutex<Receiver<()>>,
    /// Removes socket files when the server ends.
    _listening: Vec<Listening>,
    /// Ends after the shards, whose handlers use it.
    _companion: Option<Companion>,
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
    /// What ended a shard before its time.
    pub fn wait(mut self) -> Result<(), ServeError> {
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
            if let Some(thread) = shard.thread.take()
                && thread.join().is_err()
            {
                self.failures
                    .add("a shard's thread panicked; see the log".to_owned());
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
        self.join();
    }
}
