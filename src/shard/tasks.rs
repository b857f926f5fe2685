//! The futures of a shard: handlers that wait, and what they have spawned.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::conn::Conn;
use super::counters::Counters;
use super::future_cell::{Fresh, FutureCell, Keep, Work};
use super::hook::ObservedCall;
use super::mailbox::{Mailbox, TaskWaker};
use super::purpose::{Origin, Purpose};
use super::timers::TimerKey;
use crate::panics;

/// Names a task. A name that is no longer valid does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    /// Its place.
    pub(crate) index: u32,
    generation: u32,
}

/// How the first poll of a future went.
#[derive(Debug)]
pub(crate) enum Started {
    /// It is done and gone.
    Done,
    /// It waits, under this name.
    Waiting(TaskKey),
    /// It panicked and is gone. The text is the panic's.
    Panicked(String),
}

/// How a later poll went.
#[derive(Debug)]
pub(crate) enum Resumed {
    /// The future goes on waiting, or is gone already.
    NotEnded,
    /// It is done and gone.
    Done(Purpose),
    /// It panicked and is gone.
    Panicked(Purpose, String),
}

/// All tasks of one shard. Each has a slot with memory and a waker, which are used again.
pub(crate) struct Tasks {
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// The free place that was used last, out of its slot.
    spare: Cell<Option<Box<TaskCell>>>,
    waiting: Cell<usize>,
    /// Set while the reply of a call is dropped, which is answered then: should that panic, its result
    /// stands.
    pub(super) is_answered: Cell<bool>,
    /// The call that is being handled, until the end of its poll.
    pub(super) observed: ObservedCall,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// `None` while the future is being polled, and while this is the spare place.
    task: Option<Box<TaskCell>>,
    /// Set while a future waits here.
    purpose: Option<Purpose>,
    deadline: Option<TimerKey>,
    /// What stands in the account of the call's connection.
    memory: usize,
}

