//! The futures of a shard: handlers that wait, and what they have spawned.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::conn::Conn;
use super::counters::Counters;
use super::future_cell::FutureCell;
use super::mailbox::{Mailbox, TaskWaker};
use super::timers::TimerKey;

/// Names a task. A name that is no longer valid does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    /// Its place.
    pub(crate) index: u32,
    generation: u32,
}

/// What a task is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// It runs the handler of a call.
    Call {
        /// Where the call came from.
        conn: Rc<Conn>,
        /// Its id.
        call_id: u64,
    },
    /// It was spawned.
    Background,
}

/// How a poll went.
#[derive(Debug)]
pub(crate) enum Polled {
    /// The future is done and gone.
    Done(Purpose),
    /// The future panicked and is gone. The text is the panic's.
    Panicked(Purpose, String),
    /// The future waits, under this name.
    Waiting(TaskKey),
    /// There is no such task any more.
    Gone,
}

/// All tasks of one shard. Each has a slot with memory and a waker, which are used again.
#[derive(Debug)]
pub(crate) struct Tasks {
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    waiting: Cell<usize>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// `None` while the future is being polled.
    body: Option<Box<Body>>,
    /// Set while a future waits here.
    purpose: Option<Purpose>,
    deadline: Option<TimerKey>,
}

/// What a poll needs; taken out of the slot meanwhile, so that the future may start others.
struct Body {
    cell: FutureCell,
    waker: TaskWaker,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("waker", &self.waker)
            .finish_non_exhaustive()
    }
}

impl Tasks {
    /// No tasks.
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self {
            mailbox,
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            waiting: Cell::new(0),
        }
    }

    /// Number of futures that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Polls a new future at once. Only if it waits does it become a task.
    #[inline]
    pub(crate) fn start<F>(&self, future: F, purpose: Purpose) -> Polled
    where
        F: Future<Output = ()> + 'static,
    {
        let (index, mut body) = self.take_free();
        body.cell.put(future);
        self.waiting.set(self.waiting.get() + 1);
        self.poll(index, body, purpose)
    }

    /// Polls a task that was woken.
    pub(crate) fn resume(&self, index: u32) -> Polled {
        let taken = {
            let mut slots = self.slots.borrow_mut();
            slots
                .get_mut(index as usize)
                .and_then(|slot| Some((slot.purpose.take()?, slot.body.take()?)))
        };
        match taken {
            Some((purpose, body)) => self.poll(index, body, purpose),
            None => Polled::Gone,
        }
    }

    #[inline]
    fn poll(&self, index: u32, mut body: Box<Body>, purpose: Purpose) -> Polled {
        body.waker.before_poll();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let Body { cell, waker } = &mut *body;
            let polled = cell.poll(&mut Context::from_waker(waker.waker()));
            if polled.is_ready() {
                cell.clear();
            }
            polled
        }));
        match polled {
            Ok(Poll::Ready(())) => {
                self.put_free(index, body);
                Polled::Done(purpose)
            }
            Ok(Poll::Pending) => {
                let mut slots = self.slots.borrow_mut();
                let slot = &mut slots[index as usize];
                (slot.body, slot.purpose) = (Some(body), Some(purpose));
                Polled::Waiting(TaskKey {
                    index,
                    generation: slot.generation,
                })
            }
            Err(panic) => {
                drop_quietly(&mut body.cell);
                self.put_free(index, body);
                Polled::Panicked(purpose, panic_text(&*panic))
            }
        }
    }

    /// Remembers the timer of a waiting call, to be cancelled when it ends.
    pub(crate) fn set_deadline(&self, key: TaskKey, timer: TimerKey) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[key.index as usize];
        if slot.generation == key.generation {
            slot.deadline = Some(timer);
        }
    }

    /// Takes the timer of a task.
    pub(crate) fn take_deadline(&self, index: u32) -> Option<TimerKey> {
        self.slots
            .borrow_mut()
            .get_mut(index as usize)?
            .deadline
            .take()
    }

    /// The name of the task in this place, as it is now.
    pub(crate) fn key(&self, index: u32) -> Option<TaskKey> {
        let slots = self.slots.borrow();
        slots.get(index as usize).map(|slot| TaskKey {
            index,
            generation: slot.generation,
        })
    }

    /// Drops a waiting future before its end. `None`: it is gone, or is just being polled.
    pub(crate) fn cancel(&self, key: TaskKey) -> Option<Purpose> {
        let (purpose, mut body) = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(key.index as usize)?;
            if slot.generation != key.generation || slot.body.is_none() {
                return None;
            }
            (slot.purpose.take()?, slot.body.take()?)
        };
        drop_quietly(&mut body.cell);
        self.put_free(key.index, body);
        Some(purpose)
    }

    /// Drops all waiting futures: the shard ends.
    pub(crate) fn cancel_all(&self) {
        let count = self.slots.borrow().len() as u32;
        for index in 0..count {
            if let Some(key) = self.key(index) {
                self.cancel(key);
            }
        }
    }

    #[inline]
    fn take_free(&self) -> (u32, Box<Body>) {
        if let Some(index) = self.free.borrow_mut().pop()
            && let Some(body) = self.slots.borrow_mut()[index as usize].body.take()
        {
            return (index, body);
        }
        self.add_slot()
    }

    #[cold]
    fn add_slot(&self) -> (u32, Box<Body>) {
        let mut slots = self.slots.borrow_mut();
        let index = slots.len() as u32;
        slots.push(Slot {
            generation: 0,
            body: None,
            purpose: None,
            deadline: None,
        });
        let waker = self.mailbox.waker(index);
        (
            index,
            Box::new(Body {
                cell: FutureCell::new(),
                waker,
            }),
        )
    }

    #[inline]
    fn put_free(&self, index: u32, mut body: Box<Body>) {
        if !body.cell.is_worth_keeping() {
            body.cell = FutureCell::new();
        }
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.body = Some(body);
        self.free.borrow_mut().push(index);
        self.waiting.set(self.waiting.get() - 1);
    }
}

