//! Connected sockets: what was told of each, when it is read from and written to, and when it is
//! closed.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, Shutdown};

use super::readiness::{Readiness, Ready};
use super::transfer::{receive, send};
use crate::client::connecting::refuse_itself;
use crate::client::core::target::Target;
use crate::connection::lifecycle::Stage;
use crate::connection::outgoing::Outgoing;
use crate::net::options::{StreamOptions, set_stream_options};
use crate::shard::ShardCore;
use crate::shard::conn::Conn;

/// Reads after which other connections get their turn.
const READS_PER_TURN: usize = 8;

/// The sockets of a shard, at the place that each connection remembers.
pub(super) struct Sockets {
    options: StreamOptions,
    slots: Vec<Option<Socket>>,
    free: Vec<u32>,
    /// Tells sockets apart that have the same place one after the other.
    lives: u32,
    /// Sockets that could not be read because there was no buffer.
    starved: Vec<u32>,
    /// The list of those that get attention in this turn, kept for its memory.
    attended: Vec<Rc<Conn>>,
}

struct Socket {
    conn: Rc<Conn>,
    fd: OwnedFd,
    ready: Ready,
    sending: Option<Outgoing>,
    is_connecting: bool,
    /// There may be something to receive.
    is_readable: bool,
    /// It waits for a buffer to receive into.
    is_starved: bool,
    /// Its peer has closed its side, or it has broken: there is an end to be read after all bytes.
    has_ended: bool,
    /// A receive may end at a mark in the stream, such as urgent data or descriptors that were sent
    /// along, though more lies behind it.
    has_marks: bool,
    /// It has broken.
    is_broken: bool,
    /// It takes no more until the kernel tells of room.
    is_full: bool,
    /// Whether the kernel tells of room.
    watches_room: bool,
}

impl Sockets {
    pub(super) fn new(options: StreamOptions) -> Self {
        Self {
            options,
            slots: Vec::new(),
            free: Vec::new(),
            lives: 0,
            starved: Vec::new(),
            attended: Vec::new(),
        }
    }

