//! One connection, driven by whoever waits.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::Socket;

use super::CONNECT_TIMEOUT;
use super::kept::no_connection;
use super::lookup::resolve_by;
use crate::buf::AlignedBuf;
use crate::client::CallTarget;
use crate::client::connecting::{Candidates, begin, finish, no_answer};
use crate::client::core::cause::Cause;
use crate::client::core::target::Target;
use crate::connection::client::{ClientConnection, ClientEvent, Fate};
use crate::connection::link::nanos;
use crate::rpc::received::SharedPayload;
use crate::wire::framer::Body;
use crate::wire::limits::Limits;
use crate::wire::status::Status;
use crate::wire::unsent::first_request;

/// A socket that never blocks, and the protocol's state.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    pub(super) connection: ClientConnection<()>,
    /// Whole frames that are queued, and those of which something may have been sent.
    pub(super) out: Vec<u8>,
    writing: Vec<u8>,
    written_bytes: usize,
    /// What was received last, and how much of it was used.
    chunk: AlignedBuf,
    received_bytes: usize,
    used_bytes: usize,
    /// Whether bytes have arrived that were not all looked at.
    has_news: bool,
    start: Instant,
    /// Set when it has failed: whether a new connection likely works.
    failure: Option<bool>,
}

/// Bytes that are received at once.
const CHUNK_BYTES: usize = 32 * 1024;

impl Wire {
    /// Connects, and waits until the handshake is done.
    pub(super) fn open(
        target: &CallTarget,
        limits: &Arc<Limits>,
        deadline: Instant,
    ) -> Result<Self, Status> {
        let socket = connect(target, deadline)?;
        let mut out = Vec::new();
        let mut wire = Self {
            socket,
            connection: ClientConnection::new(Arc::clone(limits), 0, &mut out),
            out,
            writing: Vec::new(),
            written_bytes: 0,
            chunk: AlignedBuf::with_len(CHUNK_BYTES),
            received_bytes: 0,
            used_bytes: 0,
            has_news: false,
            start: Instant::now(),
            failure: None,
        };
        while !wire.connection.is_ready() {
            match wire.next_event(deadline) {
                Ok(Some(ClientEvent::Goaway(goaway))) => {
                    return Err(target.cannot_connect(&Cause::Goaway(goaway)));
                }
                Ok(Some(_)) => (),
                Ok(None) => return Err(no_connection(target)),
                Err(cause) => return Err(target.cannot_connect(&cause)),
            }
        }
        Ok(wire)
    }

    /// Acts on what has arrived since the last call: answers pings, and finds out whether the
    /// server has closed the connection. Says whether calls can be made on it.
    pub(super) fn refresh(&mut self) -> bool {
        let now = Instant::now();
        loop {
            match self.next_event(now) {
                Ok(Some(_)) => (),
                Ok(None) => return self.is_usable() && !self.is_silent(),
                Err(_) => return false,
            }
        }
    }

    /// Whether it is in order: neither side has ended it, and no frame is sent in part.
    pub(super) fn is_usable(&self) -> bool {
        self.failure.is_none() && self.connection.goaway().is_none() && !self.is_midway()
    }

    fn is_midway(&self) -> bool {
        self.written_bytes < self.writing.len()
    }

    /// Whether a PING of an earlier call was never answered.
    fn is_silent(&self) -> bool {
        let now_ns = nanos(self.start.elapsed());
        self.connection.link().awaits_pong() && now_ns >= self.connection.poll_timeout()
    }

    fn has_output(&self) -> bool {
        !self.out.is_empty() || self.is_midway()
    }

    /// Whether the server has answered a call here.
    pub(super) fn has_served(&self) -> bool {
        self.connection.has_served()
    }

    /// Whether a new connection likely works after this one.
    pub(super) fn invites_back(&self) -> bool {
        let goaway = self.connection.goaway();
        match (goaway, self.failure) {
            (Some(goaway), _) => goaway.invites_back(),
            (None, failure) => failure.unwrap_or(true),
        }
    }

    /// What becomes of the call after the connection has ended.
    pub(super) fn fate(&mut self, why: &Status) -> Option<Fate> {
        let unsent_from = first_request(&self.writing, self.written_bytes)
            .or_else(|| self.connection.first_unsent(&self.out));
        let waiters = self.connection.take_waiters(unsent_from, why);
        waiters.into_iter().next().map(|((), fate)| fate)
    }

    /// Gives a call up and tells the server, if that can be done at once.
    pub(super) fn cancel(&mut self, call_id: u64) {
        self.connection.cancel_call(call_id, &mut self.out);
        if self.try_send().is_err() {
            self.failure = Some(true);
        }
    }

