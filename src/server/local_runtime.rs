//! A shard without a server: for programs that only call, as fast as a shard can.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::error::ServeError;
use super::start::choose_engine;
use super::tokio_thread::TokioThread;
use crate::engine::{
    Engine, EngineConfig, Idle, ShardFailure, ShardStart, StartError, drives_a_shard, run_shard,
};
use crate::net::options::StreamOptions;
use crate::platform::pin::unpin_current_thread;
use crate::platform::shortage::{Shortage, room_for};
use crate::shard::context::Shard;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::{Place, ShardConfig};
use crate::wire::limits::Limits;

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
    /// Pins the calling thread to this CPU while the future runs, but not the threads and programs that it
    /// starts; see [`ServerBuilder::pinned`](crate::ServerBuilder::pinned). Default: not pinned.
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
    /// What the future does with tokio is driven by another thread, as in the handlers of a server. So it
    /// may be called on a thread of a tokio runtime too, which has no time for its own tasks meanwhile:
    /// give it a thread, or `spawn_blocking`.
    ///
    /// # Errors
    /// A wrong limit, an engine that can't be had, or its failure; also a panic of the future.
    /// [`ServeError::RuntimeOnShard`] within a handler or another such future, whose shard would stand still.
    pub fn run<T, F, Fut>(self, main: F) -> Result<T, ServeError>
    where
        T: 'static,
        F: FnOnce(Shard) -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.limits.check()?;
        if drives_a_shard() {
            return Err(ServeError::RuntimeOnShard);
        }
        room_for("a shard", super::start::LOCAL_BYTES).map_err(StartError::from)?;
        let (engine, _) = choose_engine(self.engine)?;
        let mailbox = Mailbox::new(engine == Engine::Epoll)
            .map_err(|error| lacking("the shard's eventfd", error))?;
        let tokio_thread = TokioThread::start()
            .map_err(|error| lacking("the runtime for futures that use tokio", error))?;
        let result = Rc::new(RefCell::new(None));
        let (ready, started) = channel();
        let run_main = {
            let (result, mailbox) = (Rc::clone(&result), Arc::clone(&mailbox));
            move |shard: &Shard| {
                let own_shard = shard.clone();
                // Ends the shard also when the future panics.
                let end = DrainOnDrop(mailbox);
                shard.spawn(async move {
                    let _end = end;
                    let value = main(own_shard).await;
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
                memory_bytes: usize::MAX / 4,
                drain_timeout: DRAIN,
            },
            engine_config: EngineConfig {
                idle: self.idle,
                stream: StreamOptions::default(),
            },
            counters: Arc::new(Counters::default()),
            mailbox,
            listeners: Vec::new(),
            factory: Box::new(run_main),
            ready,
        };
        let _pin = PinEnds;
        unbudgeted(|| run_shard(engine, start, &tokio_thread.handle()))
            .map_err(|error| ServeError::Shards(vec![ShardFailure::Engine { shard: 0, error }]))?;
        if let Ok(Err(failure)) = started.try_recv() {
            return Err(failure.into());
        }
        let value = result.borrow_mut().take();
        value.ok_or_else(|| ServeError::Shards(vec![ShardFailure::FuturePanicked]))
    }
}

fn lacking(what: &str, error: io::Error) -> StartError {
    Shortage::new(what, error).into()
}

/// Runs a shard where the caller may be a task of tokio's. Such a task has a budget, which is renewed when
/// it gives way; with that used up, all that the future awaits of tokio's would wait for ever.
fn unbudgeted<R>(run: impl FnOnce() -> R) -> R {
    let mut run = Some(run);
    let whole = poll_fn(|_| Poll::Ready(run.take().map(|run| run())));
    let whole = pin!(tokio::task::unconstrained(whole));
    match whole.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(result)) => result,
        Poll::Ready(None) | Poll::Pending => unreachable!("it is polled once"),
    }
}

/// Gives the calling thread its CPUs back.
struct PinEnds;

impl Drop for PinEnds {
    fn drop(&mut self) {
        unpin_current_thread();
    }
}

struct DrainOnDrop(Arc<Mailbox>);

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        self.0.begin_drain();
    }
}
