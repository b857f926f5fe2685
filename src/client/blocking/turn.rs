//! One at a time, in the order in which they came, and each for as long as it wants to wait.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A lock whose waiters give up at a time of their own, and are served first come, first served.
#[derive(Debug)]
pub(super) struct Turns<T> {
    queue: Mutex<Queue<T>>,
    /// Told whenever it is somebody else's turn.
    has_moved: Condvar,
}

#[derive(Debug)]
struct Queue<T> {
    /// What the turn is about; lent to the one whose turn it is.
    lent: Option<T>,
    /// Those that wait, the first of them first.
    tickets: VecDeque<u64>,
    tickets_given: u64,
}

impl<T> Turns<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            queue: Mutex::new(Queue {
                lent: Some(value),
                tickets: VecDeque::new(),
                tickets_given: 0,
            }),
            has_moved: Condvar::new(),
        }
    }

    /// Waits for a turn; `None` when the deadline passes before.
    pub(super) fn wait(&self, deadline: Instant) -> Option<Turn<'_, T>> {
        let mut queue = self.lock();
        queue.tickets_given += 1;
        let ticket = queue.tickets_given;
        queue.tickets.push_back(ticket);
        loop {
            if queue.tickets.front() == Some(&ticket)
                && let Some(value) = queue.lent.take()
            {
                queue.tickets.pop_front();
                return Some(Turn {
                    turns: self,
                    value: Some(value),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                queue.tickets.retain(|waiting| *waiting != ticket);
                // Who came after may be first now.
                self.has_moved.notify_all();
                return None;
            }
            let waited = self.has_moved.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's turn; its drop ends it, also in a panic.
#[derive(Debug)]
pub(super) struct Turn<'a, T> {
    turns: &'a Turns<T>,
    value: Option<T>,
}

impl<T> std::ops::Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("given back by the drop alone")
    }
}

impl<T> std::ops::DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("given back by the drop alone")
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.turns.lock().lent = self.value.take();
        self.turns.has_moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// Waits until so many have asked for a turn, whatever became of them.
    fn until_asked<T>(turns: &Turns<T>, count: u64) {
        while turns.lock().tickets_given < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn turns_are_taken_in_order_and_one_that_gave_up_holds_nobody_back() {
        let turns = Turns::new(0);
        let far = Instant::now() + Duration::from_secs(60);
        let first = turns.wait(far).expect("nobody is before it");
        let (done, order) = channel();
        std::thread::scope(|scope| {
            let late = scope.spawn(|| {
                let soon = Instant::now() + Duration::from_millis(20);
                turns.wait(soon).is_none()
            });
            until_asked(&turns, 2);
            for number in [3, 4] {
                let (done, turns) = (done.clone(), &turns);
                scope.spawn(move || {
                    let mut turn = turns.wait(far).expect("it comes in time");
                    *turn += 1;
                    done.send(number).expect("the test listens");
                });
                until_asked(turns, number);
            }
            assert!(late.join().expect("no panic"));
            drop(first);
            assert_eq!([order.recv(), order.recv()], [Ok(3), Ok(4)]);
        });
        assert_eq!(*turns.wait(far).expect("all have ended"), 2);
    }

    #[test]
    fn a_panic_ends_a_turn_and_keeps_what_it_was_about() {
        let turns = Turns::new(7);
        let far = Instant::now() + Duration::from_secs(60);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut turn = turns.wait(far).expect("free");
            *turn += 1;
            panic!("in the middle");
        }));
        assert!(panicked.is_err());
        assert_eq!(*turns.wait(far).expect("free again"), 8);
    }
}
