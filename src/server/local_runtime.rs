//! A shard without a server: for programs that only call, as fast as a shard can.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::builder::ServeError;
use super::start::choose_engine;
use crate::engine::{Engine, EngineConfig, Idle, ShardStart, run_shard};
use crate::platform::options::StreamOptions;
use crate::platform::shortage::{lacking, room_for};
use crate::proto::limits::Limits;
use crate::shard::context::Shard;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::{Place, ShardConfig};

/// Runs a future on a shard of its own, on the calling thread: a load generator, a batch job, a
/// test. Calls are made with [`Shard::client`]; nothing is served.
///
/// ```no_run
/// # fn main() -> Result<(), ringcall::ServeError> {
/// let threads = ringcall::LocalRuntime::builder().cpu(1).run(|shard| async move { shard.count() })?;
/// assert_eq!(threads, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalRuntime(());

/// The description of a [`LocalRuntime`].
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct LocalRuntimeBuilder {
    cpu: Option<usize>,
    engine: Engine,
    idle: Idle,
    limits: Limits,
}

/// Connections are closed within this time when the future has ended.
const DRAIN: Duration = Duration::from_secs(1);

impl LocalRuntime {
    /// Starts to describe a runtime.
    pub fn builder() -> LocalRuntimeBuilder {
        LocalRuntimeBuilder {
            cpu: None,
            engine: Engine::default(),
            idle: Idle::default(),
            limits: Limits::default(),
        }
    }
}

impl LocalRuntimeBuilder {
    /// Pins the calling thread to this CPU. Default: not pinned.
    pub fn cpu(mut self, cpu: impl Into<Option<usize>>) -> Self {
        self.cpu = cpu.into();
        self
    }

    /// The engine. Default: [`Engine::Auto`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// What the thread does when it has nothing to do. Default: spin for 50 µs, then sleep.
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// What is accepted from a server.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs the future to its end and returns its value. What it has spawned is dropped then.
    ///
    /// # Errors
    /// A wrong limit, an engine that can't be had, or its failure; also a panic of the future.
    pub fn run<T, F, Fut>(self, main: F) -> Result<T, ServeError>
    where
        T: 'static,
        F: FnOnce(Shard) -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.limits.check().map_err(ServeError::Configuration)?;
        room_for("a shard", super::start::LOCAL_BYTES).map_err(ServeError::Start)?;
        let (engine, _) = choose_engine(self.engine)?;
        let mailbox = Mailbox::new(engine == Engine::Epoll)
            .map_err(|error| ServeError::Start(lacking("the shard's eventfd", &error)))?;
        let result = Rc::new(RefCell::new(None));
        let (ready, started) = channel();
        let run_main = {
            let (result, mailbox) = (Rc::clone(&result), Arc::clone(&mailbox));
            move |shard: &Shard| {
                let main = main(shard.clone());
                // Ends the shard also when the future panics.
                let end = DrainOnDrop(mailbox);
                shard.spawn(async move {
                    let _end = end;
                    let value = main.await;
                    *result.borrow_mut() = Some(value);
                });
                Ok(Vec::new())
            }
        };
        let start = ShardStart {
            place: Place {
                id: 0,
                count: 1,
                cpu: self.cpu,
                serves: false,
            },
            shard_config: ShardConfig {
                limits: Arc::new(self.limits),
                connections_max: 1,
                recv_buffers: super::builder::RECV_BUFFERS,
                recv_buffer_bytes: super::builder::RECV_BUFFER_BYTES,
                request_bytes_max: usize::MAX,
                drain_timeout: DRAIN,
            },
            engine_config: EngineConfig {
                idle: self.idle,
                stream: StreamOptions::default(),
                tokio: None,
            },
            counters: Arc::new(Counters::default()),
            mailbox,
            listeners: Vec::new(),
            factory: Box::new(run_main),
            ready,
        };
        run_shard(engine, start)
            .map_err(|error| ServeError::Shards(vec![format!("the shard failed: {error}")]))?;
        if let Ok(Err(failure)) = started.try_recv() {
            return Err(ServeError::Shards(vec![failure.into_text()]));
        }
        let value = result.borrow_mut().take();
        value.ok_or_else(|| ServeError::Shards(vec!["the future panicked; see the log".into()]))
    }
}

struct DrainOnDrop(Arc<Mailbox>);

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        self.0.begin_drain();
    }
}