/// Drops a future that may panic once more while it is dropped.
fn drop_quietly(cell: &mut FutureCell) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| cell.clear())) {
        tracing::error!(
            panic = panic_text(&*panic),
            "a handler panicked while it was dropped"
        );
    }
}

/// What `panic!` said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};

    fn tasks() -> (Tasks, Arc<Mailbox>) {
        let mailbox = Mailbox::new(true).expect("a descriptor");
        (Tasks::new(Arc::clone(&mailbox)), mailbox)
    }

    #[test]
    fn a_future_that_is_ready_at_once_leaves_no_task() {
        let (tasks, _) = tasks();
        assert!(matches!(
            tasks.start(async {}, Purpose::Background),
            Polled::Done(_)
        ));
        assert_eq!(tasks.waiting(), 0);
    }

    #[test]
    fn a_woken_future_is_polled_to_its_end() {
        let (tasks, mailbox) = tasks();
        let mut polls = 0;
        let twice = poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        assert!(matches!(
            tasks.start(twice, Purpose::Background),
            Polled::Waiting(_)
        ));
        let woken = mailbox.pop_woken().expect("woken");
        assert!(matches!(tasks.resume(woken), Polled::Done(_)));
        assert!(
            matches!(tasks.resume(woken), Polled::Gone),
            "a late wake-up is harmless"
        );
    }

    #[test]
    fn a_panic_is_caught_and_its_slot_used_again() {
        let (tasks, _) = tasks();
        let polled = tasks.start(async { panic!("boom") }, Purpose::Background);
        assert!(matches!(polled, Polled::Panicked(_, text) if text == "boom"));
        assert!(matches!(
            tasks.start(async {}, Purpose::Background),
            Polled::Done(_)
        ));
        assert_eq!(tasks.slots.borrow().len(), 1);
    }

    #[test]
    fn an_old_name_does_not_cancel_a_new_task() {
        let (tasks, _) = tasks();
        let Polled::Waiting(first) = tasks.start(pending(), Purpose::Background) else {
            panic!()
        };
        assert!(tasks.cancel(first).is_some());
        let Polled::Waiting(second) = tasks.start(pending(), Purpose::Background) else {
            panic!()
        };
        assert_eq!(first.index, second.index);
        assert!(tasks.cancel(first).is_none());
        tasks.cancel_all();
        assert_eq!(tasks.waiting(), 0);
    }
}