    /// The options for new sockets.
    pub(super) fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// Enters a socket, which is connected or will be.
    pub(super) fn add(
        &mut self,
        readiness: &Readiness,
        conn: &Rc<Conn>,
        fd: OwnedFd,
        is_connecting: bool,
    ) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.lives = self.lives.wrapping_add(1);
        let ready = Ready::Socket {
            slot,
            life: self.lives,
        };
        if let Err(error) = readiness.add_socket(ready, &fd, is_connecting) {
            self.free.push(slot);
            conn.shard.lost(conn, &error);
            conn.attend();
            return;
        }
        conn.engine_slot.set(slot);
        // Over a unix socket descriptors may be sent along, and nothing tells of them. Over TCP the kernel
        // tells of urgent data.
        let has_marks = rustix::net::sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX);
        self.slots[slot as usize] = Some(Socket {
            conn: Rc::clone(conn),
            fd,
            ready,
            sending: None,
            is_connecting,
            is_readable: false,
            is_starved: false,
            has_ended: false,
            has_marks,
            is_broken: false,
            is_full: false,
            watches_room: is_connecting,
        });
        conn.attend();
    }

    /// Makes the connection of a local client.
    pub(super) fn connect(&mut self, readiness: &Readiness, conn: &Rc<Conn>, target: &Target) {
        let options = &self.options;
        let begin = || -> io::Result<OwnedFd> {
            let domain = target.address.domain();
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
            set_stream_options(&socket, target.transport, &options.of_client())?;
            socket.set_nonblocking(true)?;
            match socket.connect(&target.address) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(socket.into()),
            }
        };
        match begin() {
            Ok(fd) => self.add(readiness, conn, fd, true),
            Err(error) => conn.shard.connect_failed(conn, &error),
        }
    }

    /// Takes what the kernel has told of a socket, and acts on it at once.
    pub(super) fn ready(
        &mut self,
        readiness: &Readiness,
        slot: u32,
        life: u32,
        flags: EventFlags,
    ) -> io::Result<()> {
        let Some(socket) = &mut self.slots[slot as usize] else {
            return Ok(());
        };
        if socket.ready != (Ready::Socket { slot, life }) {
            return Ok(());
        }
        const END: EventFlags = EventFlags::RDHUP.union(BREAK);
        const BREAK: EventFlags = EventFlags::ERR.union(EventFlags::HUP);
        socket.is_readable |= flags.intersects(END | EventFlags::IN | EventFlags::PRI);
        socket.has_marks |= flags.intersects(EventFlags::PRI);
        socket.has_ended |= flags.intersects(END);
        socket.is_broken |= flags.intersects(BREAK);
        socket.is_full &= !flags.intersects(BREAK | EventFlags::OUT);
        let conn = Rc::clone(&socket.conn);
        self.attend(readiness, &conn)
    }

    /// Attends to each connection that has asked for it. Those that ask meanwhile come in the next
    /// turn, after the others.
    pub(super) fn attend_all(
        &mut self,
        readiness: &Readiness,
        shard: &ShardCore,
    ) -> io::Result<()> {
        let mut attended = std::mem::take(&mut self.attended);
        shard.take_attention(&mut attended);
        for conn in attended.drain(..) {
            self.attend(readiness, &conn)?;
        }
        self.attended = attended;
        Ok(())
    }

    /// Does with the socket what the shard wants of the connection: reads, lets the shard act, sends,
    /// and closes.
    fn attend(&mut self, readiness: &Readiness, conn: &Rc<Conn>) -> io::Result<()> {
        let slot = conn.engine_slot.get();
        if slot == u32::MAX {
            // It never had a socket, or could not be watched.
            if conn.stage() == Stage::Closing {
                conn.shard.closed(conn);
            }
            return Ok(());
        }
        let Some(socket) = &mut self.slots[slot as usize] else {
            return Ok(());
        };
        if socket.is_connecting
            && let Err(error) = socket.finish_connecting()
        {
            if conn.stage() == Stage::Open {
                self.release(slot, conn);
                conn.shard.connect_failed(conn, &error);
                return Ok(());
            }
            conn.shard.lost(conn, &error);
        }
        let mut plan = conn.shard.plan(conn);
        if !socket.is_connecting && !plan.close {
            socket.is_readable |= conn.must_look_first();
            let received = socket.receive_all();
            // What receiving has asked for follows here.
            conn.attended();
            match received {
                Received::Done => (),
                Received::Unfinished => conn.attend(),
                Received::LacksBuffer => {
                    socket.is_starved = true;
                    self.starved.push(slot);
                }
            }
            if conn.is_unread() && socket.is_broken {
                socket.break_off();
            }
            if let Err(error) = socket.send_all() {
                conn.shard.lost(conn, &error);
            }
            socket.watch_room(readiness)?;
            // What was sent may have made room for more, or was the last.
            plan = conn.shard.plan(conn);
        }
        if plan.shutdown {
            socket.shut_down_writing();
            conn.shard.linger(conn);
        }
        conn.shard.arm_timer(conn);
        if plan.close {
            self.release(slot, conn);
            conn.shard.closed(conn);
        }
        Ok(())
    }

    /// When buffers are there again, the sockets that waited for them are read.
    pub(super) fn feed_starved(&mut self, shard: &ShardCore) {
        if self.starved.is_empty() || shard.pool.free_count() == 0 {
            return;
        }
        for slot in self.starved.drain(..) {
            if let Some(socket) = &mut self.slots[slot as usize] {
                socket.is_starved = false;
                socket.conn.attend();
            }
        }
    }

    /// Closes a socket and gives its place away.
    fn release(&mut self, slot: u32, conn: &Conn) {
        self.slots[slot as usize] = None;
        self.free.push(slot);
        conn.engine_slot.set(u32::MAX);
    }
}

/// How receiving has ended.
enum Received {
    /// There is no more, or no more is wanted.
    Done,
    /// There may be more, but others have their turn first.
    Unfinished,
    /// There is no buffer left to read into.
    LacksBuffer,
}