/// What a poll needs; taken out of the slot meanwhile, so that the future may start others.
struct TaskCell {
    /// The slot.
    index: u32,
    cell: FutureCell,
    waker: TaskWaker,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TaskCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskCell")
            .field("waker", &self.waker)
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// Makes the names of the future that was here invalid.
    fn bump(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

impl Tasks {
    /// No tasks.
    pub(crate) fn new(mailbox: Arc<Mailbox>, counters: Arc<Counters>) -> Self {
        Self {
            mailbox,
            counters,
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            spare: Cell::new(None),
            waiting: Cell::new(0),
            is_answered: Cell::new(false),
            observed: ObservedCall::default(),
        }
    }

    /// Number of futures that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Polls a new future, which `put` puts into its place, at once. Only if it waits does it become
    /// a task.
    #[inline(always)]
    pub(super) fn start<O: Keep, W: Work>(
        &self,
        put: impl for<'a> FnOnce(&'a mut FutureCell) -> Fresh<'a, O, W>,
        origin: Origin<'_>,
    ) -> Started {
        let mut task = self.take_cell();
        let TaskCell { cell, waker, .. } = &mut *task;
        waker.before_poll();
        let mut cx = Context::from_waker(waker.waker());
        let mut was_made = false;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let fresh = put(cell);
            was_made = true;
            fresh.poll(origin, &mut cx)
        }));
        match polled {
            Ok(Poll::Ready(())) => {
                self.return_cell(task);
                Started::Done
            }
            Ok(Poll::Pending) => {
                self.waiting.set(self.waiting.get() + 1);
                Started::Waiting(self.settle_in(task, origin.to_purpose()))
            }
            Err(panic) => {
                let started = if !was_made {
                    Started::Panicked(panics::text(panic))
                } else {
                    match self.after_panic(&mut task.cell, origin, panics::text(panic)) {
                        Ok(()) => Started::Done,
                        Err(text) => Started::Panicked(text),
                    }
                };
                self.return_cell(task);
                started
            }
        }
    }

    /// Polls a task that was woken.
    pub(crate) fn resume(&self, index: u32) -> Resumed {
        let taken = {
            let mut slots = self.slots.borrow_mut();
            slots
                .get_mut(index as usize)
                .and_then(|slot| Some((slot.purpose.take()?, slot.task.take()?)))
        };
        let Some((mut purpose, mut task)) = taken else {
            return Resumed::NotEnded;
        };
        purpose.go_on(&self.observed);
        let TaskCell { cell, waker, .. } = &mut *task;
        waker.before_poll();
        let mut cx = Context::from_waker(waker.waker());
        let polled = catch_unwind(AssertUnwindSafe(|| cell.poll(purpose.origin(), &mut cx)));
        let ended = match polled {
            Ok(Poll::Pending) => {
                self.settle_in(task, purpose);
                return Resumed::NotEnded;
            }
            Ok(Poll::Ready(())) => Ok(()),
            Err(panic) => self.after_panic(cell, purpose.origin(), panics::text(panic)),
        };
        self.end_waiting(task);
        match ended {
            Ok(()) => Resumed::Done(purpose),
            Err(text) => Resumed::Panicked(purpose, text),
        }
    }

    /// Gives the place of a future back that has waited and is gone.
    fn end_waiting(&self, task: Box<TaskCell>) {
        self.waiting.set(self.waiting.get() - 1);
        self.slots.borrow_mut()[task.index as usize].bump();
        self.return_cell(task);
    }

    fn settle_in(&self, task: Box<TaskCell>, mut purpose: Purpose) -> TaskKey {
        purpose.put_off(&self.observed);
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[task.index as usize];
        let key = TaskKey {
            index: task.index,
            generation: slot.generation,
        };
        (slot.task, slot.purpose) = (Some(task), Some(purpose));
        key
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

    /// Memory that the future of a task takes beyond what every task has.
    pub(crate) fn extra_bytes(&self, key: TaskKey) -> usize {
        let slots = self.slots.borrow();
        let task = slots[key.index as usize].task.as_ref();
        task.map_or(0, |task| task.cell.extra_bytes())
    }

    /// Remembers what was entered in an account for a waiting call, to be taken out when it ends.
    pub(crate) fn set_memory(&self, key: TaskKey, bytes: usize) {
        self.slots.borrow_mut()[key.index as usize].memory = bytes;
    }

    /// Takes that.
    pub(crate) fn take_memory(&self, index: u32) -> usize {
        std::mem::take(&mut self.slots.borrow_mut()[index as usize].memory)
    }

    /// The connection of the call that waits in this place.
    pub(crate) fn conn_of(&self, index: u32) -> Option<Rc<Conn>> {
        match self.slots.borrow().get(index as usize)?.purpose.as_ref()? {
            Purpose::Call { conn, .. } => Some(Rc::clone(conn)),
            Purpose::Background => None,
        }
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
        let (purpose, mut task) = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(key.index as usize)?;
            if slot.generation != key.generation || slot.task.is_none() {
                return None;
            }
            (slot.purpose.take()?, slot.task.take()?)
        };
        self.drop_quietly(&mut task.cell);
        self.end_waiting(task);
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

    /// A place for a new future. Most calls use the same one, over and over.
    #[inline(always)]
    fn take_cell(&self) -> Box<TaskCell> {
        self.spare.take().unwrap_or_else(|| self.take_free())
    }

    fn take_free(&self) -> Box<TaskCell> {
        if let Some(index) = self.free.borrow_mut().pop()
            && let Some(task) = self.slots.borrow_mut()[index as usize].task.take()
        {
            return task;
        }
        self.add_slot()
    }

    #[cold]
    fn add_slot(&self) -> Box<TaskCell> {
        let mut slots = self.slots.borrow_mut();
        let index = slots.len() as u32;
        slots.push(Slot {
            generation: 0,
            task: None,
            purpose: None,
            deadline: None,
            memory: 0,
        });
        Box::new(TaskCell {
            index,
            cell: FutureCell::new(),
            waker: self.mailbox.waker(index),
        })
    }

    /// Gives a place back whose future is gone.
    #[inline(always)]
    fn return_cell(&self, mut task: Box<TaskCell>) {
        if !task.cell.is_worth_keeping() {
            task.cell = FutureCell::new();
        }
        if let Some(other) = self.spare.replace(Some(task)) {
            let mut slots = self.slots.borrow_mut();
            let index = other.index;
            slots[index as usize].task = Some(other);
            self.free.borrow_mut().push(index);
        }
    }

    /// Clears up after a poll that has panicked with this text. It is returned as an error unless the call
    /// was answered before: then its result stands.
    #[cold]
    fn after_panic(
        &self,
        cell: &mut FutureCell,
        origin: Origin<'_>,
        text: String,
    ) -> Result<(), String> {
        // It was its reply that panicked, or its own drop at its end. What a reply has spawned while it was
        // dropped is no call.
        let is_call = matches!(origin, Origin::Call { .. });
        let was_answered = (is_call && self.is_answered.take()) || !cell.is_occupied();
        self.drop_quietly(cell);
        if !was_answered {
            return Err(text);
        }
        self.note_panic_in_drop(&text);
        Ok(())
    }

    /// Drops a future that may panic while it is dropped.
    fn drop_quietly(&self, cell: &mut FutureCell) {
        if let Err(text) = panics::caught(|| cell.clear()) {
            self.note_panic_in_drop(&text);
        }
    }

    #[cold]
    fn note_panic_in_drop(&self, text: &str) {
        self.counters.panics.add(1);
        tracing::error!(panic = text, "a handler panicked while it was dropped");
    }
}

