//! How connections are timed, refused, drained and closed.

use std::rc::Rc;

use super::ShardCore;
use super::conn::Conn;
use super::timers::Due;
use crate::connection::lifecycle::Stage;
use crate::connection::link::nanos;
use crate::planted_bugs::{Bug, is_planted};
use crate::wire::limits::OUTPUT_PATIENCE;
use crate::wire::status::Status;
use crate::wire::violation::Violation;

impl ShardCore {
    /// Runs what is due: timers, woken tasks, the drain. The engine calls it once per turn.
    pub(crate) fn run_due(self: &Rc<Self>) {
        if self.timers.borrow().is_behind(self.now_ns()) {
            self.fire_timers();
        }
        self.run_woken();
        self.offer_room();
        if self.mailbox.must_drain() {
            self.drain();
        }
    }

    #[inline(never)]
    fn fire_timers(self: &Rc<Self>) {
        let mut fired = Vec::new();
        self.timers
            .borrow_mut()
            .expire(self.now_ns(), |due| fired.push(due));
        for due in fired {
            match due {
                Due::Wake(waker) => self.wake(waker),
                Due::CallDeadline(key) => self.expire_call(key),
                Due::Connection(key) => {
                    if let Some(conn) = self.find(key) {
                        if !is_planted(Bug::TimerLost) {
                            conn.timer.set(None);
                        }
                        self.check_time_limits(&conn);
                    }
                }
            }
        }
    }

