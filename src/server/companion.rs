//! A tokio runtime beside shards whose engine has none, for what handlers await of tokio's.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Drives the timers, sockets and tasks that handlers make with tokio, on a thread of its own, which
/// sleeps as long as there are none. Handlers stay on their shards: only what wakes them comes from
/// here. So a library that needs tokio works in a handler on either engine.
#[derive(Debug)]
pub(super) struct Companion {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Companion {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no descriptor or no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("ringcall-tokio".into())
            .spawn(move || {
                runtime.block_on(stopped.notified());
                // What was spawned is dropped; blocking work that still runs is not waited for.
                runtime.shutdown_background();
            })?;
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
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.stop.notify_one();
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_panic)) = ended {
            tracing::error!("a task that a handler has spawned broke its runtime");
        }
    }
}
