//! The same echo on epoll: what readiness instead of completion costs, and a second opinion on the
//! client.
//!
//! Level-triggered, one thread, one receive and one send call per ready connection.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use ringcall::Idle;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::Socket;

use super::{Announce, Caller, Counters, Frames, Peer, Task, is_echo};
use crate::point::Point;

/// The raw epoll echo.
pub struct RawEpoll;

impl Peer for RawEpoll {
    fn name(&self) -> &'static str {
        "raw-epoll"
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        let (listener, bound) = task.address.listen()?;
        let mut server = Server::new(listener, task.stop)?;
        announce(&bound)?;
        server.run(task.idle)?;
        Ok(Counters::of_echo("epoll"))
    }

    fn caller(&self) -> Caller<'_> {
        Caller::Frames(self)
    }

    fn takes_part(&self, point: &Point) -> bool {
        is_echo(point.work.workload)
    }
}

impl Frames for RawEpoll {}

struct Server {
    epoll: OwnedFd,
    listener: Socket,
    connections: Vec<Option<Connection>>,
    scratch: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    /// What the peer has not taken yet. While it is not empty, nothing more is received.
    unsent: Vec<u8>,
}

impl Server {
    fn new(listener: Socket, stop: BorrowedFd<'_>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // CLOEXEC: the descriptor does not leak into programs that we might start.
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        epoll::add(&epoll, stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn run(&mut self, idle: Idle) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.wait(idle, &mut events)?;
            for event in events.drain(..) {
                let event: epoll::Event = event;
                match event.data.u64() {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    connection => self.serve(connection as usize)?,
                }
            }
        }
    }

    fn wait(&self, idle: Idle, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let until = match idle {
            Idle::Park => return self.poll(None, events),
            Idle::Spin => return self.poll(Some(&NO_TIME), events),
            Idle::SpinThenPark(time) => Instant::now() + time,
            other => panic!("no server of the benches is idle like {other:?}"),
        };
        while Instant::now() < until {
            self.poll(Some(&NO_TIME), events)?;
            if !events.is_empty() {
                return Ok(());
            }
        }
        self.poll(None, events)
    }

    fn poll(&self, timeout: Option<&Timespec>, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        // NONBLOCK: a call never waits; CLOEXEC: as above.
        const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
        // An error here is one connection that gave up, or none left to accept.
        while let Ok(socket) = rustix::net::accept_with(&self.listener, FLAGS) {
            let vacant = self.connections.iter().position(Option::is_none);
            let index = vacant.unwrap_or(self.connections.len());
            if index == self.connections.len() {
                self.connections.push(None);
            }
            epoll::add(
                &self.epoll,
                &socket,
                EventData::new_u64(index as u64),
                EventFlags::IN,
            )?;
            self.connections[index] = Some(Connection {
                socket,
                unsent: Vec::new(),
            });
        }
        Ok(())
    }

    fn serve(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let was_blocked = !connection.unsent.is_empty();
        if connection.echo(&mut self.scratch).is_err() {
            self.connections[index] = None;
            return Ok(());
        }
        let is_blocked = !connection.unsent.is_empty();
        if was_blocked != is_blocked {
            let interest = if is_blocked {
                EventFlags::OUT
            } else {
                EventFlags::IN
            };
            let data = EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &connection.socket, data, interest)?;
        }
        Ok(())
    }
}

impl Connection {
    /// Receives once and sends it back; an error ends the connection.
    fn echo(&mut self, scratch: &mut [u8]) -> Result<(), Errno> {
        if !self.unsent.is_empty() {
            let sent = send(&self.socket, &self.unsent)?;
            self.unsent.drain(..sent);
            return Ok(());
        }
        let received = match rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(Errno::CONNRESET),
            Ok((_, received)) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        let sent = send(&self.socket, &scratch[..received])?;
        self.unsent.extend_from_slice(&scratch[sent..received]);
        Ok(())
    }
}

/// Bytes that the kernel took.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    // NOSIGNAL: a peer that is gone is an error of this call instead of a SIGPIPE.
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        result => result,
    }
}

/// Bytes that one receive takes at most: a whole turn of a deep pipeline.
const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// What an event carries: one of these, or the index of a connection.
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
