//! The load that an agent runs for a coordinator.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::LEASE;
use super::wire::{Counts, Ending, Happening};
use crate::load::generator::Event;
use crate::load::plan::Plan;

/// A load under way, on threads of its own. Dropping it ends it.
pub(super) struct Load {
    pub(super) lease: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// What the coordinator has not confirmed yet, and how much it has before.
    happened: VecDeque<Happening>,
    known: u64,
    begins_at: Option<Instant>,
    renewed: Instant,
    is_over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whoever held it did not panic")
    }

    fn tell(&self, happening: Happening) {
        self.state().happened.push_back(happening);
    }

    /// Ends the load when nobody asks for it any more.
    fn check_lease(&self) {
        if self.state().renewed.elapsed() > LEASE && !self.stop.swap(true, Ordering::Relaxed) {
            tracing::warn!("nothing heard from the coordinator for {LEASE:?}: its load is ended");
        }
    }
}

impl Load {
    /// Starts to connect.
    pub(super) fn start(lease: u64, plan: Plan) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            state: Mutex::new(State {
                happened: VecDeque::new(),
                known: 0,
                begins_at: None,
                renewed: Instant::now(),
                is_over: false,
            }),
        });
        let thread = std::thread::Builder::new()
            .name("agent's load".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &plan)
            })?;
        Ok(Self {
            lease,
            shared,
            thread: Some(thread),
        })
    }

    /// Whether it has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        self.shared.state().is_over
    }

    pub(super) fn begin_in(&self, time: Duration) {
        self.shared.state().begins_at = Some(Instant::now() + time);
    }

    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// What happened after the first `known` things.
    pub(super) fn next(&self, known: u64) -> Option<Happening> {
        let mut state = self.shared.state();
        state.renewed = Instant::now();
        while state.known < known && state.happened.pop_front().is_some() {
            state.known += 1;
        }
        state.happened.front().cloned()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a load has panicked");
        }
    }
}

fn run(shared: &Shared, plan: &Plan) {
    let mut gate = || {
        shared.check_lease();
        shared.state().begins_at
    };
    let outcome = plan.run_from(&mut gate, &shared.stop, &mut |event| {
        shared.check_lease();
        match event {
            Event::Ready => shared.tell(Happening::Ready),
            Event::Interval(interval) => {
                let end = interval.start + interval.length;
                shared.tell(Happening::Interval(Counts::of(&interval.record, end)));
            }
            Event::Begin | Event::Server(..) | Event::Tick => (),
        }
        Ok(())
    });
    shared.tell(match outcome {
        Ok(outcome) => Happening::Done(Ending::of(&outcome)),
        Err(why) => Happening::Failed(why),
    });
    shared.state().is_over = true;
}
