//! The server's end of a connection.

use std::ops::Range;
use std::sync::Arc;

use super::link::Link;
use super::live_calls::LiveCalls;
use crate::wire::frame_writer::{append_control, append_goaway};
use crate::wire::framer::{Body, Frame};
use crate::wire::goaway::Goaway;
use crate::wire::handshake::{Handshake, ShardIndex};
use crate::wire::header::{Header, Kind};
use crate::wire::limits::{
    CANCELS_BEYOND_REQUESTS_MAX, Limits, METHODS_MAX, RESOLVES_PER_CONNECTION_MAX,
};
use crate::wire::resolve::{Directory, answer_resolve};
use crate::wire::violation::Violation;

/// What a server must act on.
#[derive(Debug)]
pub enum ServerEvent {
    /// A call of a method that the client has resolved.
    Request {
        /// Its header.
        header: Header,
        /// Its payload.
        body: Body,
    },
    /// A call whose payload was dropped as it arrived: it is longer than its method's request can be.
    TooLong {
        /// Its id.
        call_id: u64,
        /// Length of its payload.
        bytes: u32,
        /// The most that the method's request can need.
        bytes_max: u32,
    },
    /// A call whose payload was dropped as it arrived, since no memory came for it; see
    /// [`Link::discard_body`].
    NoMemory {
        /// Its id.
        call_id: u64,
        /// Length of its payload.
        bytes: u32,
    },
    /// A call that must not be executed: its method index was never resolved here.
    Unresolved {
        /// Its id.
        call_id: u64,
    },
    /// A call that came after this side's GOAWAY: it must be refused as not executed.
    AfterGoaway {
        /// Its id.
        call_id: u64,
    },
    /// The caller gave up a call that is suspended in this task.
    Cancel {
        /// The task given to [`ServerConnection::suspend_call`].
        task: u32,
    },
}

/// Protocol state of one accepted connection. It knows no socket, clock or handler.
///
/// *Inputs*: [`ServerConnection::next_event`] with received bytes, until it returns `None`;
/// [`ServerConnection::handle_timeout`] at [`ServerConnection::poll_timeout`].
/// *Commands*: [`ServerConnection::suspend_call`], [`ServerConnection::end_call`],
/// [`ServerConnection::go_away`]. *Outputs*: events, and bytes appended to `out`.
/// After an `Err` the driver calls [`ServerConnection::go_away`], flushes, and closes.
#[derive(Debug)]
pub struct ServerConnection {
    link: Link,
    resolved: Resolved,
    /// Ordinary requests have ids above this: that of the last one, or `u64::MAX` after GOAWAY. Ids strictly
    /// increase, so one number finds duplicates and steps back.
    ordinary_above: u64,
    /// The last id since this side's GOAWAY, which has named that of the last call that was taken.
    refused_call_id: u64,
    calls_max: usize,
    requests: u64,
    cancels: u64,
    resolves: u32,
    live: LiveCalls,
    has_said_goaway: bool,
    shard_index: ShardIndex,
}

impl ServerConnection {
    /// A connection accepted at `now_ns`, of a server of one shard.
    pub fn new(limits: Arc<Limits>, now_ns: u64) -> Self {
        Self {
            calls_max: limits.calls_in_flight_max as usize,
            link: Link::new(limits, now_ns),
            resolved: Resolved::default(),
            ordinary_above: 0,
            refused_call_id: 0,
            requests: 0,
            cancels: 0,
            resolves: 0,
            live: LiveCalls::default(),
            has_said_goaway: false,
            shard_index: ShardIndex::ALONE,
        }
    }

    /// Says to the client that its connection has come to this one of several shards.
    pub fn at(mut self, shard_index: ShardIndex) -> Self {
        self.shard_index = shard_index;
        self
    }

    /// Framing and liveness.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Framing and liveness, to be told of pauses and output.
    pub fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The next request of `chunk`, if it is an ordinary one: whole, aligned, of a resolved method,
    /// with nothing to object to. Otherwise `None`, and [`ServerConnection::next_event`] says what
    /// there is. Most requests come this way, on which nothing is moved from one enum to another.
    #[inline(always)]
    pub fn next_request(&mut self, chunk: &[u8], at: &mut usize) -> Option<(Header, Range<usize>)> {
        let (header, payload, end) = self.link.peek_request(chunk, *at)?;
        let is_ordinary =
            header.call_id > self.ordinary_above && self.resolved.contains(header.selector);
        if !is_ordinary {
            return None;
        }
        *at = end;
        self.take_request(header.call_id);
        Some((header, payload))
    }