    /// When [`ShardCore::run_due`] has something to do at the latest.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let timer = self.timers.borrow().next_deadline_ns();
        [timer, self.drain_until_ns.get()]
            .into_iter()
            .flatten()
            .min()
    }

    /// After bytes were acted on: enters the output, and keeps the connection's timer early enough,
    /// unless the engine does so with its attention.
    #[inline]
    pub(super) fn after_bytes(&self, conn: &Rc<Conn>) {
        let queued = self.settle_output(conn);
        if queued > 0 || conn.stage() != Stage::Open {
            return conn.attend();
        }
        self.release_idle_buffer(conn);
        if conn.wants_direct() {
            return conn.attend();
        }
        self.arm_timer(conn);
    }

    pub(super) fn release_idle_buffer(&self, conn: &Conn) {
        let mut queue = conn.output_mut();
        if queue.filling().is_empty() && queue.filling().capacity() > 0 {
            self.put_buffer(std::mem::take(queue.filling()));
        }
    }

    /// Sees to it that the connection's timer fires no later than its next time limit. A timer
    /// that fires early looks, finds nothing, and is set again: in a steady state of calls it is
    /// never touched.
    #[inline]
    pub(crate) fn arm_timer(&self, conn: &Rc<Conn>) {
        let mut due_ns = conn.poll_timeout();
        if let Some(body_due_ns) = conn.body_due_ns() {
            due_ns = due_ns.min(body_due_ns);
        }
        let deadline_ns = self.real_ns(due_ns);
        match conn.timer.get() {
            Some((armed_ns, _)) if armed_ns <= deadline_ns => return,
            Some((_, timer)) => self.timers.borrow_mut().cancel(timer),
            None => (),
        }
        if deadline_ns == u64::MAX {
            conn.timer.set(None);
            return;
        }
        let timer = self
            .timers
            .borrow_mut()
            .add(deadline_ns, Due::Connection(conn.key));
        conn.timer.set(Some((deadline_ns, timer)));
    }

    fn check_time_limits(&self, conn: &Rc<Conn>) {
        let now_ns = self.patience_ns();
        if conn
            .output_sticks_ns()
            .is_some_and(|due_ns| now_ns >= due_ns)
        {
            if self.body_room(conn) >= self.pool.buffer_bytes() {
                conn.set_reads_on(true);
            } else {
                conn.look_again_at(now_ns + nanos(OUTPUT_PATIENCE));
            }
        }
        if conn.held_due_ns().is_some_and(|due_ns| now_ns >= due_ns) {
            self.end_patience(conn, now_ns);
        }
        self.look_at_body_wait(conn, now_ns);
        conn.end_lingering(now_ns);
        if conn.stage() < Stage::Lingering
            && let Err(violation) = conn.handle_timeout(now_ns)
        {
            self.refuse(conn, &violation);
            // Who does not read gets no last words either.
            if violation == Violation::WriteStall {
                conn.advance_to(Stage::Closing);
            }
        }
        conn.attend();
        self.arm_timer(conn);
    }

    /// Ends a connection for what its peer did: a GOAWAY, then close.
    pub(crate) fn refuse(&self, conn: &Rc<Conn>, violation: &Violation) {
        if conn.stage() != Stage::Open {
            return;
        }
        self.counters.reject(violation);
        tracing::debug!(peer = &*conn.peer, %violation, "connection refused");
        let has_said_why = conn.with_server(|server| {
            server.go_away(Some(violation), conn.output_mut().filling());
        });
        // A client has nothing to say that the server would act on.
        let stage = match has_said_why {
            Some(()) => Stage::Flushing,
            None => Stage::Closing,
        };
        let status = Status::unavailable(format!(
            "the connection to {} was given up: {violation}",
            conn.peer
        ));
        self.note_end(conn, Violation::is_of_time(violation.reason()), &status);
        self.end(conn, stage, &status);
    }

    /// The peer has closed its side. What it has sent before is acted on first. What is queued still goes
    /// out; what was in flight is dropped.
    pub(crate) fn peer_closed(&self, conn: &Rc<Conn>) {
        if conn.is_paused() {
            conn.end_behind_backlog();
            return conn.attend();
        }
        let status = Status::unavailable(format!("{} closed the connection", conn.peer));
        match conn.stage() {
            // No answer can come any more, and what is queued is asked for elsewhere.
            Stage::Open if !conn.is_server() => {
                self.note_end(conn, true, &status);
                self.end(conn, Stage::Closing, &status);
            }
            Stage::Open => self.end(conn, Stage::Flushing, &status),
            Stage::Lingering => conn.advance_to(Stage::Closing),
            Stage::Flushing | Stage::Closing | Stage::Closed => (),
        }
        conn.attend();
    }

    /// The connection is broken: nothing can be sent any more.
    pub(crate) fn lost(&self, conn: &Rc<Conn>, error: &std::io::Error) {
        tracing::debug!(peer = &*conn.peer, %error, "connection lost");
        let status = Status::unavailable(format!("the connection to {} broke: {error}", conn.peer));
        self.note_end(conn, true, &status);
        self.end(conn, Stage::Closing, &status);
    }

    /// Ends what the connection was doing: handlers are dropped, waiters hear `status`.
    pub(super) fn end(&self, conn: &Rc<Conn>, stage: Stage, status: &Status) {
        let was_open = conn.stage() == Stage::Open;
        // First, so that what follows from dropping handlers finds the connection ended.
        conn.advance_to(stage);
        if was_open {
            let tasks = conn
                .with_server(|server| server.take_live_tasks())
                .unwrap_or_default();
            for task in tasks {
                self.cancel_call(task);
            }
            super::local_link::end_calls(conn, status);
        }
        self.counters.change_pause(conn.take_pause(), None);
        conn.forget_waiting();
        self.release_memory(conn);
        conn.attend();
    }

    /// The engine has shut its side of a flushing connection's socket down.
    pub(crate) fn linger(&self, conn: &Rc<Conn>) {
        conn.linger(self.patience_ns());
        // It is read from again, until its peer has closed.
        conn.attend();
    }

    /// The engine has closed the socket.
    pub(crate) fn closed(&self, conn: &Rc<Conn>) {
        conn.advance_to(Stage::Closed);
        if let Some((_, timer)) = conn.timer.take() {
            self.timers.borrow_mut().cancel(timer);
        }
        conn.output_mut().clear();
        self.forget_memory(conn);
        self.forget(conn);
    }

    /// Takes no more calls on a connection, and closes it when those in flight have ended.
    pub(super) fn retire(&self, conn: &Rc<Conn>) {
        if conn.stage() != Stage::Open {
            return;
        }
        let queued = conn.output().len();
        let is_done = conn.with_server(|server| {
            server.go_away(None, conn.output_mut().filling());
            server.calls_in_flight() == 0 && !conn.backlog().is_holding()
        });
        // Only when there is something to send: this runs in every turn of a shard that drains,
        // and a connection that needs attention brings about the next turn.
        if conn.output().len() > queued {
            conn.attend();
        }
        if is_done != Some(false) {
            self.end(
                conn,
                Stage::Flushing,
                &Status::unavailable("the server is shutting down"),
            );
        }
    }

    /// Ends the shard: connections without calls at once, the others when these have ended or the
    /// time is up.
    fn drain(self: &Rc<Self>) {
        let now_ns = self.now_ns();
        let until_ns = match self.drain_until_ns.get() {
            Some(until_ns) => until_ns,
            None => {
                let until_ns = now_ns + nanos(self.config.drain_timeout);
                self.drain_until_ns.set(Some(until_ns));
                until_ns
            }
        };
        let conns = self.all_conns();
        // Handlers whose calls are in flight go on calling others.
        let is_serving = conns.iter().any(|conn| conn.is_server());
        for conn in conns {
            if conn.is_server() || !is_serving {
                self.retire(&conn);
            }
            if now_ns >= until_ns {
                let status = Status::unavailable("the server's time to shut down is up");
                self.end(&conn, Stage::Closing, &status);
            }
        }
        if now_ns >= until_ns {
            self.tasks.cancel_all();
        }
    }

    /// Ends the shard after it has drained: drops what was spawned, and the services.
    pub(crate) fn finish(&self) {
        self.tasks.cancel_all();
        if let Some(services) = self.services.get() {
            services.clear(|text| {
                self.counters.panics.add(1);
                tracing::error!(panic = text, "a service panicked while it was dropped");
            });
        }
        // What the services have spawned at their end would keep the shard alive.
        self.tasks.cancel_all();
        // A connection that was closed in the last turn may still be listed. It holds the shard, which
        // would keep itself alive by it, with its buffers and descriptors.
        drop(self.attention.take());
        self.memory.forget_waiting();
        self.turn.forget_next();
        drop(self.connects.take());
        // The watchdog looks until the last shard has ended.
        self.end_turn();
    }

    /// Whether the shard has drained and may end.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain_until_ns.get().is_some() && self.conn_count() == 0
    }
}
