//! From received bytes to handlers.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use super::ShardCore;
use super::answer::{refuse_draining, refuse_invalid, refuse_unimplemented, refuse_unstarted};
use super::backlog::{HeldCall, Piece};
use super::conn::{Conn, HELD_PATIENCE_NS, Pause, Role, Stage};
use super::memory::SUSPENDED_CALL_BYTES;
use super::service::{IncomingCall, OpenTable, ServiceTable};
use crate::buf::{AlignedBuf, Chunk};
use crate::connection::server::ServerEvent;
use crate::planted_bugs::{Bug, is_planted};
use crate::rpc::refusal::Unreadable;
use crate::wire::framer::{Body, DirectBody};
use crate::wire::header::Header;
use crate::wire::violation::Violation;

impl ShardCore {
    /// Takes bytes that the engine has received on a connection.
    pub(crate) fn receive(&self, conn: &Rc<Conn>, chunk: Chunk) {
        if conn.stage() != Stage::Open {
            return;
        }
        let mut at = 0;
        if conn.pause.get().is_none() {
            conn.arrived_ns.set(self.now_ns());
            self.process_bytes(conn, chunk.as_slice(), Some(&chunk), &mut at);
        }
        if at < chunk.as_slice().len() {
            self.keep_rest(conn, chunk, at);
        }
    }

    /// Keeps what can't be acted on yet.
    #[cold]
    fn keep_rest(&self, conn: &Rc<Conn>, chunk: Chunk, at: usize) {
        if conn.stage() != Stage::Open {
            return;
        }
        let mut piece = Piece {
            bytes: chunk,
            is_pooled: true,
            at,
            arrived_ns: self.now_ns(),
            memory_bytes: 0,
        };
        self.copy_out_if_low(conn, &mut piece);
        conn.backlog.borrow_mut().push(piece);
        self.bound_backlog(conn);
    }

    /// Bytes that wait don't keep the last receive buffers from other connections, nor those that wait
    /// for long any.
    fn copy_out_if_low(&self, conn: &Conn, piece: &mut Piece) {
        let waits_long = conn.pause.get() == Some(Pause::Output);
        if piece.is_pooled && (waits_long || self.is_low_on_buffers()) {
            piece.copy_out(&conn.account);
        }
    }

