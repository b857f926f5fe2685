//! Handlers that wait, and futures that were spawned: how they go on, and how they end.

use std::rc::Rc;
use std::task::Waker;

use super::ShardCore;
use super::answer::fail;
use super::conn::Conn;
use super::handler::put_background;
use super::memory::SUSPENDED_CALL_BYTES;
use super::purpose::{Origin, Purpose};
use super::tasks::{Resumed, Started, TaskKey};
use super::timers::Due;
use crate::connection::lifecycle::Stage;
use crate::panics;
use crate::planted_bugs::{Bug, is_planted};
use crate::rpc::outcome::CallOutcome;
use crate::wire::status::Status;

impl ShardCore {
    /// Keeps the books of a call whose handler waits after its first poll.
    #[cold]
    pub(super) fn await_call(
        &self,
        conn: &Rc<Conn>,
        call_id: u64,
        task: TaskKey,
        deadline_ns: u64,
    ) {
        let bytes = SUSPENDED_CALL_BYTES + self.tasks.extra_bytes(task);
        self.tasks.set_memory(task, bytes);
        let may_be_more = self.enter_suspended(conn, bytes);
        conn.with_server(|server| {
            server.suspend_call(call_id, task.index);
            if !may_be_more {
                server.stop_calls();
            }
        });
        self.turn.note_suspended(conn);
        self.counters.in_flight.add(1);
        if deadline_ns != u64::MAX {
            let due = Due::CallDeadline(task);
            let timer = self.timers.borrow_mut().add(deadline_ns, due);
            self.tasks.set_deadline(task, timer);
        }
    }

    /// Wakes a future.
    pub(super) fn wake(&self, waker: Waker) {
        if !panics::wake(waker) {
            self.counters.panics.add(1);
        }
    }

    /// Starts a future that belongs to no call.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let started = self
            .tasks
            .start(|cell| put_background(cell, future), Origin::Background);
        if let Started::Panicked(text) = started {
            self.note_background_panic(&text);
        }
    }

    fn note_background_panic(&self, text: &str) {
        self.counters.panics.add(1);
        tracing::error!(panic = text, "a spawned future panicked");
    }

    #[cold]
    pub(super) fn answer_panic(&self, conn: &Rc<Conn>, call_id: u64, text: &str) {
        self.counters.panics.add(1);
        tracing::error!(
            panic = text,
            peer = &*conn.peer,
            call_id,
            "a handler panicked"
        );
        let status = Status::internal("the handler panicked");
        fail(conn, call_id, &status, CallOutcome::Panicked);
    }

    fn end_call(&self, conn: &Rc<Conn>, call_id: u64, task: u32) {
        let memory_bytes = self.tasks.take_memory(task);
        if !is_planted(Bug::AccountNotReleased) {
            conn.budget.account.subtract(memory_bytes);
        }
        conn.with_server(|server| server.end_call(call_id));
        conn.budget.body_wait.restart(self.patience_ns());
        self.counters
            .in_flight
            .set(self.counters.in_flight.get() - 1);
        // Many handlers may have waited for the same thing, and answer all at once.
        self.settle_output(conn);
        conn.attend();
    }

    /// Runs the tasks that were woken before. Those that are woken meanwhile have their turn after
    /// the sockets: a task that yields by waking itself must not keep the shard from them.
    pub(super) fn run_woken(&self) {
        // As a rule there are none, which is quicker found out than how many there are.
        if !self.mailbox.has_woken() {
            return;
        }
        for _ in 0..self.mailbox.woken_count() {
            let Some(index) = self.mailbox.pop_woken() else {
                return;
            };
            if self.memory.is_full()
                && let Some(conn) = self.tasks.conn_of(index)
            {
                conn.answer_briefly();
            }
            let resumed = self.tasks.resume(index);
            if !matches!(resumed, Resumed::NotEnded) {
                self.drop_deadline(index);
            }
            match resumed {
                Resumed::Done(Purpose::Call { conn, call_id, .. }) => {
                    let observed = &self.tasks.observed;
                    observed.end(&conn, call_id, CallOutcome::Answered);
                    self.end_call(&conn, call_id, index);
                }
                Resumed::Panicked(Purpose::Call { conn, call_id, .. }, text) => {
                    self.answer_panic(&conn, call_id, &text);
                    self.end_call(&conn, call_id, index);
                }
                Resumed::Panicked(Purpose::Background, text) => self.note_background_panic(&text),
                Resumed::Done(Purpose::Background) | Resumed::NotEnded => (),
            }
        }
    }

    fn drop_deadline(&self, index: u32) {
        if let Some(timer) = self.tasks.take_deadline(index) {
            self.timers.borrow_mut().cancel(timer);
        }
    }

    /// Drops the handler of a call that its caller gave up, or whose connection has ended.
    pub(super) fn cancel_call(&self, index: u32) {
        self.drop_deadline(index);
        let cancelled = self.tasks.key(index).and_then(|key| self.tasks.cancel(key));
        if let Some(Purpose::Call {
            conn,
            call_id,
            observer,
        }) = cancelled
        {
            self.counters.cancelled.add(1);
            self.end_call(&conn, call_id, index);
            if let Some(observer) = observer {
                observer.end(match conn.stage() {
                    Stage::Open => CallOutcome::Cancelled,
                    _ => CallOutcome::Disconnected,
                });
            }
        }
    }

    /// Drops the handler of a call whose deadline has passed, and says so.
    pub(super) fn expire_call(&self, key: TaskKey) {
        if is_planted(Bug::DeadlineIgnored) {
            return;
        }
        let Some(Purpose::Call {
            conn,
            call_id,
            observer,
        }) = self.tasks.cancel(key)
        else {
            return;
        };
        self.counters.expired.add(1);
        let status = Status::deadline_exceeded("the deadline passed while the handler waited");
        self.tasks.observed.resume(observer);
        fail(&conn, call_id, &status, CallOutcome::Expired);
        self.end_call(&conn, call_id, key.index);
    }
}
