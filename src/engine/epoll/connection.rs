//! The task of one connection.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::Engine;
use super::watched::watch;
use crate::engine::outgoing::Outgoing;
use crate::platform::options::set_stream_options;
use crate::shard::conn::{Conn, Stage};
use crate::shard::local_client::Target;

/// Reads after which other connections get their turn.
const READS_PER_TURN: usize = 8;

struct Connection {
    engine: Rc<Engine>,
    conn: Rc<Conn>,
    socket: Rc<AsyncFd<OwnedFd>>,
    sending: Option<Outgoing>,
    is_connecting: bool,
}

/// What a turn has made of a connection.
enum Progress {
    Goes,
    Over,
    /// This address of a local client's host has not accepted it; the shard goes on with another
    /// one, or ends it.
    NotMade,
}

/// Starts the task of a connection.
pub(super) fn spawn(engine: &Rc<Engine>, conn: Rc<Conn>, fd: OwnedFd, is_connecting: bool) {
    let waker = engine.enter(&conn);
    match watch(fd) {
        Ok(socket) => {
            let engine = Rc::clone(engine);
            let connection = Connection {
                engine,
                conn,
                socket: Rc::new(socket),
                sending: None,
                is_connecting,
            };
            tokio::task::spawn_local(connection.run(waker));
        }
        Err(error) => {
            engine.shard.lost(&conn, &error);
            engine.leave(&conn);
        }
    }
}

/// Makes the connection of a local client.
pub(super) fn connect(engine: &Rc<Engine>, conn: Rc<Conn>, target: &Target) {
    let begin = || -> io::Result<OwnedFd> {
        let socket = socket2::Socket::new(target.address.domain(), socket2::Type::STREAM, None)?;
        set_stream_options(&socket, target.is_tcp, &engine.stream)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&target.address) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    };
    match begin() {
        Ok(fd) => spawn(engine, conn, fd, true),
        Err(error) => engine.shard.connect_failed(&conn, &error),
    }
}

impl Connection {
    async fn run(mut self, waker: Rc<Notify>) {
        let (engine, socket) = (Rc::clone(&self.engine), Rc::clone(&self.socket));
        let mut progress = engine.turn(|| self.advance());
        while let Progress::Goes = progress {
            let wants_read = self.conn.wants_read() && !self.is_connecting;
            let wants_write = self.sending.is_some() || self.is_connecting;
            progress = tokio::select! {
                () = waker.notified() => engine.turn(|| self.advance()),
                ready = socket.readable(), if wants_read => engine.turn(|| {
                    let is_drained = self.read();
                    if let Ok(mut ready) = ready && is_drained {
                        ready.clear_ready();
                    }
                    self.advance()
                }),
                ready = socket.writable(), if wants_write => {
                    drop(ready);
                    engine.turn(|| self.advance())
                }
                ready = socket.ready(Interest::ERROR), if self.conn.is_paused() => {
                    drop(ready);
                    engine.turn(|| {
                        self.break_off();
                        self.advance()
                    })
                }
            };
        }
        if let Progress::NotMade = progress {
            return;
        }
        let conn = Rc::clone(&self.conn);
        drop((self, socket));
        engine.turn(|| engine.leave(&conn));
    }

    /// Does what the shard wants of the connection.
    fn advance(&mut self) -> Progress {
        let conn = Rc::clone(&self.conn);
        // Whoever asks for attention later in this turn is heard once more.
        conn.attended();
        if self.is_connecting
            && conn.stage() == Stage::Open
            && let Err(error) = self.finish_connecting()
        {
            self.engine.release(&conn);
            conn.shard.connect_failed(&conn, &error);
            return Progress::NotMade;
        }
        conn.shard.resume_reading(&conn);
        if !self.is_connecting && conn.stage() <= Stage::Flushing {
            if let Err(error) = self.write() {
                conn.shard.lost(&conn, &error);
            } else if conn.stage() == Stage::Flushing && conn.queue.borrow().is_empty() {
                self.shut_down_writing();
                conn.shard.linger(&conn);
            }
        }
        // What was written may have made room for more, and nothing else would look again.
        conn.shard.resume_reading(&conn);
        conn.shard.arm_timer(&conn);
        if conn.stage() == Stage::Closing {
            return Progress::Over;
        }
        Progress::Goes
    }

