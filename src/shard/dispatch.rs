//! From received bytes to handlers, and from their results to queued frames.

use std::ops::Range;
use std::rc::Rc;

use super::ShardCore;
use super::backlog::{HeldCall, Piece};
use super::conn::{Conn, Role, Stage};
use super::service::IncomingCall;
use super::tasks::{Purpose, Resumed, Started};
use super::timers::Due;
use crate::buf::{AlignedBuf, Chunk};
use crate::proto::framer::{Body, DirectBody};
use crate::proto::frames::append_error;
use crate::proto::header::Header;
use crate::proto::server::ServerEvent;
use crate::proto::status::Status;
use crate::proto::violation::Violation;
use crate::rpc::message::Message;
use crate::rpc::received::{LocalPayload, Payload};
use crate::rpc::reply::Reply;

impl ShardCore {
    /// Takes bytes that the engine has received on a connection.
    pub(crate) fn receive(&self, conn: &Rc<Conn>, chunk: Chunk) {
        if conn.stage() != Stage::Open {
            return;
        }
        let mut piece = Piece {
            bytes: LocalPayload::Pooled(chunk),
            at: 0,
            arrived_ns: self.now_ns(),
        };
        if !conn.is_paused.get() {
            self.process(conn, &mut piece);
        }
        if conn.stage() == Stage::Open && !piece.is_used_up() {
            self.copy_out_if_low(&mut piece);
            conn.backlog.borrow_mut().push(piece);
        }
    }

    /// Bytes that wait don't keep the last receive buffers from other connections.
    fn copy_out_if_low(&self, piece: &mut Piece) {
        if self.is_low_on_buffers() && matches!(piece.bytes, LocalPayload::Pooled(_)) {
            let left = AlignedBuf::copy_of(&piece.bytes.bytes()[piece.at..]);
            (piece.bytes, piece.at) = (LocalPayload::Owned(left), 0);
        }
    }

    /// Takes back a large body into which the engine has received.
    pub(crate) fn receive_direct(&self, conn: &Rc<Conn>, body: DirectBody) {
        if conn.stage() != Stage::Open {
            return;
        }
        conn.link(|link| link.put_direct(body));
        conn.arrived_ns.set(self.now_ns());
        self.process_bytes(conn, &[], None, &mut 0);
    }

    fn process(&self, conn: &Rc<Conn>, piece: &mut Piece) {
        conn.arrived_ns.set(piece.arrived_ns);
        let chunk = match &piece.bytes {
            LocalPayload::Pooled(chunk) => Some(chunk),
            LocalPayload::Owned(_) => None,
        };
        self.process_bytes(conn, piece.bytes.bytes(), chunk, &mut piece.at);
    }

    /// Acts on each frame in `bytes`, from `*at` on. When the peer reaches a limit the rest is left
    /// over, and the engine stops receiving.
    fn process_bytes(&self, conn: &Rc<Conn>, bytes: &[u8], chunk: Option<&Chunk>, at: &mut usize) {
        self.lend_buffer(conn);
        let is_server = matches!(&*conn.role.borrow(), Role::Server(_));
        let ended = loop {
            if !self.has_room(conn) {
                self.set_paused(conn, true);
                break Ok(());
            }
            let more = if is_server {
                self.serve_next(conn, bytes, chunk, at)
            } else {
                self.complete_next(conn, bytes, chunk, at)
            };
            match more {
                Ok(true) => (),
                Ok(false) => break Ok(()),
                Err(violation) => break Err(violation),
            }
        };
        if let Err(violation) = ended {
            self.refuse(conn, &violation);
        }
        self.after_bytes(conn);
    }

    /// Gives the connection a send buffer for the answers to come, if it has none.
    fn lend_buffer(&self, conn: &Conn) {
        let mut queue = conn.queue.borrow_mut();
        if queue.filling().capacity() == 0 {
            *queue.filling() = self.take_buffer();
        }
    }

    /// Whether another frame of the peer may be acted on: its output is below the limit, and no
    /// request waits. As many calls as may can be in flight, and it can still cancel them.
    #[inline]
    fn has_room(&self, conn: &Conn) -> bool {
        self.has_room_for_output(conn) && !conn.backlog.borrow().is_holding()
    }

    #[inline]
    fn has_room_for_output(&self, conn: &Conn) -> bool {
        conn.queue.borrow().len() < self.config.limits.write_queue_bytes_high
    }

    fn set_paused(&self, conn: &Rc<Conn>, is_paused: bool) {
        if conn.is_paused.replace(is_paused) != is_paused {
            let now_ns = self.now_ns();
            conn.link(|link| link.set_paused(is_paused, now_ns));
            conn.attend();
        }
    }