impl Socket {
    /// Finds out whether it is connected by now, or why it will never be.
    fn finish_connecting(&mut self) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.fd);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        self.is_connecting = socket.peer_addr().is_err();
        if self.is_connecting {
            return Ok(());
        }
        refuse_itself(&self.fd)
    }

    /// Receives what is there, up to a bound. A receive that fills less than its room has taken all,
    /// unless there are marks, and the kernel tells when there is more: that saves a call that would find
    /// nothing. An end that was told already is not told again.
    fn receive_all(&mut self) -> Received {
        let conn = Rc::clone(&self.conn);
        for _ in 0..READS_PER_TURN {
            if !self.is_readable || self.is_starved || !conn.wants_read() {
                return Received::Done;
            }
            let (room, received) = match conn.take_direct() {
                Some(mut body) => {
                    let room = body.unfilled().len();
                    let received = receive(&self.fd, body.unfilled());
                    if let Ok(bytes) = received {
                        body.advance(bytes);
                    }
                    conn.shard.receive_direct(&conn, body);
                    (room, received)
                }
                None => {
                    let pool = &conn.shard.pool;
                    let Some(buffer) = pool.take() else {
                        conn.shard.counters.buffers_exhausted.add(1);
                        return Received::LacksBuffer;
                    };
                    let filled = pool.fill_with(buffer, |memory| receive(&self.fd, memory));
                    let received = filled.map(|chunk| {
                        chunk.map_or(0, |chunk| {
                            let bytes = chunk.as_slice().len();
                            conn.shard.receive(&conn, chunk);
                            bytes
                        })
                    });
                    (pool.buffer_bytes(), received)
                }
            };
            match received {
                Ok(bytes) if bytes == room => (),
                Ok(bytes) if bytes > 0 && (self.has_ended || self.has_marks) => (),
                Ok(bytes) => {
                    self.is_readable = false;
                    if bytes == 0 {
                        self.note_unwritten();
                        conn.shard.peer_closed(&conn);
                    }
                }
                Err(error) => {
                    self.is_readable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.note_unwritten();
                        conn.shard.lost(&conn, &error);
                    }
                }
            }
        }
        Received::Unfinished
    }

    /// Says what of the message that is being sent will not be sent any more.
    fn note_unwritten(&self) {
        if let Some(message) = &self.sending {
            self.conn.note_unwritten(message.first_unsent_request());
        }
    }

    /// It has broken while nothing is received from it.
    fn break_off(&self) {
        let error = socket2::SockRef::from(&self.fd).take_error();
        let reset = || io::ErrorKind::ConnectionReset.into();
        let error = error.ok().flatten().unwrap_or_else(reset);
        self.conn.shard.lost(&self.conn, &error);
    }

    /// Sends what is queued until the socket takes no more.
    fn send_all(&mut self) -> io::Result<()> {
        let conn = &self.conn;
        while !self.is_full && conn.stage() <= Stage::Flushing {
            let Some(message) = self.sending.take().or_else(|| conn.begin_send()) else {
                return Ok(());
            };
            match send(&self.fd, &message) {
                Ok(bytes) => self.sending = conn.sent_some(message, bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_full = true;
                    self.sending = Some(message);
                    conn.note_progress(false);
                }
                Err(error) => {
                    conn.give_up(&message);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Has the kernel tell of room while something waits for it.
    fn watch_room(&mut self, readiness: &Readiness) -> io::Result<()> {
        if self.watches_room != self.is_full {
            readiness.change_socket(self.ready, &self.fd, self.is_full)?;
            self.watches_room = self.is_full;
        }
        Ok(())
    }

    fn shut_down_writing(&self) {
        // It fails when the peer has gone already, which the receive will say too.
        if let Err(error) = rustix::net::shutdown(&self.fd, Shutdown::Write) {
            tracing::trace!(%error, "shutdown of a connection that is gone");
        }
    }
}