    /// Sends, receives and waits until something has happened; `None` when the deadline passes.
    pub(super) fn next_event(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<ClientEvent<()>>, Cause> {
        let outcome = match (self.drive(deadline), self.connection.goaway()) {
            (Err(Cause::Closed | Cause::Io(_)), Some(goaway)) => Err(Cause::Goaway(goaway.clone())),
            (outcome, _) => outcome,
        };
        if let Err(cause) = &outcome {
            self.failure = Some(cause.invites_back(self.connection.is_ready()));
        }
        outcome
    }

    fn drive(&mut self, deadline: Instant) -> Result<Option<ClientEvent<()>>, Cause> {
        let mut late_receives = 0;
        loop {
            if let Some(event) = self.take_event()? {
                return Ok(Some(event));
            }
            // The time first: whatever had happened by then is found in the socket.
            let now = Instant::now();
            self.try_send().map_err(Cause::Io)?;
            let has_received = self.try_receive()?;
            if has_received {
                // What had arrived before the deadline counts, but a server that never stops
                // sending doesn't stop the clock.
                late_receives += u32::from(now >= deadline);
                if late_receives > LATE_RECEIVES_MAX {
                    return Ok(None);
                }
                continue;
            }
            if now >= deadline {
                return Ok(None);
            }
            let now_ns = nanos(now - self.start);
            let due_ns = self.connection.poll_timeout();
            if now_ns >= due_ns {
                let handled = self.connection.handle_timeout(now_ns, &mut self.out);
                handled.map_err(Cause::Violation)?;
                continue;
            }
            let until_due = Duration::from_nanos(due_ns - now_ns);
            self.sleep((deadline - now).min(until_due))
                .map_err(Cause::Io)?;
        }
    }

    fn take_event(&mut self) -> Result<Option<ClientEvent<()>>, Cause> {
        if !self.has_news {
            return Ok(None);
        }
        let now_ns = nanos(self.start.elapsed());
        let received = &self.chunk.as_slice()[..self.received_bytes];
        let (at, out) = (&mut self.used_bytes, &mut self.out);
        let event = self.connection.next_event(received, at, now_ns, out);
        let event = event.map_err(Cause::Violation)?;
        self.has_news = event.is_some();
        Ok(event)
    }

    /// The bytes of a response that has just come out of [`Wire::next_event`].
    pub(super) fn payload(&self, body: Body) -> SharedPayload {
        let buf = match body {
            Body::InPlace(range) => AlignedBuf::copy_of(&self.chunk.as_slice()[range]),
            Body::Gathered(buf) | Body::Direct(buf) => buf,
            Body::Discarded => AlignedBuf::with_len(0),
        };
        SharedPayload::new(Bytes::from_owner(buf))
    }

    /// Sends what is queued until the socket takes no more.
    fn try_send(&mut self) -> io::Result<()> {
        let now_ns = nanos(self.start.elapsed());
        let mut has_progressed = false;
        let result = loop {
            if self.written_bytes == self.writing.len() {
                self.writing.clear();
                self.written_bytes = 0;
                std::mem::swap(&mut self.writing, &mut self.out);
            }
            let unsent = &self.writing[self.written_bytes..];
            if unsent.is_empty() {
                break Ok(());
            }
            // NOSIGNAL: a closed peer is an error, not a SIGPIPE.
            match send(&self.socket, unsent, SendFlags::NOSIGNAL) {
                Ok(bytes) => {
                    self.written_bytes += bytes;
                    has_progressed = true;
                }
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        let is_waiting = self.has_output();
        let link = self.connection.link_mut();
        link.note_output(is_waiting, has_progressed, now_ns);
        result
    }

    /// Receives what has arrived; `false` when that is nothing.
    fn try_receive(&mut self) -> Result<bool, Cause> {
        let mut direct = self.connection.link_mut().take_direct();
        let memory = match &mut direct {
            Some(body) => body.unfilled(),
            None => self.chunk.as_mut_slice(),
        };
        let received = loop {
            match recv(&self.socket, &mut *memory, RecvFlags::empty()) {
                Err(Errno::INTR) => (),
                other => break other,
            }
        };
        let (received, bytes) = match received {
            Ok((bytes, _)) => (Ok(bytes), bytes),
            Err(error) => (Err(error), 0),
        };
        (self.received_bytes, self.used_bytes) = (bytes, 0);
        if let Some(mut body) = direct {
            body.advance(bytes);
            self.connection.link_mut().put_direct(body);
            self.received_bytes = 0;
        }
        self.has_news = bytes > 0;
        match received {
            Ok(0) => Err(Cause::Closed),
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(Cause::Io(error.into())),
        }
    }

    /// Waits until something has arrived, or what is queued can be sent, or the time is over.
    fn sleep(&self, longest: Duration) -> io::Result<()> {
        let mut events = PollFlags::IN;
        if self.has_output() {
            events |= PollFlags::OUT;
        }
        wait(&self.socket, events, longest).map(drop)
    }
}

/// Receives after a deadline: more than a socket's buffer holds.
const LATE_RECEIVES_MAX: u32 = 64;

/// Connects to the first address of the target that answers.
fn connect(target: &CallTarget, deadline: Instant) -> Result<Socket, Status> {
    let connect_by = deadline.min(Instant::now() + CONNECT_TIMEOUT);
    let addresses = match resolve_by(target, connect_by) {
        Some(addresses) => addresses?,
        None if Instant::now() >= deadline => return Err(no_connection(target)),
        None => {
            let why = format!("its name was not looked up within {CONNECT_TIMEOUT:.1?}");
            return Err(target.cannot_connect(&why));
        }
    };
    let mut candidates = Candidates::new(addresses, connect_by);
    while let Some((address, time)) = candidates.next() {
        match connect_to(&address, time) {
            Ok(Some(socket)) => return Ok(socket),
            Ok(None) => candidates.failed(&no_answer(time)),
            Err(error) => candidates.failed(&error),
        }
    }
    if Instant::now() >= deadline {
        return Err(no_connection(target));
    }
    Err(target.cannot_connect(&candidates.failures()))
}

/// `None` when there is no answer in time.
fn connect_to(address: &Target, time: Duration) -> io::Result<Option<Socket>> {
    let socket = begin(address)?;
    if !wait(&socket, PollFlags::OUT, time)? {
        return Ok(None);
    }
    finish(&socket, socket.take_error())?;
    Ok(Some(socket))
}

/// Waits for one of these events; `false` when the time is over.
fn wait(socket: &Socket, events: PollFlags, longest: Duration) -> io::Result<bool> {
    let begin = Instant::now();
    loop {
        let left = longest.saturating_sub(begin.elapsed());
        let time = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(socket, events)], Some(&time)) {
            Ok(count) => return Ok(count > 0),
            // A signal says nothing of the socket.
            Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
}
