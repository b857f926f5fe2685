//! From received bytes to handlers.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use super::ShardCore;
use super::answer::{
    refuse_draining, refuse_invalid, refuse_unimplemented, refuse_unread, refuse_unstarted,
};
use super::conn::{Conn, HELD_PATIENCE_NS};
use super::memory::SUSPENDED_CALL_BYTES;
use super::service::{OpenTable, ServiceTable};
use crate::buf::{AlignedBuf, Chunk};
use crate::connection::backlog::{HeldCall, Piece};
use crate::connection::flow::Pause;
use crate::connection::lifecycle::{Plan, Stage};
use crate::connection::server::ServerEvent;
use crate::planted_bugs::{Bug, is_planted};
use crate::rpc::refusal::Unreadable;
use crate::wire::framer::{Body, DirectBody};
use crate::wire::header::{Header, Kind};
use crate::wire::violation::Violation;

impl ShardCore {
    /// Takes bytes that the engine has received on a connection.
    pub(crate) fn receive(&self, conn: &Rc<Conn>, chunk: Chunk) {
        if conn.stage() != Stage::Open {
            return;
        }
        let mut at = 0;
        if conn.pause().is_none() {
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
        conn.backlog_mut().push(piece);
        self.bound_backlog(conn);
    }

    /// Bytes that wait don't keep the last receive buffers from other connections, nor those that wait
    /// for long any.
    fn copy_out_if_low(&self, conn: &Conn, piece: &mut Piece) {
        let waits_long = conn.pause() == Some(Pause::Output);
        if piece.is_pooled && (waits_long || self.is_low_on_buffers()) {
            piece.copy_out(&conn.budget.account);
        }
    }

    /// A peer that is read from although it does not read has as much room for that as others for
    /// requests that arrive.
    fn bound_backlog(&self, conn: &Rc<Conn>) {
        if conn.pause() == Some(Pause::Output) && self.body_room(conn) < self.pool.buffer_bytes() {
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
        conn.budget.acted_on_bytes.set(piece.memory_bytes);
        let chunk = piece.is_pooled.then_some(&piece.bytes);
        self.process_bytes(conn, piece.bytes.as_slice(), chunk, &mut piece.at);
        conn.budget.acted_on_bytes.set(0);
    }

    /// Acts on each frame in `bytes`, from `*at` on. When the peer reaches a limit the rest is left
    /// over, and the engine stops receiving.
    fn process_bytes(&self, conn: &Rc<Conn>, bytes: &[u8], chunk: Option<&Chunk>, at: &mut usize) {
        self.look_at(conn);
        self.lend_buffer(conn);
        let ended = if conn.is_server() {
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
        let mut queue = conn.output_mut();
        if queue.filling().capacity() == 0 {
            *queue.filling() = self.take_buffer();
        }
    }

    /// Whether another frame of the peer may be acted on: its output is below what a connection may
    /// have in this turn.
    #[inline(always)]
    pub(super) fn has_room_for_output(&self, conn: &Conn) -> bool {
        conn.output().len() < self.turn.output_max.get()
    }

    /// Why a connection waits that has been at work in this turn, and has enough output by now.
    fn output_pause(&self, conn: &Conn) -> Pause {
        if conn.output().len() < self.config.limits.write_queue_bytes_high {
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
        self.note_body_wait(conn, pause);
        let before = conn.set_pause(pause, self.patience_ns());
        if before != pause {
            self.counters.change_pause(before, pause);
            conn.attend();
        }
    }

    /// Why nothing more of a connection may be acted on yet.
    fn blocked_by(&self, conn: &Rc<Conn>) -> Option<Pause> {
        let is_stuck = is_planted(Bug::PauseNeverEnded) && conn.pause() == Some(Pause::Output);
        if is_stuck || !self.has_room_for_output(conn) {
            // It has had time to send since.
            return Some(Pause::Output);
        }
        if self.must_wait_for_room(conn) {
            return Some(Pause::Memory);
        }
        // Without one it goes on, since what lies behind may give up a call that waits.
        let holds = conn.backlog().is_holding() && !self.must_refuse_held(conn);
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
            } else if conn.backlog().is_holding() && !self.must_refuse_held(conn) {
                return true;
            }
        }
        let backlog = conn.backlog();
        conn.held_until_ns().is_some()
            && backlog.held().is_some_and(|call| {
                let answer_bytes = expected_bytes(call, &self.services().open());
                !self.has_room_for_answer(conn, waiting_bytes, answer_bytes)
                    && !self.grant_overdraft(conn)
            })
    }

    /// Whether a call has been held for so long, for want of memory for one more that may wait, that it is
    /// refused. Behind it may lie that others were given up, which would make room.
    fn must_refuse_held(&self, conn: &Conn) -> bool {
        conn.backlog().is_holding()
            && conn.held_until_ns().is_none()
            && conn.with_server(|server| server.lacks_memory_for_calls()) == Some(true)
    }

    pub(super) fn lacks_room_for_body(&self, conn: &Conn) -> bool {
        let wanted = conn.link(|link| link.body_wants());
        wanted.is_some_and(|bytes| self.body_room(conn) < bytes)
    }

    /// What the engine does next for a connection that needs attention. One that was paused goes on first,
    /// if there is room again.
    #[inline]
    pub(crate) fn plan(&self, conn: &Rc<Conn>) -> Plan {
        if conn.is_paused() && !conn.waits_for_turn.get() {
            self.resume_reading(conn);
        }
        conn.plan()
    }

    fn resume_reading(&self, conn: &Rc<Conn>) {
        self.look_at(conn);
        if let Some(pause) = self.blocked_by(conn) {
            // It may be another reason than before.
            return self.set_pause(conn, Some(pause));
        }
        self.set_pause(conn, None);
        let must_refuse = self.must_refuse_held(conn);
        let held = conn.backlog_mut().take_held();
        conn.set_held_until_ns(None);
        match held {
            Some(call) if must_refuse => refuse_unstarted(conn, call.header.call_id),
            Some(call) if !is_planted(Bug::HeldCallForgotten) => {
                self.start_call(&self.services().open(), conn, call);
            }
            Some(_) | None => (),
        }
        // A frame that was whole when reading stopped, such as a large body, comes first.
        self.process_bytes(conn, &[], None, &mut 0);
        while conn.pause().is_none() && conn.stage() == Stage::Open {
            let piece = conn.backlog_mut().pop();
            let Some(mut piece) = piece else {
                break;
            };
            self.process(conn, &mut piece);
            if conn.stage() == Stage::Open && !piece.is_used_up() {
                self.copy_out_if_low(conn, &mut piece);
                conn.backlog_mut().put_back(piece);
            }
        }
        if conn.pause().is_none() && conn.take_end_behind_backlog() {
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
                table.call(conn, &header, arrived_ns, chunk.slice(range));
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
        let mut header = Header::new(Kind::Request, call_id, 0);
        header.selector = index;
        self.services().open().call(conn, &header, 0, payload);
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
        let next = conn.with_server(|server| {
            let (now_ns, directory) = (self.patience_ns(), self.services());
            let mut output = conn.output_mut();
            server.link_mut().set_body_room(body_room);
            let event = server.next_event(bytes, at, now_ns, directory, output.filling())?;
            conn.note_response_bytes_max(server.response_bytes_max());
            Ok(event)
        });
        let Some(event) = next.transpose()? else {
            return Ok(ControlFlow::Break(()));
        };
        self.settle_arriving(conn);
        // What was granted for a body that nobody takes ends with it.
        if !matches!(event, None | Some(ServerEvent::Request { .. })) {
            conn.budget.is_granted.set(false);
        }
        match event {
            Some(ServerEvent::Request { header, body }) => {
                let payload = self.payload(conn, body, bytes, chunk);
                let memory_bytes = payload.bytes_on(&conn.budget.account);
                let call = HeldCall {
                    header,
                    payload,
                    arrived_ns: conn.arrived_ns.get(),
                    memory_bytes,
                };
                if let Some(pause) = self.holds_back(table, conn, &call) {
                    conn.backlog_mut().hold(call);
                    conn.set_held_until_ns(Some(self.patience_ns() + HELD_PATIENCE_NS));
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
            Some(ServerEvent::NoMemory { call_id, bytes }) => {
                refuse_unread(conn, call_id, bytes);
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
        let answer_bytes = expected_bytes(call, table);
        let has_room = self.has_room_for_answer(conn, waiting_bytes, answer_bytes);
        (!has_room).then_some(Pause::Memory)
    }

    /// Starts a call that was looked at by itself. While memory is short, what its answer takes is
    /// remembered for the next call of the same method.
    fn start_call(&self, table: &OpenTable<'_>, conn: &Rc<Conn>, call: HeldCall) {
        let HeldCall {
            header,
            payload,
            arrived_ns,
            ..
        } = call;
        if !self.memory.is_short() {
            return table.call(conn, &header, arrived_ns, payload);
        }
        if self.memory.is_full() {
            conn.answer_briefly();
        }
        let before = conn.output().len();
        conn.budget.refused_bytes.set(0);
        table.call(conn, &header, arrived_ns, payload);
        let queued = self.settle_output(conn).saturating_sub(before);
        table.learn(
            header.selector,
            queued.max(conn.budget.refused_bytes.take()),
        );
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

/// Length of the answer to a call that there should be memory for.
fn expected_bytes(call: &HeldCall, table: &OpenTable<'_>) -> usize {
    table.expected_bytes(call.header.selector, call.payload.as_slice().len())
}

/// What stands in the account of a connection for bytes that have not been acted on. They take memory
/// until they are, so they must not be what keeps the connection waiting.
fn waiting_bytes(conn: &Conn) -> usize {
    conn.backlog().memory_bytes() + conn.budget.acted_on_bytes.get()
}

/// The next request, if it is an ordinary one and may be executed.
#[inline(always)]
fn next_request(conn: &Conn, bytes: &[u8], at: &mut usize) -> Option<(Header, Range<usize>)> {
    conn.with_server(|server| {
        if server.has_room_for_calls() {
            server.next_request(bytes, at)
        } else {
            None
        }
    })?
}