    /// The socket has broken while nothing is received from it.
    fn break_off(&self) {
        let error = socket2::SockRef::from(self.socket.get_ref()).take_error();
        let reset = || io::ErrorKind::ConnectionReset.into();
        let error = error.ok().flatten().unwrap_or_else(reset);
        self.conn.shard.lost(&self.conn, &error);
    }

    /// Finds out whether the socket is connected by now, or why it will never be.
    fn finish_connecting(&mut self) -> io::Result<()> {
        let socket = socket2::SockRef::from(self.socket.get_ref());
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        self.is_connecting = socket.peer_addr().is_err();
        Ok(())
    }

    /// Receives what is there, up to a bound. Says whether it was less than there was room for: then
    /// the socket has no more, and will tell when it has, which saves a read that finds nothing. (The
    /// peer's end is told apart from that, and stays told.)
    fn read(&self) -> bool {
        let conn = Rc::clone(&self.conn);
        for _ in 0..READS_PER_TURN {
            if !conn.wants_read() {
                return false;
            }
            let (room, received) = match conn.take_direct() {
                Some(mut body) => {
                    let room = body.unfilled().len();
                    let received = self.receive(body.unfilled());
                    if let Ok(bytes) = received {
                        body.advance(bytes);
                    }
                    conn.shard.receive_direct(&conn, body);
                    (room, received)
                }
                None => (conn.shard.pool.buffer_bytes(), self.read_chunk(&conn)),
            };
            match received {
                Ok(0) => {
                    conn.shard.peer_closed(&conn);
                    return false;
                }
                Ok(bytes) if bytes < room => return true,
                Ok(_) => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    conn.shard.lost(&conn, &error);
                    return false;
                }
            }
        }
        conn.attend();
        false
    }

    fn read_chunk(&self, conn: &Rc<Conn>) -> io::Result<usize> {
        let pool = &conn.shard.pool;
        let Some(buffer) = pool.take() else {
            conn.shard.counters.buffers_exhausted.add(1);
            self.engine.starved.borrow_mut().push(Rc::clone(conn));
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let chunk = pool.fill_with(buffer, |memory| self.receive(memory))?;
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.as_slice().len());
        if let Some(chunk) = chunk {
            conn.shard.receive(conn, chunk);
        }
        Ok(bytes)
    }

    fn receive(&self, memory: &mut [u8]) -> io::Result<usize> {
        self.socket.try_io(Interest::READABLE, |socket| {
            // DONTWAIT: the shard never waits for a peer.
            retry(|| {
                rustix::net::recv(socket, &mut *memory, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes)
            })
        })
    }

    /// Sends what is queued until the socket takes no more.
    fn write(&mut self) -> io::Result<()> {
        let conn = Rc::clone(&self.conn);
        loop {
            if self.sending.is_none() {
                self.sending = Outgoing::take(&mut conn.queue.borrow_mut());
            }
            let Some(message) = &mut self.sending else {
                return Ok(());
            };
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, |socket| send(socket, message));
            let bytes = match sent {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.note_output(false);
                    return Ok(());
                }
                Err(error) => {
                    conn.queue.borrow_mut().sent(message.unsent_bytes());
                    self.sending = None;
                    return Err(error);
                }
            };
            conn.queue.borrow_mut().sent(bytes);
            conn.note_output(bytes > 0);
            if message.advance(bytes)
                && let Some(message) = self.sending.take()
            {
                message.recycle(&conn.shard);
            }
        }
    }

    fn shut_down_writing(&self) {
        // It fails when the peer has gone already, which the receive will say too.
        if let Err(error) = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Write) {
            tracing::trace!(%error, "shutdown of a connection that is gone");
        }
    }
}

fn send(socket: impl AsFd, message: &Outgoing) -> io::Result<usize> {
    // NOSIGNAL: a closed peer is an error, not a SIGPIPE. DONTWAIT: the shard never waits.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if message.part_count() == 1 {
        let bytes = message.unsent().next().unwrap_or_default();
        return retry(|| rustix::net::send(&socket, bytes, flags));
    }
    let slices: Vec<IoSlice<'_>> = message.unsent().map(IoSlice::new).collect();
    retry(|| rustix::net::sendmsg(&socket, &slices, &mut SendAncillaryBuffer::default(), flags))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => (),
            other => return Ok(other?),
        }
    }
}
