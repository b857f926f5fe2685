//! The load that an agent runs for a coordinator.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::LEASE;
use super::wire::{Counts, Ending, LoadEvent};
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
    events: VecDeque<LoadEvent>,
    known: u64,
    begins_at: Option<Instant>,
    renewed: Instant,
    has_ended: bool,
    is_end_told: bool,
}

impl State {
    fn new() -> Self {
        Self {
            events: VecDeque::new(),
            known: 0,
            begins_at: None,
            renewed: Instant::now(),
            has_ended: false,
            is_end_told: false,
        }
    }

    /// Whether nobody waits for anything of it any more. A load that has ended is still its
    /// coordinator's until that has heard so: what was recorded last is not fetched before.
    fn is_over(&self) -> bool {
        let is_awaited = self.begins_at.is_some() && !self.is_end_told;
        self.has_ended && (!is_awaited || self.is_abandoned())
    }

    /// Whether the coordinator has been silent for too long.
    fn is_abandoned(&self) -> bool {
        self.renewed.elapsed() > LEASE
    }

    /// Keeps something for the coordinator.
    ///
    /// # Errors
    /// When there is too much that it has not confirmed.
    fn tell(&mut self, event: LoadEvent) -> Result<(), String> {
        if self.events.len() >= UNCONFIRMED_MAX {
            return Err(format!(
                "the coordinator has not taken the last {UNCONFIRMED_MAX} intervals"
            ));
        }
        self.events.push_back(event);
        Ok(())
    }

    /// Keeps the last thing, for which there is always room.
    fn tell_end(&mut self, event: LoadEvent) {
        self.events.push_back(event);
        self.has_ended = true;
    }

    /// What happened after the first `known` things.
    fn next(&mut self, known: u64) -> Option<LoadEvent> {
        self.renewed = Instant::now();
        while self.known < known && self.events.pop_front().is_some() {
            self.known += 1;
        }
        self.is_end_told |= self.has_ended && self.events.len() <= 1;
        self.events.front().cloned()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whoever held it did not panic")
    }

    /// Ends the load when nobody asks for it any more.
    fn check_lease(&self) {
        if self.state().is_abandoned() && !self.stop.swap(true, Ordering::Relaxed) {
            tracing::warn!("nothing heard from the coordinator for {LEASE:?}: its load is ended");
        }
    }
}

impl Load {
    /// Starts to connect.
    pub(super) fn start(lease: u64, plan: Plan) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            state: Mutex::new(State::new()),
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

    /// Whether another may take its place.
    pub(super) fn is_over(&self) -> bool {
        self.shared.state().is_over()
    }

    pub(super) fn begin_in(&self, time: Duration) {
        self.shared.state().begins_at = Some(Instant::now() + time);
    }

    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// What happened after the first `known` things.
    pub(super) fn next(&self, known: u64) -> Option<LoadEvent> {
        self.shared.state().next(known)
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
            Event::Ready => shared.state().tell(LoadEvent::Ready),
            Event::Interval(interval) => {
                let end = interval.start + interval.length;
                // Made before the lock is taken: the coordinator's questions don't wait for it.
                let counts = Counts::of(&interval.record, end);
                shared.state().tell(LoadEvent::Interval(counts))
            }
            Event::Begin | Event::Server(..) | Event::Tick => Ok(()),
        }
    });
    shared.state().tell_end(match outcome {
        Ok(outcome) => LoadEvent::Done(Ending::of(&outcome)),
        Err(why) => LoadEvent::Failed(why),
    });
}

/// Things that a coordinator may leave unconfirmed; a lease of the shortest intervals (10 ms) has half
/// as many.
const UNCONFIRMED_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> LoadEvent {
        LoadEvent::Done(Ending {
            window_ns: 1,
            is_interrupted: false,
            is_target_lost: false,
        })
    }

    #[test]
    fn a_load_is_over_when_its_coordinator_has_heard_of_its_end() {
        let mut state = State::new();
        state.begins_at = Some(Instant::now());
        state.tell(LoadEvent::Ready).unwrap();
        assert_eq!(state.next(0), Some(LoadEvent::Ready));
        assert!(!state.is_over());
        state.tell_end(done());
        assert!(!state.is_over(), "nobody has heard of the end");
        assert_eq!(state.next(0), Some(LoadEvent::Ready));
        assert!(!state.is_over(), "asked again for the same");
        assert_eq!(state.next(1), Some(done()));
        assert!(state.is_over());
    }

    #[test]
    fn a_load_that_nobody_fetches_is_over_with_its_lease() {
        let mut state = State::new();
        state.begins_at = Some(Instant::now());
        state.tell_end(done());
        assert!(!state.is_over());
        state.renewed = Instant::now().checked_sub(LEASE * 2).unwrap();
        assert!(state.is_over());
    }

    #[test]
    fn a_load_that_never_began_is_over_at_its_end() {
        let mut state = State::new();
        assert!(!state.is_over());
        state.tell_end(LoadEvent::Failed("interrupted".into()));
        assert!(state.is_over());
    }

    #[test]
    fn a_coordinator_that_confirms_nothing_ends_its_load() {
        let mut state = State::new();
        for _ in 0..UNCONFIRMED_MAX {
            state.tell(LoadEvent::Ready).unwrap();
            assert_eq!(state.next(0), Some(LoadEvent::Ready));
        }
        let why = state.tell(LoadEvent::Ready).unwrap_err();
        assert!(why.contains("coordinator"), "{why}");
        // What is confirmed makes room, and the end has a place of its own.
        assert_eq!(state.next(1), Some(LoadEvent::Ready));
        state.tell(LoadEvent::Ready).unwrap();
        state.tell_end(done());
        assert_eq!(state.next(UNCONFIRMED_MAX as u64 + 1), Some(done()));
    }
}
