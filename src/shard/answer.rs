//! The answers to calls, from handlers to the connection's send queue.
//!
//! How long that queue may grow is looked at after each frame of the peer
//! ([`ShardCore::has_room_for_output`](super::ShardCore::has_room_for_output)) and after each
//! handler that has waited. Where too much is held already, long answers are refused instead.

use std::rc::Rc;

use super::conn::Conn;
use crate::buf::QueueEnd;
use crate::connection::Connection;
use crate::connection::lifecycle::Stage;
use crate::planted_bugs::{Bug, is_planted};
use crate::rpc::message::Message;
use crate::rpc::outcome::CallOutcome;
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::rpc::reply::Reply;
use crate::wire::response_writer::ResponseWriter;
use crate::wire::status::Status;

/// Queues the result of a handler.
#[inline(always)]
pub(super) fn respond<Resp: Message>(conn: &Rc<Conn>, call_id: u64, reply: &mut Reply<Resp>) {
    let mut before = None;
    if !conn.takes_all_answers() {
        if conn.stage() != Stage::Open {
            return end(conn, call_id, CallOutcome::Disconnected);
        }
        before = mark_if_brief(conn);
    }
    let answered = if is_planted(Bug::ResponseToWrongCall) && call_id & 15 == 9 {
        call_id - 1
    } else {
        call_id
    };
    // The one place that a reply is handed to, and not through a function of the connection, so that it
    // stays in registers.
    let mut output = conn.output_mut();
    let response = ResponseWriter::new(&mut output, answered, conn.response_bytes_max());
    let written = reply.write(response);
    drop(output);
    match written {
        Ok(()) if before.is_none() => conn.attend(),
        Ok(()) => keep_if_there_is_room(conn, call_id, before),
        Err(cause) => refuse_response(conn, call_id, cause),
    }
}

/// Answers up to this length are queued whatever is held for a peer; longer ones as far as they are
/// within what is every connection's own.
const BRIEF_BYTES_MAX: usize = 1024;

/// The end of the queue of a connection whose answers are looked at, because much is held for its peer.
#[cold]
fn mark_if_brief(conn: &Conn) -> Option<QueueEnd> {
    if conn.budget.has_overdraft.take() {
        return None;
    }
    if conn.shard.must_answer_briefly(conn) {
        return Some(conn.output().end());
    }
    conn.answer_all();
    None
}

/// Looks at an answer that was queued, and takes it back if it is too much.
#[cold]
fn keep_if_there_is_room(conn: &Rc<Conn>, call_id: u64, before: Option<QueueEnd>) {
    let Some(before) = before else {
        return;
    };
    let bytes = conn.output().len() - before.bytes();
    let may_stay = bytes <= BRIEF_BYTES_MAX
        || conn
            .shard
            .has_room_for_more_output(conn, before.bytes(), bytes);
    if !may_stay {
        conn.output_mut().take_back(&before);
        return refuse_for_memory(conn, call_id, bytes);
    }
    conn.attend();
}

fn refuse_for_memory(conn: &Rc<Conn>, call_id: u64, bytes: usize) {
    conn.shard.counters.refused_memory.add(1);
    conn.budget.refused_bytes.set(bytes);
    let status = Status::resource_exhausted(format!(
        "the call was executed, but there is no memory for its answer of {bytes} bytes: too much waits to be \
         read, by this caller or by others; read answers sooner, or ask for less at once"
    ));
    respond_error(conn, call_id, &status);
}

/// Refuses a call that was not started.
#[cold]
pub(super) fn refuse_unstarted(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.refused_memory.add(1);
    let status = Status::resource_exhausted(
        "there is no memory for another call of this connection that waits; the call was not executed; make fewer \
         at once, or give up those that take too long",
    );
    refuse(conn, call_id, &status);
}

/// Refuses a call whose payload was dropped as it arrived; see [`super::body_wait`].
#[cold]
pub(super) fn refuse_unread(conn: &Rc<Conn>, call_id: u64, bytes: u32) {
    conn.shard.counters.refused_memory.add(1);
    let status = Status::resource_exhausted(format!(
        "no memory came for the {bytes} bytes of this request, and nothing moved that would have made some; the \
         call was not executed; try again later, send less at once, or give up calls that keep large requests"
    ));
    refuse(conn, call_id, &status);
}

/// Queues the failure of a call that a handler has seen.
pub(super) fn respond_error(conn: &Rc<Conn>, call_id: u64, status: &Status) {
    fail(conn, call_id, status, CallOutcome::Failed(status));
}

/// Queues the failure of a call that no handler has seen.
#[cold]
pub(super) fn refuse(conn: &Rc<Conn>, call_id: u64, status: &Status) {
    fail(conn, call_id, status, CallOutcome::Refused(status));
}

/// Queues the failure of a call, and tells its hook what it came from.
pub(super) fn fail(conn: &Rc<Conn>, call_id: u64, status: &Status, outcome: CallOutcome<'_>) {
    if conn.stage() != Stage::Open {
        return end(conn, call_id, CallOutcome::Disconnected);
    }
    Connection::respond_error(conn, call_id, status);
    conn.attend();
    end(conn, call_id, outcome);
}

/// Tells the hook of a call how it has ended. That a reply was queued need not be said: it is told so
/// when nothing else was.
fn end(conn: &Rc<Conn>, call_id: u64, outcome: CallOutcome<'_>) {
    conn.shard.tasks.observed.end(conn, call_id, outcome);
}

#[cold]
fn refuse_response(conn: &Rc<Conn>, call_id: u64, cause: Unsendable) {
    let counters = &conn.shard.counters;
    match cause {
        Unsendable::TooLong => counters.too_long.add(1),
        Unsendable::TooDeep => counters.too_deep.add(1),
    }
    let status = cause.response(conn.response_bytes_max());
    tracing::error!(
        peer = &*conn.peer,
        call_id,
        reason = status.message(),
        "a response can't be sent"
    );
    respond_error(conn, call_id, &status);
}

#[cold]
pub(super) fn refuse_invalid(conn: &Rc<Conn>, call_id: u64, cause: Unreadable) {
    conn.shard.counters.invalid.add(1);
    refuse(conn, call_id, &cause.request());
}

#[cold]
pub(super) fn refuse_expired(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.expired.add(1);
    let status = Status::deadline_exceeded(
        "the deadline passed while the call waited for its turn; it was not executed",
    );
    refuse(conn, call_id, &status);
}

#[cold]
pub(super) fn refuse_draining(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.refused_draining.add(1);
    let status = Status::unavailable("the server is shutting down; the call was not executed");
    refuse(conn, call_id, &status);
}

#[cold]
pub(super) fn refuse_unimplemented(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.unimplemented.add(1);
    let status = Status::unimplemented(
        "no method with this index was resolved on this connection; resolve its name first",
    );
    refuse(conn, call_id, &status);
}
