//! The answers to calls, from handlers to the connection's send queue.
//!
//! How long that queue may grow is looked at after each frame of the peer
//! ([`ShardCore::has_room_for_output`](super::ShardCore::has_room_for_output)) and after each
//! handler that has waited.

use std::rc::Rc;

use super::conn::{Conn, Stage};
use crate::proto::frames::append_error;
use crate::proto::status::Status;
use crate::rpc::message::Message;
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::rpc::reply::Reply;

/// Queues the result of a handler.
#[inline(always)]
pub(super) fn respond<Resp: Message>(conn: &Rc<Conn>, call_id: u64, reply: &mut Reply<Resp>) {
    if conn.stage() != Stage::Open {
        return;
    }
    let bytes_max = conn.response_bytes_max.get();
    let sent = reply.send(call_id, bytes_max, &mut conn.queue.borrow_mut());
    match sent {
        Ok(()) => conn.attend(),
        Err(cause) => refuse_response(conn, call_id, bytes_max, cause),
    }
}

/// Queues the failure of a call.
pub(super) fn respond_error(conn: &Rc<Conn>, call_id: u64, status: &Status) {
    if conn.stage() == Stage::Open {
        append_error(conn.queue.borrow_mut().filling(), call_id, status);
        conn.attend();
    }
}

#[cold]
fn refuse_response(conn: &Rc<Conn>, call_id: u64, bytes_max: u32, cause: Unsendable) {
    let counters = &conn.shard.counters;
    match cause {
        Unsendable::TooLong => counters.too_long.add(1),
        Unsendable::TooDeep => counters.too_deep.add(1),
    }
    let status = cause.response(bytes_max);
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
    respond_error(conn, call_id, &cause.request());
}

#[cold]
pub(super) fn refuse_expired(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.expired.add(1);
    let status = Status::deadline_exceeded(
        "the deadline passed while the call waited for its turn; it was not executed",
    );
    respond_error(conn, call_id, &status);
}

#[cold]
pub(super) fn refuse_draining(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.refused_draining.add(1);
    let status = Status::unavailable("the server is shutting down; the call was not executed");
    respond_error(conn, call_id, &status);
}

#[cold]
pub(super) fn refuse_unimplemented(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.unimplemented.add(1);
    let status = Status::unimplemented(
        "no method with this index was resolved on this connection; resolve its name first",
    );
    respond_error(conn, call_id, &status);
}
