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
    fn lend_buffer(&self, conn: &Conn) {
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
            } else if self.serve_other(&table, conn, bytes, chunk, at)?.is_break() {
                break;
            }
        }
        Ok(())
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
                let payload = self.payload(body, bytes, chunk);
                let arrived_ns = conn.arrived_ns.get();
                if !has_room_for_calls {
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

    /// Gives a payload that lies in a receive buffer its owner: that buffer, unless these run low.
    fn payload_in_place(&self, chunk: &Chunk, range: Range<usize>) -> Chunk {
        if self.is_low_on_buffers() {
            return self.payload_copied(&chunk.as_slice()[range]);
        }
        self.counters.in_place.add(1);
        chunk.slice(range)
    }

    fn payload_copied(&self, payload: &[u8]) -> Chunk {
        self.counters.copied.add(1);
        AlignedBuf::copy_of(payload).into()
    }

    /// Gives a payload its owner; `bytes` are those of the chunk, if there is one.
    pub(super) fn payload(&self, body: Body, bytes: &[u8], chunk: Option<&Chunk>) -> Chunk {
        let counters = &self.counters;
        match (body, chunk) {
            (Body::InPlace(range), Some(chunk)) => self.payload_in_place(chunk, range),
            (Body::InPlace(range), None) => self.payload_copied(&bytes[range]),
            (Body::Gathered(buf), _) => {
                counters.copied.add(1);
                buf.into()
            }
            (Body::Direct(buf), _) => {
                counters.direct.add(1);
                buf.into()
            }
        }
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
