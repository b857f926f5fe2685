//! The physical limit: an echo on a bare io_uring, nothing above it.
//!
//! One thread, one ring. A multishot accept and one multishot receive per connection, so that
//! nothing is re-armed in steady state. What arrives is sent back out of the buffer in which it was
//! received: no byte is looked at or copied in user space. A turn of the loop drains all
//! completions, then makes at most one send per connection, of all that this connection received
//! meanwhile.
#![allow(
    unsafe_code,
    reason = "operations name buffers and message headers that outlive the call"
)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types::Fd};
use rustix::net::{Shutdown, shutdown};
use socket2::Socket;

use super::{Announce, Caller, Counters, Frames, Peer, Task, is_echo};
use crate::point::Point;
use crate::uring;
use crate::uring::buffers::{Buffers, GROUP};
use crate::uring::ring::{Completions, Ring};

/// The raw io_uring echo.
pub struct Raw;

impl Peer for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        let (listener, bound) = task.address.listen()?;
        let mut server = Server::new(listener)?;
        announce(&bound)?;
        server.run(task)?;
        Ok(Counters::of_echo(format!(
            "io_uring {}",
            server.ring.flags()
        )))
    }

    fn caller(&self) -> Caller<'_> {
        Caller::Frames(self)
    }

    fn takes_part(&self, point: &Point) -> bool {
        is_echo(point.work.workload)
    }
}

impl Frames for Raw {}

struct Server {
    ring: Ring,
    buffers: Buffers,
    listener: Socket,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Connections that have something to send, each once.
    ready: Vec<usize>,
    /// Connections whose receive ended because no buffer was left.
    starved: Vec<usize>,
    stopped: bool,
}

/// A connection lives until its receive has ended and no send is in flight.
struct Connection {
    socket: OwnedFd,
    /// A receive is armed, or waits for buffers.
    receiving: bool,
    /// Is named in `Server::ready`.
    is_ready: bool,
    /// Received, not yet being sent.
    held: Vec<Piece>,
    /// What the send in flight reads; empty when there is none.
    sending: Vec<Piece>,
    sending_bytes: usize,
    /// Describes `sending` to the kernel when it is more than one piece.
    vectors: Vec<libc::iovec>,
    message: Box<libc::msghdr>,
}

#[derive(Clone, Copy)]
struct Piece {
    buffer: u16,
    len: usize,
}

impl Server {
    fn new(listener: Socket) -> io::Result<Self> {
        let ring = Ring::new().map_err(uring::explain)?;
        let buffers = Buffers::register(&ring).map_err(uring::explain)?;
        Ok(Self {
            ring,
            buffers,
            listener,
            connections: Vec::new(),
            vacant: Vec::new(),
            ready: Vec::new(),
            starved: Vec::new(),
            stopped: false,
        })
    }

    /// The whole loop. Memory that operations name outlives it: buffers are never freed, and the
    /// process ends with it.
    fn run(&mut self, task: &Task<'_>) -> io::Result<()> {
        let mut completions = Completions::new();
        self.accept()?;
        self.watch(task.stop)?;
        while !self.stopped {
            self.ring.turn(task.idle)?;
            for completion in self.ring.drain(&mut completions) {
                self.handle(completion)?;
            }
            self.send_ready()?;
            if self.buffers.publish() {
                self.feed_starved()?;
            }
        }
        Ok(())
    }

