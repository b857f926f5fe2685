//! From received bytes to handlers.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use super::ShardCore;
use super::answer::{refuse_draining, refuse_unimplemented};
use super::backlog::{HeldCall, Piece};
use super::conn::{Conn, Role, Stage};
use super::service::{IncomingCall, OpenTable, ServiceTable};
use crate::buf::{AlignedBuf, Chunk};
use crate::proto::framer::{Body, DirectBody};
use crate::proto::header::Header;
use crate::proto::server::ServerEvent;
use crate::proto::violation::Violation;

impl ShardCore {
    /// Takes bytes that the engine has received on a connection.
    pub(crate) fn receive(&self, conn: &Rc<Conn>, chunk: Chunk) {
        if conn.stage() != Stage::Open {
            return;
        }
        let mut piece = Piece {
            bytes: chunk,
            is_pooled: true,
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
        if piece.is_pooled && self.is_low_on_buffers() {
            piece.copy_out();
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
        let chunk = piece.is_pooled.then_some(&piece.bytes);
        self.process_bytes(conn, piece.bytes.as_slice(), chunk, &mut piece.at);
    }

    /// Acts on each frame in `bytes`, from `*at` on. When the peer reaches a limit the rest is left
    /// over, and the engine stops receiving.
    fn process_bytes(&self, conn: &Rc<Conn>, bytes: &[u8], chunk: Option<&Chunk>, at: &mut usize) {
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

    /// Gives the connection a send buffer for the answers to come, if it has none.
    pub(super) fn lend_buffer(&self, conn: &Conn) {
        let mut queue = conn.queue.borrow_mut();
        if queue.filling().capacity() == 0 {
            *queue.filling() = self.take_buffer();
        }
    }

    /// Whether another frame of the peer may be acted on: its output is below the limit.
    #[inline(always)]
    pub(super) fn has_room_for_output(&self, conn: &Conn) -> bool {
        conn.queue.borrow().len() < self.config.limits.write_queue_bytes_high
    }

    pub(super) fn set_paused(&self, conn: &Rc<Conn>, is_paused: bool) {
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
            if !self.has_room_for_held(conn, self.held_by_others(conn)) {
                return self.wait_for_room(conn);
            }
            if conn.with_server(|server| server.has_room_for_calls()) != Some(true) {
                return;
            }
            let held = conn.backlog.borrow_mut().take_held();
            if let Some(held) = held {
                let table = self.services().open();
                table.call(
                    held.header.selector,
                    IncomingCall {
                        conn,
                        call_id: held.header.call_id,
                        deadline_ns: deadline_ns(&held.header, held.arrived_ns),
                        payload: held.payload,
                    },
                );
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
        let keepable = chunk.filter(|_| !self.is_low_on_buffers());
        while conn.stage() == Stage::Open {
            if !self.has_room_for_output(conn) {
                self.set_paused(conn, true);
                break;
            }
            if let Some(chunk) = keepable
                && let Some((header, range)) = next_request(conn, bytes, at)
            {
                self.counters.in_place.add(1);
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
                    conn.with_server(|server| server.chunk_used_up(self.now_ns()));
                    break;
                }
            } else if self.serve_other(&table, conn, bytes, chunk, at)?.is_break() {
                break;
            }
        }
        Ok(())
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
        let (event, has_room_for_calls) = {
            let Role::Server(server) = &mut *conn.role.borrow_mut() else {
                return Ok(ControlFlow::Break(()));
            };
            let (now_ns, directory) = (self.now_ns(), self.services());
            let mut queue = conn.queue.borrow_mut();
            let event = server.next_event(bytes, at, now_ns, directory, queue.filling())?;
            conn.response_bytes_max.set(server.response_bytes_max());
            (event, server.has_room_for_calls())
        };
        match event {
            Some(ServerEvent::Request { header, body }) => {
                let has_room_for_bodies = self.has_room_for_bodies(conn);
                let payload = self.payload(conn, body, bytes, chunk);
                let arrived_ns = conn.arrived_ns.get();
                if !has_room_for_bodies {
                    self.wait_for_room(conn);
                }
                if !(has_room_for_calls && has_room_for_bodies) {
                    let held = HeldCall {
                        header,
                        payload,
                        arrived_ns,
                    };
                    conn.backlog.borrow_mut().hold(held);
                    self.set_paused(conn, true);
                    return Ok(ControlFlow::Break(()));
                }
                let call = IncomingCall {
                    conn,
                    call_id: header.call_id,
                    deadline_ns: deadline_ns(&header, arrived_ns),
                    payload,
                };
                table.call(header.selector, call);
            }
            Some(ServerEvent::Unresolved { call_id }) => refuse_unimplemented(conn, call_id),
            Some(ServerEvent::AfterGoaway { call_id }) => refuse_draining(conn, call_id),
            Some(ServerEvent::Cancel { task }) => self.cancel_call(task),
            None => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
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
        };
        counter.add(1);
        Chunk::on_account(memory, &conn.bodies)
    }

    /// Whether another message of this connection may lie in a buffer of its own.
    fn has_room_for_bodies(&self, conn: &Conn) -> bool {
        conn.bodies.bytes() < self.config.limits.request_bytes_in_flight_max
            && self.bodies.bytes() < self.config.request_bytes_max
    }

    /// The same for the request that the connection holds. Those that are held are in the accounts,
    /// but in no handler, so they don't keep each other waiting.
    fn has_room_for_held(&self, conn: &Conn, held_by_others: usize) -> bool {
        let own = conn.backlog.borrow().held_bytes();
        let of_conn = conn.bodies.bytes().saturating_sub(own);
        let of_shard = self.bodies.bytes().saturating_sub(own + held_by_others);
        of_conn < self.config.limits.request_bytes_in_flight_max
            && of_shard < self.config.request_bytes_max
    }

    /// Bytes that other connections hold, which wait for room too.
    fn held_by_others(&self, conn: &Rc<Conn>) -> usize {
        let waiting = self.waiting_for_room.borrow();
        let others = waiting.iter().filter(|other| !Rc::ptr_eq(other, conn));
        others
            .map(|other| other.backlog.borrow().held_bytes())
            .sum()
    }

    /// Remembers a connection that must wait until handlers have dropped requests.
    fn wait_for_room(&self, conn: &Rc<Conn>) {
        if !conn.waits_for_room.replace(true) {
            self.waiting_for_room.borrow_mut().push(Rc::clone(conn));
        }
    }

    /// Goes on with connections that waited for room, at the end of a turn's handlers.
    pub(super) fn offer_room(&self) {
        if self.waiting_for_room.borrow().is_empty() {
            return;
        }
        let mut waiting = self.waiting_for_room.borrow_mut();
        let held = |conn: &Rc<Conn>| conn.backlog.borrow().held_bytes();
        let all_held: usize = waiting.iter().map(held).sum();
        waiting.retain(|conn| {
            let held_by_others = all_held - held(conn);
            let must_wait =
                conn.stage() == Stage::Open && !self.has_room_for_held(conn, held_by_others);
            conn.waits_for_room.set(must_wait);
            if !must_wait {
                conn.attend();
            }
            must_wait
        });
    }
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
