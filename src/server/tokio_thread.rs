//! A tokio runtime beside shards, for what handlers await of tokio's.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::thread::{sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;

use crate::panics;

/// Drives the timers, sockets and tasks that handlers make with tokio, on a thread of its own, which
/// sleeps as long as there are none. Handlers stay on their shards: only what wakes them comes from
/// here. So a library that needs tokio works in a handler, and does so alike on either engine.
#[derive(Debug)]
pub(super) struct TokioThread {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl TokioThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no descriptor or no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let cpus = sched_getaffinity(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("ringcall-block")
            // Threads for blocking work are started by whoever gives some: by a shard that is pinned,
            // as a rule, which is where they must not stay.
            .on_thread_start(move || {
                if let Ok(cpus) = &cpus
                    && let Err(error) = sched_setaffinity(None, cpus)
                {
                    tracing::debug!(%error, "a thread for blocking work keeps its CPUs");
                }
            })
            .build()?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("ringcall-tokio".into())
            .spawn(move || drive(runtime, &stopped))?;
        Ok(Self {
            handle,
            stop,
            thread: Some(thread),
        })
    }

    /// What a shard's thread enters.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The thread, for as long as there is one.
    pub(super) fn thread(&self) -> Option<&JoinHandle<()>> {
        self.thread.as_ref()
    }
}

impl Drop for TokioThread {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            let panic = panics::text(panic);
            tracing::error!(panic, "the thread of tokio's runtime panicked");
        }
    }
}

/// Runs what was spawned until it is told to stop. The runtime catches the panics of tasks, but not of
/// what they have thrown and it drops: that costs the others nothing either.
fn drive(runtime: Runtime, stopped: &Notify) {
    while let Err(panic) = panics::caught(|| runtime.block_on(stopped.notified())) {
        tracing::error!(panic, "what a spawned task left behind panicked");
    }
    // What was spawned is dropped; blocking work that still runs is not waited for.
    if let Err(panic) = panics::caught(|| runtime.shutdown_background()) {
        tracing::error!(panic, "a spawned task panicked while it was dropped");
    }
}