    #[inline]
    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let token = completion.user_data();
        let index = (token & INDEX_MASK) as usize;
        match token & !INDEX_MASK {
            RECV => self.handle_received(index, completion),
            SEND => self.handle_sent(index, completion.result()),
            ACCEPT => self.handle_accepted(completion),
            _ => {
                self.stopped = true;
                Ok(())
            }
        }
    }

    #[inline]
    fn handle_received(&mut self, index: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let connection = open(&mut self.connections, index);
        if let (Some(buffer), len @ 1..) = (
            cqueue::buffer_select(completion.flags()),
            completion.result(),
        ) {
            let len = len as usize;
            connection.held.push(Piece { buffer, len });
            if !mem::replace(&mut connection.is_ready, true) {
                self.ready.push(index);
            }
        }
        if cqueue::more(completion.flags()) {
            return Ok(());
        }
        match completion.result() {
            NO_BUFFERS => self.starved.push(index),
            1.. => self.receive(index)?,
            // Zero is the peer's end, anything else an error of this connection alone.
            _ => {
                connection.receiving = false;
                self.drop_if_done(index);
            }
        }
        Ok(())
    }

    #[inline]
    fn handle_sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let connection = open(&mut self.connections, index);
        for piece in connection.sending.drain(..) {
            self.buffers.give_back(piece.buffer);
        }
        if result != connection.sending_bytes as i32 {
            // With MSG_WAITALL a short send means that the peer is gone.
            for piece in connection.held.drain(..) {
                self.buffers.give_back(piece.buffer);
            }
            // Ends the receive too. When it fails, the socket was down already.
            shutdown(&connection.socket, Shutdown::Both).ok();
        } else if !connection.held.is_empty() && !mem::replace(&mut connection.is_ready, true) {
            self.ready.push(index);
        }
        self.drop_if_done(index);
        Ok(())
    }

    fn handle_accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if completion.result() >= 0 {
            // SAFETY: the kernel made this descriptor for us just now; nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(completion.result()) };
            let index = self.vacant.pop().unwrap_or(self.connections.len());
            if index == self.connections.len() {
                self.connections.push(None);
            }
            self.connections[index] = Some(Connection::new(socket));
            self.receive(index)?;
        }
        if cqueue::more(completion.flags()) {
            return Ok(());
        }
        self.accept()
    }

    #[inline]
    fn send_ready(&mut self) -> io::Result<()> {
        let mut ready = mem::take(&mut self.ready);
        for index in ready.drain(..) {
            let connection = open(&mut self.connections, index);
            connection.is_ready = false;
            if connection.sending.is_empty() && !connection.held.is_empty() {
                connection.send(&mut self.ring, &self.buffers, SEND | index as u64)?;
            } else {
                self.drop_if_done(index);
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// Receives again where the buffers had run out; those given back are published by now.
    fn feed_starved(&mut self) -> io::Result<()> {
        for index in mem::take(&mut self.starved) {
            self.receive(index)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let connection = open(&mut self.connections, index);
        connection.receiving = true;
        let entry = opcode::RecvMulti::new(Fd(connection.socket.as_raw_fd()), GROUP)
            .build()
            .user_data(RECV | index as u64);
        // SAFETY: the kernel writes only into the registered buffers, which are never freed.
        unsafe { self.ring.push(&entry) }
    }

    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
            // SOCK_CLOEXEC: the descriptor does not leak into programs that we might start.
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(ACCEPT);
        // SAFETY: the operation names no memory.
        unsafe { self.ring.push(&entry) }
    }

    /// Completes when the other end of the pipe closes.
    fn watch(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        // POLLIN: the end of the stream counts as readable, and nothing is ever written to it.
        let entry = opcode::PollAdd::new(Fd(stop.as_raw_fd()), libc::POLLIN as u32)
            .build()
            .user_data(STOP);
        // SAFETY: the operation names no memory.
        unsafe { self.ring.push(&entry) }
    }

    fn drop_if_done(&mut self, index: usize) {
        let connection = open(&mut self.connections, index);
        if connection.receiving || !connection.sending.is_empty() || connection.is_ready {
            return;
        }
        self.connections[index] = None;
        self.vacant.push(index);
    }
}

impl Connection {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            receiving: false,
            is_ready: false,
            held: Vec::with_capacity(PIECES_USUAL),
            sending: Vec::with_capacity(PIECES_USUAL),
            sending_bytes: 0,
            vectors: Vec::with_capacity(PIECES_USUAL),
            // SAFETY: null pointers and zero lengths are a valid, empty message header.
            message: Box::new(unsafe { mem::zeroed() }),
        }
    }

    /// Sends all that is held with one operation.
    #[inline]
    fn send(&mut self, ring: &mut Ring, buffers: &Buffers, token: u64) -> io::Result<()> {
        mem::swap(&mut self.held, &mut self.sending);
        self.sending_bytes = self.sending.iter().map(|piece| piece.len).sum();
        let socket = Fd(self.socket.as_raw_fd());
        let entry = if let [piece] = self.sending[..] {
            opcode::Send::new(socket, buffers.at(piece.buffer), piece.len as u32)
                .flags(SEND_FLAGS)
                .build()
        } else {
            self.vectors.clear();
            self.vectors
                .extend(self.sending.iter().map(|piece| libc::iovec {
                    iov_base: buffers.at(piece.buffer).cast_mut().cast(),
                    iov_len: piece.len,
                }));
            self.message.msg_iov = self.vectors.as_mut_ptr();
            self.message.msg_iovlen = self.vectors.len();
            opcode::SendMsg::new(socket, &*self.message)
                .flags(SEND_FLAGS as u32)
                .build()
        };
        // SAFETY: the buffers are ours until `handle_sent` gives them back, and never freed. The
        // header and its vectors belong to this connection, which is not dropped, and sends
        // nothing else, while `sending` is not empty.
        unsafe { ring.push(&entry.user_data(token)) }
    }
}

/// The connection of a completion; it exists, because its slot is vacated only after the last one.
#[inline]
fn open(connections: &mut [Option<Connection>], index: usize) -> &mut Connection {
    connections[index].as_mut().expect("an open connection")
}

/// MSG_WAITALL: the kernel goes on by itself after a short write, so that one completion means all.
/// MSG_NOSIGNAL: a peer that is gone is an error of this send instead of a SIGPIPE.
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// Pieces that a connection has room for from the start; more make it grow.
const PIECES_USUAL: usize = 16;
/// A receive found no buffer; it goes on when some were given back.
const NO_BUFFERS: i32 = -libc::ENOBUFS;

/// Completions carry the operation in the upper half and the connection in the lower.
const INDEX_MASK: u64 = u32::MAX as u64;
const RECV: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const ACCEPT: u64 = 3 << 32;
const STOP: u64 = 4 << 32;