    /// Goes on with a connection that was paused, if there is room again. The engine calls this
    /// for each connection that needs attention.
    pub(crate) fn resume_reading(&self, conn: &Rc<Conn>) {
        if !conn.is_paused() || !self.has_room_for_output(conn) {
            return;
        }
        if conn.backlog.borrow().is_holding() {
            if conn.with_server(|server| server.has_room_for_calls()) != Some(true) {
                return;
            }
            let held = conn.backlog.borrow_mut().take_held();
            if let Some(held) = held {
                self.call(conn, &held.header, held.payload, held.arrived_ns);
            }
        }
        self.set_paused(conn, false);
        // A frame that was whole when reading stopped, such as a large body, comes first.
        self.process_bytes(conn, &[], None, &mut 0);
        while !conn.is_paused.get() && conn.stage() == Stage::Open {
            let piece = conn.backlog.borrow_mut().pop();
            let Some(mut piece) = piece else {
                break;
            };
            self.process(conn, &mut piece);
            if conn.stage() == Stage::Open && !piece.is_used_up() {
                self.copy_out_if_low(&mut piece);
                conn.backlog.borrow_mut().put_back(piece);
            }
        }
    }

    /// Acts on the next event of a server's connection; `false` when the bytes are used up.
    #[inline(always)]
    fn serve_next(
        &self,
        conn: &Rc<Conn>,
        bytes: &[u8],
        chunk: Option<&Chunk>,
        at: &mut usize,
    ) -> Result<bool, Violation> {
        let services = self
            .services
            .get()
            .expect("services are made before connections");
        let (request, has_room_for_calls) = {
            let Role::Server(server) = &mut *conn.role.borrow_mut() else {
                return Ok(false);
            };
            (server.next_request(bytes, at)?, server.has_room_for_calls())
        };
        let arrived_ns = conn.arrived_ns.get();
        if let (Some((header, range)), Some(chunk)) = (&request, chunk)
            && has_room_for_calls
            && !self.is_low_on_buffers()
        {
            self.counters.in_place.add(1);
            services.call(
                header.selector,
                IncomingCall {
                    conn,
                    call_id: header.call_id,
                    timeout_us: header.timeout_us,
                    arrived_ns,
                    payload: LocalPayload::Pooled(chunk.slice(range.clone())),
                },
            );
            return Ok(conn.stage() == Stage::Open);
        }
        let event = match request {
            Some((header, range)) => Some(ServerEvent::Request {
                header,
                body: Body::InPlace(range),
            }),
            None => {
                let Role::Server(server) = &mut *conn.role.borrow_mut() else {
                    return Ok(false);
                };
                let mut queue = conn.queue.borrow_mut();
                server.next_event(bytes, at, self.now_ns(), services, queue.filling())?
            }
        };
        match event {
            Some(ServerEvent::Request { header, body }) => {
                let payload = self.payload(body, bytes, chunk);
                if has_room_for_calls {
                    self.call(conn, &header, payload, arrived_ns);
                } else {
                    conn.backlog.borrow_mut().hold(HeldCall {
                        header,
                        payload,
                        arrived_ns,
                    });
                }
            }
            Some(ServerEvent::Unresolved { call_id }) => refuse_unimplemented(conn, call_id),
            Some(ServerEvent::AfterGoaway { call_id }) => {
                self.counters.refused_draining.add(1);
                respond_error(
                    conn,
                    call_id,
                    &Status::unavailable("the server is shutting down; the call was not executed"),
                );
            }
            Some(ServerEvent::Cancel { task }) => self.cancel_call(task),
            None => return Ok(false),
        }
        Ok(conn.stage() == Stage::Open)
    }

    #[inline(always)]
    fn call(&self, conn: &Rc<Conn>, header: &Header, payload: LocalPayload, arrived_ns: u64) {
        let services = self
            .services
            .get()
            .expect("services are made before connections");
        let call = IncomingCall {
            conn,
            call_id: header.call_id,
            timeout_us: header.timeout_us,
            arrived_ns,
            payload,
        };
        services.call(header.selector, call);
    }

    /// Gives a payload that lies in a receive buffer its owner: that buffer, unless these run low.
    #[inline(always)]
    fn payload_in_place(&self, chunk: &Chunk, range: Range<usize>) -> LocalPayload {
        if self.is_low_on_buffers() {
            return self.payload_copied(&chunk.as_slice()[range]);
        }
        self.counters.in_place.add(1);
        LocalPayload::Pooled(chunk.slice(range))
    }

    fn payload_copied(&self, payload: &[u8]) -> LocalPayload {
        self.counters.copied.add(1);
        LocalPayload::Owned(AlignedBuf::copy_of(payload))
    }

    /// Gives a payload its owner; `bytes` are those of the chunk, if there is one.
    pub(super) fn payload(&self, body: Body, bytes: &[u8], chunk: Option<&Chunk>) -> LocalPayload {
        let counters = &self.counters;
        match (body, chunk) {
            (Body::InPlace(range), Some(chunk)) => self.payload_in_place(chunk, range),
            (Body::InPlace(range), None) => self.payload_copied(&bytes[range]),
            (Body::Gathered(buf), _) => {
                counters.copied.add(1);
                LocalPayload::Owned(buf)
            }
            (Body::Direct(buf), _) => {
                counters.direct.add(1);
                LocalPayload::Owned(buf)
            }
        }
    }