    /// Says that the last request has used up its chunk, for which [`ServerConnection::next_event`]
    /// need not be asked.
    #[inline]
    pub fn chunk_used_up(&mut self, now_ns: u64) {
        self.link.chunk_used_up(now_ns);
    }

    /// The next thing to act on in `chunk`, from `*at` on; `None` when it is used up.
    #[inline]
    pub fn next_event(
        &mut self,
        chunk: &[u8],
        at: &mut usize,
        now_ns: u64,
        directory: &impl Directory,
        out: &mut Vec<u8>,
    ) -> Result<Option<ServerEvent>, Violation> {
        loop {
            let Some(frame) = self.link.next_frame(chunk, at, now_ns)? else {
                if self.discards_body(directory) {
                    continue;
                }
                return Ok(None);
            };
            if frame.header.kind == Kind::Request && self.link.peer().is_some() {
                return self.handle_request(frame, directory).map(Some);
            }
            if let Some(event) = self.handle_control(&frame, chunk, now_ns, directory, out)? {
                return Ok(Some(event));
            }
        }
    }

    /// Whether a request is arriving that will be refused whatever it says: of a method that was not
    /// resolved, longer than its method's can be, or after a GOAWAY. Then it gets no memory.
    fn discards_body(&mut self, directory: &impl Directory) -> bool {
        let Some(header) = self.link.arriving_header() else {
            return false;
        };
        let is_refused = header.kind == Kind::Request
            && (self.has_said_goaway
                || !self.resolved.contains(header.selector)
                || header.payload_bytes > directory.request_bytes_max(header.selector));
        is_refused && self.link.discard_body()
    }

    fn handle_request(
        &mut self,
        frame: Frame,
        directory: &impl Directory,
    ) -> Result<ServerEvent, Violation> {
        let Frame { header, body } = frame;
        let call_id = header.call_id;
        if call_id <= self.last_call_id() {
            return Err(Violation::CallId { call_id });
        }
        if self.has_said_goaway {
            // It uses its id up and may be cancelled, like any other.
            self.refused_call_id = call_id;
            self.requests += 1;
            return Ok(ServerEvent::AfterGoaway { call_id });
        }
        self.take_request(call_id);
        if !self.resolved.contains(header.selector) {
            return Ok(ServerEvent::Unresolved { call_id });
        }
        let Body::Discarded = body else {
            return Ok(ServerEvent::Request { header, body });
        };
        let bytes = header.payload_bytes;
        let bytes_max = directory.request_bytes_max(header.selector);
        if bytes > bytes_max {
            return Ok(ServerEvent::TooLong {
                call_id,
                bytes,
                bytes_max,
            });
        }
        Ok(ServerEvent::NoMemory { call_id, bytes })
    }

    #[inline(always)]
    fn take_request(&mut self, call_id: u64) {
        self.ordinary_above = call_id;
        self.requests += 1;
    }

    fn last_call_id(&self) -> u64 {
        if self.has_said_goaway {
            self.refused_call_id
        } else {
            self.ordinary_above
        }
    }

    #[cold]
    fn handle_control(
        &mut self,
        frame: &Frame,
        chunk: &[u8],
        now_ns: u64,
        directory: &impl Directory,
        out: &mut Vec<u8>,
    ) -> Result<Option<ServerEvent>, Violation> {
        let header = &frame.header;
        match (header.kind, self.link.peer().is_some()) {
            (Kind::Hello, false) => self.handle_hello(frame.payload(chunk), out)?,
            (_, false) => return Err(Violation::NotRingcall),
            (Kind::Resolve, true) => self.handle_resolve(frame, chunk, directory, out)?,
            (Kind::Cancel, true) => return self.handle_cancel(header.call_id),
            (Kind::Ping, true) => self.link.handle_ping(header.call_id, now_ns, out)?,
            // A client's GOAWAY only announces that it will close.
            (Kind::Pong | Kind::Goaway, true) => self.link.handle_bare(now_ns)?,
            (kind, true) => return Err(Violation::Unexpected { kind: kind as u8 }),
        }
        Ok(None)
    }