    /// A peer that is read from although it does not read has as much room for that as others for
    /// requests that arrive.
    fn bound_backlog(&self, conn: &Rc<Conn>) {
        if conn.pause.get() == Some(Pause::Output)
            && self.body_room(conn) < self.pool.buffer_bytes()
        {
            conn.set_reads_on(false);
            conn.attend();
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
        conn.acted_on_bytes.set(piece.memory_bytes);
        let chunk = piece.is_pooled.then_some(&piece.bytes);
        self.process_bytes(conn, piece.bytes.as_slice(), chunk, &mut piece.at);
        conn.acted_on_bytes.set(0);
    }

    /// Acts on each frame in `bytes`, from `*at` on. When the peer reaches a limit the rest is left
    /// over, and the engine stops receiving.
    fn process_bytes(&self, conn: &Rc<Conn>, bytes: &[u8], chunk: Option<&Chunk>, at: &mut usize) {
        self.look_at(conn);
        self.lend_buffer(conn);
        let ended = if conn.is_server {
            self.serve(conn, bytes, chunk, at)
        } else {
            self.complete(conn, bytes, chunk, at)
        };
        if let Err(violation) = ended {
            self.refuse(conn, &violation);
        }
        self.after_bytes(conn);
    }

    #[inline]
    fn look_at(&self, conn: &Conn) {
        let output_high = self.config.limits.write_queue_bytes_high;
        self.turn.look_at(conn, output_high);
    }

    /// Gives the connection a send buffer for the answers to come, if it has none.
    pub(super) fn lend_buffer(&self, conn: &Conn) {
        let mut queue = conn.queue.borrow_mut();
        if queue.filling().capacity() == 0 {
            *queue.filling() = self.take_buffer();
        }
    }

    /// Whether another frame of the peer may be acted on: its output is below what a connection may
    /// have in this turn.
    #[inline(always)]
    pub(super) fn has_room_for_output(&self, conn: &Conn) -> bool {
        conn.queue.borrow().len() < self.turn.output_max.get()
    }

    /// Why a connection waits that has been at work in this turn, and has enough output by now.
    fn output_pause(&self, conn: &Conn) -> Pause {
        if conn.queue.borrow().len() < self.config.limits.write_queue_bytes_high {
            Pause::Turn
        } else {
            Pause::Output
        }
    }

    /// Acts on nothing more of a connection for a reason, or on everything again.
    pub(super) fn set_pause(&self, conn: &Rc<Conn>, pause: Option<Pause>) {
        match pause {
            Some(Pause::Turn) => self.turn.put_off(conn),
            Some(Pause::Memory) => self.wait_for_room(conn),
            Some(Pause::Calls | Pause::Output) | None => (),
        }
        let before = conn.pause.replace(pause);
        if before == pause {
            return;
        }
        self.counters.change_pause(before, pause);
        conn.set_reads_on(false);
        let now_ns = self.patience_ns();
        let is_long = pause.is_some_and(|pause| pause != Pause::Turn);
        conn.link(|link| link.set_paused(is_long, now_ns));
        conn.attend();
    }

    /// Why nothing more of a connection may be acted on yet.
    fn blocked_by(&self, conn: &Rc<Conn>) -> Option<Pause> {
        let is_stuck = is_planted(Bug::PauseNeverEnded) && conn.pause.get() == Some(Pause::Output);
        if is_stuck || !self.has_room_for_output(conn) {
            // It has had time to send since.
            return Some(Pause::Output);
        }
        if self.must_wait_for_room(conn) {
            return Some(Pause::Memory);
        }
        // Without one it goes on, since what lies behind may give up a call that waits.
        let holds = conn.backlog.borrow().is_holding() && !self.must_refuse_held(conn);
        let has_room = conn.with_server(|server| server.has_room_for_calls());
        (holds && has_room == Some(false)).then_some(Pause::Calls)
    }

    /// Whether there is no room for the body that arrives on a connection, or for the call that it holds, which
    /// may wait in turn, and for its answer.
    pub(super) fn must_wait_for_room(&self, conn: &Rc<Conn>) -> bool {
        if self.lacks_room_for_body(conn) {
            return true;
        }
        let waiting_bytes = waiting_bytes(conn);
        let lacks_memory = conn.with_server(|server| server.lacks_memory_for_calls());
        if lacks_memory == Some(true) {
            if self.has_room_for_answer(conn, waiting_bytes, SUSPENDED_CALL_BYTES) {
                conn.with_server(|server| server.allow_calls());
            } else if conn.backlog.borrow().is_holding() && !self.must_refuse_held(conn) {
                return true;
            }
        }
        let backlog = conn.backlog.borrow();
        conn.held_until_ns.get().is_some()
            && backlog.held().is_some_and(|call| {
                let expected_bytes = call.expected_bytes(&self.services().open());
                !self.has_room_for_answer(conn, waiting_bytes, expected_bytes)
                    && !self.let_through(conn)
            })
    }

    /// Whether a call has been held for so long, for want of memory for one more that may wait, that it is
    /// refused. Behind it may lie that others were given up, which would make room.
    fn must_refuse_held(&self, conn: &Conn) -> bool {
        conn.backlog.borrow().is_holding()
            && conn.held_until_ns.get().is_none()
            && conn.with_server(|server| server.lacks_memory_for_calls()) == Some(true)
    }

    pub(super) fn lacks_room_for_body(&self, conn: &Conn) -> bool {
        let wanted = conn.link(|link| link.body_wants());
        wanted.is_some_and(|bytes| self.body_room(conn) < bytes)
    }

    /// Goes on with a connection that was paused, if there is room again. The engine calls this
    /// for each connection that needs attention.
    pub(crate) fn resume_reading(&self, conn: &Rc<Conn>) {
        if !conn.is_paused() || conn.waits_for_turn.get() {
            return;
        }
        self.look_at(conn);
        if let Some(pause) = self.blocked_by(conn) {
            // It may be another reason than before.
            return self.set_pause(conn, Some(pause));
        }
        self.set_pause(conn, None);
        let must_refuse = self.must_refuse_held(conn);
        let held = conn.backlog.borrow_mut().take_held();
        conn.held_until_ns.set(None);
        match held {
            Some(call) if must_refuse => refuse_unstarted(conn, call.header.call_id),
            Some(call) if !is_planted(Bug::HeldCallForgotten) => {
                self.start_call(&self.services().open(), conn, call);
            }
            Some(_) | None => (),
        }
        // A frame that was whole when reading stopped, such as a large body, comes first.
        self.process_bytes(conn, &[], None, &mut 0);
        while conn.pause.get().is_none() && conn.stage() == Stage::Open {
            let piece = conn.backlog.borrow_mut().pop();
            let Some(mut piece) = piece else {
                break;
            };
            self.process(conn, &mut piece);
            if conn.stage() == Stage::Open && !piece.is_used_up() {
                self.copy_out_if_low(conn, &mut piece);
                conn.backlog.borrow_mut().put_back(piece);
            }
        }
        if conn.pause.get().is_none() && conn.ends_behind_backlog.take() {
            self.peer_closed(conn);
        }
    }

    /// Acts on each frame that a client has sent. Stops when the bytes are used up, when the client
    /// has reached a limit, or when the connection ends.
    fn serve(
        &self,
        conn: &Rc<Conn>,
        bytes: &[u8],
        chunk: Option<&Chunk>,
        at: &mut usize,
    ) -> Result<(), Violation> {
        let table = self.services().open();
        let arrived_ns = conn.arrived_ns.get();
        // Requests may keep the receive buffer that they came in, unless these run low.
        let keepable = chunk.filter(|_| !self.is_low_on_buffers() && !self.memory.is_short());
        let (mut in_place, mut ended) = (0, Ok(()));
        while conn.stage() == Stage::Open {
            if !self.has_room_for_output(conn) {
                self.set_pause(conn, Some(self.output_pause(conn)));
                break;
            }
            if let Some(chunk) = keepable
                && let Some((header, range)) = next_request(conn, bytes, at)
            {
                in_place += 1;
                table.call(
                    header.selector,
                    IncomingCall {
                        conn,
                        call_id: header.call_id,
                        deadline_ns: deadline_ns(&header, arrived_ns),
                        payload: chunk.slice(range),
                    },
                );
                if *at == bytes.len() {
                    conn.with_server(|server| server.chunk_used_up(self.patience_ns()));
                    break;
                }
            } else {
                match self.serve_other(&table, conn, bytes, chunk, at) {
                    Ok(ControlFlow::Continue(())) => (),
                    other => {
                        ended = other.map(|_| ());
                        break;
                    }
                }
            }
        }
        self.counters.in_place.add(in_place);
        ended
    }

    /// Runs a call as if its frame had just been parsed, for counting what that costs by itself.
    ///
    /// # Panics
    /// When no method has this index.
    #[inline]
    pub(crate) fn dispatch(&self, conn: &Rc<Conn>, index: u16, call_id: u64, payload: Chunk) {
        let call = IncomingCall {
            conn,
            call_id,
            deadline_ns: u64::MAX,
            payload,
        };
        self.services().open().call(index, call);
    }

    /// Acts on a frame of any kind; `Break` when no more can be acted on.
    #[inline(never)]
    fn serve_other(
        &self,
        table: &OpenTable<'_>,
        conn: &Rc<Conn>,
        bytes: &[u8],
        chunk: Option<&Chunk>,
        at: &mut usize,
    ) -> Result<ControlFlow<()>, Violation> {
        let body_room = self.body_room(conn);
        let event = {
            let Role::Server(server) = &mut *conn.role.borrow_mut() else {
                return Ok(ControlFlow::Break(()));
            };
            let (now_ns, directory) = (self.patience_ns(), self.services());
            let mut queue = conn.queue.borrow_mut();
            server.link_mut().set_body_room(body_room);
            let event = server.next_event(bytes, at, now_ns, directory, queue.filling())?;
            conn.response_bytes_max.set(server.response_bytes_max());
            event
        };
        self.settle_arriving(conn);
        // What was granted for a body that nobody takes ends with it.
        if !matches!(event, None | Some(ServerEvent::Request { .. })) {
            conn.is_granted.set(false);
        }
        match event {
            Some(ServerEvent::Request { header, body }) => {
                let payload = self.payload(conn, body, bytes, chunk);
                let memory_bytes = payload.bytes_on(&conn.account);
                let call = HeldCall {
                    header,
                    payload,
                    arrived_ns: conn.arrived_ns.get(),
                    memory_bytes,
                };
                if let Some(pause) = self.holds_back(table, conn, &call) {
                    conn.backlog.borrow_mut().hold(call);
                    conn.held_until_ns
                        .set(Some(self.patience_ns() + HELD_PATIENCE_NS));
                    self.set_pause(conn, Some(pause));
                    return Ok(ControlFlow::Break(()));
                }
                self.start_call(table, conn, call);
            }
            Some(ServerEvent::TooLong {
                call_id,
                bytes,
                bytes_max,
            }) => {
                let bytes = bytes as usize;
                refuse_invalid(conn, call_id, Unreadable::Slack { bytes, bytes_max });
            }
            Some(ServerEvent::Unresolved { call_id }) => refuse_unimplemented(conn, call_id),
            Some(ServerEvent::AfterGoaway { call_id }) => refuse_draining(conn, call_id),
            Some(ServerEvent::Cancel { .. }) if is_planted(Bug::CancelIgnored) => (),
            Some(ServerEvent::Cancel { task }) => self.cancel_call(task),
            None => {
                if *at < bytes.len() || self.lacks_room_for_body(conn) {
                    self.set_pause(conn, Some(Pause::Memory));
                }
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Why a call of this method must wait.
    fn holds_back(&self, table: &OpenTable<'_>, conn: &Conn, call: &HeldCall) -> Option<Pause> {
        let (has_room, lacks_memory) = conn.with_server(|server| {
            let has_room = server.has_room_for_calls();
            (has_room, !has_room && server.lacks_memory_for_calls())
        })?;
        if !has_room {
            return Some(if lacks_memory {
                Pause::Memory
            } else {
                Pause::Calls
            });
        }
        // The request is here, and goes when the call has ended: it does not keep itself waiting.
        let waiting_bytes = waiting_bytes(conn) + call.memory_bytes;
        let expected_bytes = call.expected_bytes(table);
        let has_room = self.has_room_for_answer(conn, waiting_bytes, expected_bytes);
        (!has_room).then_some(Pause::Memory)
    }

    /// Starts a call that was looked at by itself. While memory is short, what its answer takes is
    /// remembered for the next call of the same method.
    fn start_call(&self, table: &OpenTable<'_>, conn: &Rc<Conn>, call: HeldCall) {
        let method = call.header.selector;
        let incoming = IncomingCall {
            conn,
            call_id: call.header.call_id,
            deadline_ns: deadline_ns(&call.header, call.arrived_ns),
            payload: call.payload,
        };
        if !self.memory.is_short() {
            return table.call(method, incoming);
        }
        if self.memory.is_full() {
            conn.answer_briefly();
        }
        let before = conn.queue.borrow().len();
        conn.refused_bytes.set(0);
        table.call(method, incoming);
        let queued = self.settle_output(conn).saturating_sub(before);
        table.learn(method, queued.max(conn.refused_bytes.take()));
    }

    fn services(&self) -> &ServiceTable {
        let services = self.services.get();
        services.expect("services are made before connections")
    }

    /// Gives a payload its owner: the receive buffer that it lies in, unless these run low, or a
    /// buffer of its own. `bytes` are those of the chunk, if there is one.
    pub(super) fn payload(
        &self,
        conn: &Conn,
        body: Body,
        bytes: &[u8],
        chunk: Option<&Chunk>,
    ) -> Chunk {
        let (counter, memory) = match (body, chunk) {
            (Body::InPlace(range), Some(chunk)) if !self.is_low_on_buffers() => {
                self.counters.in_place.add(1);
                return chunk.slice(range);
            }
            (Body::InPlace(range), _) => {
                (&self.counters.copied, AlignedBuf::copy_of(&bytes[range]))
            }
            (Body::Gathered(memory), _) => (&self.counters.copied, memory),
            (Body::Direct(memory), _) => (&self.counters.direct, memory),
            (Body::Discarded, _) => (&self.counters.copied, AlignedBuf::with_len(0)),
        };
        counter.add(1);
        Chunk::on_account(memory, self.account_of_body(conn))
    }
}

impl HeldCall {
    /// Length of the answer that there should be memory for.
    fn expected_bytes(&self, table: &OpenTable<'_>) -> usize {
        table.expected_bytes(self.header.selector, self.payload.as_slice().len())
    }
}

/// What stands in the account of a connection for bytes that have not been acted on. They take memory
/// until they are, so they must not be what keeps the connection waiting.
fn waiting_bytes(conn: &Conn) -> usize {
    conn.backlog.borrow().memory_bytes() + conn.acted_on_bytes.get()
}

/// The next request, if it is an ordinary one and may be executed.
#[inline(always)]
fn next_request(conn: &Conn, bytes: &[u8], at: &mut usize) -> Option<(Header, Range<usize>)> {
    match &mut *conn.role.borrow_mut() {
        Role::Server(server) if server.has_room_for_calls() => server.next_request(bytes, at),
        _ => None,
    }
}

/// When the caller of a request that arrived at `arrived_ns` stops waiting; `u64::MAX`: never.
#[inline(always)]
fn deadline_ns(header: &Header, arrived_ns: u64) -> u64 {
    match header.timeout_us {
        0 => u64::MAX,
        timeout_us => arrived_ns + u64::from(timeout_us) * 1000,
    }
}