    /// Keeps the books of a call whose handler was just polled for the first time.
    #[inline(always)]
    pub(super) fn settle_new_call(
        &self,
        started: Started,
        conn: &Rc<Conn>,
        call_id: u64,
        deadline_ns: Option<u64>,
    ) {
        match started {
            // Most handlers; they were never entered in any book.
            Started::Done => (),
            Started::Waiting(key) => {
                conn.with_server(|server| server.suspend_call(call_id, key.index));
                self.counters.in_flight.add(1);
                if let Some(deadline_ns) = deadline_ns {
                    let due = Due::CallDeadline(key);
                    let timer = self.timers.borrow_mut().add(deadline_ns, due);
                    self.tasks.set_deadline(key, timer);
                }
            }
            Started::Panicked(text) => self.answer_panic(conn, call_id, &text),
        }
    }

    /// Starts a future that belongs to no call.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        if let Started::Panicked(text) = self.tasks.start(future, || Purpose::Background) {
            self.note_background_panic(&text);
        }
    }

    fn note_background_panic(&self, text: &str) {
        self.counters.panics.add(1);
        tracing::error!(panic = text, "a spawned future panicked");
    }

    fn answer_panic(&self, conn: &Rc<Conn>, call_id: u64, text: &str) {
        self.counters.panics.add(1);
        tracing::error!(
            panic = text,
            peer = &*conn.peer,
            call_id,
            "a handler panicked"
        );
        respond_error(conn, call_id, &Status::internal("the handler panicked"));
    }

    fn end_call(&self, conn: &Rc<Conn>, call_id: u64) {
        conn.with_server(|server| server.end_call(call_id));
        self.counters
            .in_flight
            .set(self.counters.in_flight.get() - 1);
        // Many handlers may have waited for the same thing, and answer all at once.
        self.bound_output(conn);
        conn.attend();
    }

    /// Runs the tasks that were woken before. Those that are woken meanwhile have their turn after
    /// the sockets: a task that yields by waking itself must not keep the shard from them.
    pub(super) fn run_woken(&self) {
        for _ in 0..self.mailbox.woken_count() {
            let Some(index) = self.mailbox.pop_woken() else {
                return;
            };
            let resumed = self.tasks.resume(index);
            if !matches!(resumed, Resumed::NotEnded) {
                self.drop_deadline(index);
            }
            match resumed {
                Resumed::Done(Purpose::Call { conn, call_id }) => self.end_call(&conn, call_id),
                Resumed::Panicked(Purpose::Call { conn, call_id }, text) => {
                    self.answer_panic(&conn, call_id, &text);
                    self.end_call(&conn, call_id);
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
        if let Some(Purpose::Call { conn, call_id }) = cancelled {
            self.counters.cancelled.add(1);
            self.end_call(&conn, call_id);
        }
    }

    /// Drops the handler of a call whose deadline has passed, and says so.
    pub(super) fn expire_call(&self, key: super::tasks::TaskKey) {
        let Some(Purpose::Call { conn, call_id }) = self.tasks.cancel(key) else {
            return;
        };
        self.counters.expired.add(1);
        let status = Status::deadline_exceeded("the deadline passed while the handler waited");
        respond_error(&conn, call_id, &status);
        self.end_call(&conn, call_id);
    }
}

/// Queues the result of a handler.
#[inline]
pub(super) fn respond<Resp: Message>(
    conn: &Rc<Conn>,
    call_id: u64,
    answer: Result<Reply<Resp>, Status>,
) {
    if conn.stage() != Stage::Open {
        return;
    }
    let reply = match answer {
        Ok(reply) => reply,
        Err(status) => return respond_error(conn, call_id, &status),
    };
    let bytes_max = match &*conn.role.borrow() {
        Role::Server(server) => server.response_bytes_max(),
        Role::Client(_) => return,
    };
    if reply
        .send(call_id, bytes_max, &mut conn.queue.borrow_mut())
        .is_err()
    {
        conn.shard.counters.too_long.add(1);
        let status = Status::internal(format!(
            "the response is longer than the {bytes_max} bytes that both sides accept"
        ));
        return respond_error(conn, call_id, &status);
    }
    note_answer(conn);
}

/// Queues the failure of a call.
pub(super) fn respond_error(conn: &Rc<Conn>, call_id: u64, status: &Status) {
    if conn.stage() == Stage::Open {
        append_error(conn.queue.borrow_mut().filling(), call_id, status);
        note_answer(conn);
    }
}

/// Has an answer sent in this turn. A peer that asked for more than it reads is given up: answers
/// of handlers that waited come although nothing more is read from it.
#[inline]
fn note_answer(conn: &Rc<Conn>) {
    conn.attend();
    if conn.queue.borrow().len() > conn.shard.config.limits.write_queue_bytes_max {
        conn.shard.refuse(conn, &Violation::WriteQueueFull);
    }
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
pub(super) fn refuse_unimplemented(conn: &Rc<Conn>, call_id: u64) {
    conn.shard.counters.unimplemented.add(1);
    let status = Status::unimplemented(
        "no method with this index was resolved on this connection; resolve its name first",
    );
    respond_error(conn, call_id, &status);
}
