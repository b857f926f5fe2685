//! The answers to calls, from handlers to the connection's send queue.
//!
//! How long that queue may grow is looked at after each frame of the peer
//! ([`ShardCore::has_room_for_output`](super::ShardCore::has_room_for_output)) and after each
//! handler that has waited.

use std::rc::Rc;

use super::conn::{Conn, Stage};
use crate::proto::frames::append_error;
use crate::proto::status::Status;
use crate::rpc::encode::TooLong;
use crate::rpc::message::Message;
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
        Err(TooLong) => refuse_too_long(conn, call_id, bytes_max),
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
fn refuse_too_long(conn: &Rc<Conn>, call_id: u64, bytes_max: u32) {
    conn.shard.counters.too_long.add(1);
    let status = Status::internal(format!(
        "the response is longer than the {bytes_max} bytes that both sides accept"
    ));
    respond_error(conn, call_id, &status);
}

#[cold]
pub(super) fn refuse_invalid(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.invalid.add(1);
    let status =
        Status::invalid_argument("the request is not a valid archive of the method's request type");
    respond_error(conn, call_id, &status);
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
