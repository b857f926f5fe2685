//! The shared part of a client, and how it is locked.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::attempt::{self, Attempt};
use super::builder::Config;
use super::state::State;
use crate::client::CallTarget;
use crate::connection::link::nanos;
use crate::wire::status::Status;

/// What the clones of a client share with its connections' drivers.
pub(super) struct Channel {
    pub(super) target: CallTarget,
    pub(super) config: Config,
    /// Where the client was made, if that was on a runtime.
    runtime: Option<Handle>,
    start: Instant,
    state: Mutex<State>,
}

impl Channel {
    pub(super) fn new(target: CallTarget, config: Config) -> Self {
        let connections_max = config.connections_max;
        Self {
            target,
            config,
            runtime: Handle::try_current().ok(),
            start: Instant::now(),
            state: Mutex::new(State::new(connections_max, fastrand::Rng::new())),
        }
    }

    /// Does something with the state, and wakes whoever must know of it once the lock is released.
    #[inline(always)]
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        if !state.wakers.is_empty() {
            let wakers = state.wakers.take();
            drop(state);
            wakers.wake();
        }
        result
    }

    /// The same where many are woken again and again, so that the memory for them is kept in `spare`.
    pub(super) fn with_many<R>(
        &self,
        spare: &mut Vec<Waker>,
        act: impl FnOnce(&mut State) -> R,
    ) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        let wakers = state.wakers.take_for(std::mem::take(spare));
        drop(state);
        *spare = wakers.wake();
        result
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an attempt to connect, after a pause, on the runtime that this runs on, or else on the
    /// client's.
    pub(super) fn connect(self: &Arc<Self>, pause: Duration) -> Result<(), Status> {
        match (Handle::try_current(), &self.runtime) {
            (Ok(current), _) => self.connect_on(&current, pause),
            (Err(_), Some(own)) => self.connect_on(own, pause),
            (Err(_), None) => {
                let status = Status::failed_precondition(
                    "a ringcall::Client needs a tokio runtime to connect; make it on one, or use a BlockingClient",
                );
                let now_ns = self.now_ns();
                return self.with(|state| state.refuse_attempt(status, now_ns));
            }
        }
        Ok(())
    }

    /// Starts an attempt to connect, which the state says is under way.
    pub(super) fn connect_on(self: &Arc<Self>, runtime: &Handle, pause: Duration) {
        // Not under the lock: a runtime that has shut down drops the task at once, which locks.
        let task = runtime.spawn(attempt::run(Attempt::new(Arc::clone(self)), pause));
        // The last clone may have gone meanwhile.
        if !self.with(|state| state.note_attempt(task.abort_handle())) {
            task.abort();
        }
    }

    /// The last clone of the client is gone.
    pub(super) fn close(&self) {
        if let Some(attempt) = self.with(State::close) {
            attempt.abort();
        }
    }

    /// The runtime that timers of calls may use where there is no current one.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }

    /// Monotonic time since the client was made.
    pub(super) fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// The moment of a time of [`Channel::now_ns`].
    pub(super) fn instant(&self, time_ns: u64) -> Instant {
        self.start + Duration::from_nanos(time_ns)
    }
}

/// The state is left out: it holds whole send buffers.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("target", &self.target)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