    fn handle_hello(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        let peer = Handshake::decode(payload)?;
        let answer = Handshake::answer(self.link.limits(), &peer, self.shard_index);
        append_control(out, Header::new(Kind::Welcome, 0, 0), |out| {
            out.extend_from_slice(&answer.encode());
        });
        self.link.accept_peer(peer);
        Ok(())
    }

    fn handle_resolve(
        &mut self,
        frame: &Frame,
        chunk: &[u8],
        directory: &impl Directory,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        self.resolves += 1;
        if self.resolves > RESOLVES_PER_CONNECTION_MAX {
            return Err(Violation::Flood { what: "resolve" });
        }
        let header = Header::new(Kind::Resolved, frame.header.call_id, 0);
        let resolved = &mut self.resolved;
        crate::wire::frame_writer::append(out, header, |out| {
            answer_resolve(
                frame.payload(chunk),
                directory,
                |index| resolved.insert(index),
                out,
            )
        })
    }

    fn handle_cancel(&mut self, call_id: u64) -> Result<Option<ServerEvent>, Violation> {
        self.cancels += 1;
        if self.cancels > self.requests + CANCELS_BEYOND_REQUESTS_MAX {
            return Err(Violation::Flood { what: "cancel" });
        }
        // Unknown and finished calls are ignored: the cancel may have crossed the response.
        Ok(self
            .live
            .find(call_id)
            .map(|task| ServerEvent::Cancel { task }))
    }

    /// Records that a call's handler waits in `task`.
    pub fn suspend_call(&mut self, call_id: u64, task: u32) {
        self.live.insert(call_id, task);
    }

    /// Records that a suspended call's handler has ended. Others were never recorded.
    pub fn end_call(&mut self, call_id: u64) {
        self.live.remove(call_id);
    }

    /// Calls that are suspended in handlers.
    pub fn calls_in_flight(&self) -> usize {
        self.live.len()
    }

    /// The tasks of all suspended calls, to be dropped when the connection ends.
    pub fn take_live_tasks(&mut self) -> Vec<u32> {
        self.live.take_tasks()
    }

    /// Takes no further call until [`ServerConnection::allow_calls`]: there is no memory for one.
    pub fn stop_calls(&mut self) {
        self.calls_max = self.calls_max.min(self.live.len());
    }

    /// Takes as many calls as this side permits again.
    pub fn allow_calls(&mut self) {
        self.calls_max = self.link.limits().calls_in_flight_max as usize;
    }

    /// Whether it is for want of memory that no further call may be taken.
    pub fn lacks_memory_for_calls(&self) -> bool {
        self.live.len() < self.link.limits().calls_in_flight_max as usize
            && !self.has_room_for_calls()
    }

    /// Whether another call may be taken: fewer are suspended than this side permits.
    #[inline]
    pub fn has_room_for_calls(&self) -> bool {
        self.live.len() < self.calls_max
    }

    /// Largest response that the client accepts, in bytes.
    #[inline]
    pub fn response_bytes_max(&self) -> u32 {
        let ours = self.link.limits().payload_bytes_max;
        self.link
            .peer()
            .map_or(ours, |peer| peer.payload_bytes_max.min(ours))
    }

    /// See [`Link::poll_timeout`].
    #[inline]
    pub fn poll_timeout(&self) -> u64 {
        self.link.poll_timeout()
    }

    /// See [`Link::handle_timeout`].
    pub fn handle_timeout(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<(), Violation> {
        self.link.handle_timeout(now_ns, out)
    }

    /// Says that no further call is taken: why, or `None` for a planned shutdown. Once only.
    pub fn go_away(&mut self, violation: Option<&Violation>, out: &mut Vec<u8>) {
        if self.has_said_goaway {
            return;
        }
        let last_call_id = self.last_call_id();
        self.has_said_goaway = true;
        self.refused_call_id = last_call_id;
        self.ordinary_above = u64::MAX;
        append_goaway(
            out,
            &Goaway {
                reason: violation.map_or(0, Violation::reason),
                last_call_id,
                message: violation.map_or_else(|| "shutting down".to_owned(), ToString::to_string),
            },
        );
    }
}

/// Which method indices this connection has resolved, one bit each.
#[derive(Debug, Default)]
struct Resolved([u64; METHODS_MAX / 64]);

impl Resolved {
    fn insert(&mut self, index: u16) {
        self.0[usize::from(index) / 64] |= 1 << (index % 64);
    }

    #[inline]
    fn contains(&self, index: u16) -> bool {
        self.0
            .get(usize::from(index) / 64)
            .is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