#[cfg(test)]
mod tests {
    use super::super::handler::put_background;
    use super::*;
    use std::future::{pending, poll_fn};

    fn tasks() -> (Tasks, Arc<Mailbox>) {
        let mailbox = Mailbox::new(true).expect("a descriptor");
        (Tasks::new(Arc::clone(&mailbox), Arc::default()), mailbox)
    }

    fn start(tasks: &Tasks, future: impl Future<Output = ()> + 'static) -> Started {
        tasks.start(|cell| put_background(cell, future), Origin::Background)
    }

    #[test]
    fn a_future_that_is_ready_at_once_leaves_no_task() {
        let (tasks, _) = tasks();
        assert!(matches!(start(&tasks, async {}), Started::Done));
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
        assert!(matches!(start(&tasks, twice), Started::Waiting(_)));
        let woken = mailbox.pop_woken().expect("woken");
        assert!(matches!(tasks.resume(woken), Resumed::Done(_)));
        assert!(
            matches!(tasks.resume(woken), Resumed::NotEnded),
            "a late wake-up is harmless"
        );
    }

    #[test]
    fn a_panic_is_caught_and_its_slot_used_again() {
        let (tasks, _) = tasks();
        let polled = start(&tasks, async { panic!("boom") });
        assert!(matches!(polled, Started::Panicked(text) if text == "boom"));
        assert!(matches!(start(&tasks, async {}), Started::Done));
        assert_eq!(tasks.slots.borrow().len(), 1);
    }

    #[test]
    fn an_old_name_does_not_cancel_a_new_task() {
        let (tasks, _) = tasks();
        let Started::Waiting(first) = start(&tasks, pending()) else {
            panic!()
        };
        assert!(tasks.cancel(first).is_some());
        let Started::Waiting(second) = start(&tasks, pending()) else {
            panic!()
        };
        assert_eq!(first.index, second.index);
        assert!(tasks.cancel(first).is_none());
        tasks.cancel_all();
        assert_eq!(tasks.waiting(), 0);
    }
}
