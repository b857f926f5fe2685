//! What both ends of a connection do alike: framing, keepalive, and patience with slow peers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::flood::FloodGauge;
use crate::wire::frame_writer::append_bare;
use crate::wire::framer::{DirectBody, Frame, Framer, Midway};
use crate::wire::handshake::Handshake;
use crate::wire::header::{Header, Kind};
use crate::wire::limits::{CONTROL_BYTES_MAX, Limits, OUTPUT_PATIENCE};
use crate::wire::violation::Violation;

/// Framing and liveness of one connection, driven by bytes and a monotonic clock in nanoseconds.
#[derive(Debug)]
pub struct Link {
    limits: Arc<Limits>,
    /// That of the limits, which is asked for in every turn.
    keepalive_interval_ns: u64,
    framer: Framer,
    /// What the peer said of itself; `None` until the handshake is done.
    peer: Option<Handshake>,
    /// When the connection came to be: the handshake's time runs from here.
    opened_ns: u64,
    /// When the last bytes arrived.
    heard_ns: u64,
    /// When the unanswered PING went out.
    pinged_ns: Option<u64>,
    /// The incomplete frame at the end of the stream.
    partial: Option<Partial>,
    /// Since when queued output has made no progress.
    stalled_since_ns: Option<u64>,
    /// When output has last made progress: then the peer has read, or had room.
    progressed_ns: u64,
    /// Whether this side has stopped reading: then the peer's silence proves nothing.
    is_paused: bool,
    /// Whether nothing more of the peer is acted on.
    has_ended: bool,
    side: Side,
    pings: FloodGauge,
    bare: FloodGauge,
}

/// Whose end it is: each side blames the other for something else when it does not read.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// What its peer does not read takes this side's memory, so patience ends.
    Server,
    /// A server that has enough requests stops reading, and says with PINGs that it lives. So what
    /// waits for it is no offence, and nor is a PING unanswered that stands behind requests.
    Client {
        /// Whether the server may not have read all requests, because they are many or long.
        is_backed_up: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Partial {
    since_ns: u64,
    in_header: bool,
    /// Bytes of the body that had arrived at `since_ns`.
    received_before: usize,
    /// When to look at it next.
    check_ns: u64,
}

impl Link {
    /// A connection that came to be at `now_ns`.
    pub fn new(limits: Arc<Limits>, now_ns: u64) -> Self {
        Self {
            // Messages come after the handshake: a stranger gets no memory for a large one.
            framer: Framer::new(CONTROL_BYTES_MAX),
            keepalive_interval_ns: nanos(limits.keepalive_interval),
            limits,
            peer: None,
            opened_ns: now_ns,
            heard_ns: now_ns,
            pinged_ns: None,
            partial: None,
            stalled_since_ns: None,
            progressed_ns: now_ns,
            is_paused: false,
            has_ended: false,
            side: Side::Server,
            pings: FloodGauge::default(),
            bare: FloodGauge::default(),
        }
    }

    /// The client's end of such a connection.
    pub fn of_client(limits: Arc<Limits>, now_ns: u64) -> Self {
        let side = Side::Client {
            is_backed_up: false,
        };
        Self {
            side,
            ..Self::new(limits, now_ns)
        }
    }

    /// Says whether the server may not have read all that this client has sent; no question to a
    /// server.
    #[inline]
    pub fn set_backed_up(&mut self, backed_up: bool) {
        if let Side::Client { is_backed_up } = &mut self.side {
            *is_backed_up = backed_up;
        }
    }

    /// When queued output has made no progress for too long.
    #[inline]
    fn stall_due_ns(&self) -> Option<u64> {
        let since_ns = self.stalled_since_ns?;
        let since_ns = match self.side {
            Side::Client { .. } if !self.has_ended => since_ns.max(self.heard_ns),
            Side::Client { .. } | Side::Server => since_ns,
        };
        Some(since_ns + nanos(self.limits.write_stall_timeout))
    }

    /// When a PING of that time has gone unanswered for too long.
    #[inline]
    fn answer_due_ns(&self, pinged_ns: u64) -> u64 {
        let due_ns = pinged_ns + nanos(self.limits.keepalive_timeout);
        match self.side {
            Side::Client { is_backed_up } if is_backed_up || self.stalled_since_ns.is_some() => {
                let lived_ns = self.heard_ns.max(self.progressed_ns);
                due_ns.max(lived_ns + nanos(self.limits.write_stall_timeout))
            }
            Side::Client { .. } | Side::Server => due_ns,
        }
    }

    /// Whether a PING is unanswered.
    pub fn awaits_pong(&self) -> bool {
        self.pinged_ns.is_some()
    }

    /// Says that this side was stopped for a while: what its clocks have measured meanwhile says nothing
    /// of the peer, who gets the time anew for what it was about to do.
    pub fn forgive_pause(&mut self, now_ns: u64) {
        self.pinged_ns = self.pinged_ns.map(|_| now_ns);
        self.stalled_since_ns = self.stalled_since_ns.map(|_| now_ns);
        let received = match self.framer.midway() {
            Midway::Body { received } => received,
            Midway::Nothing | Midway::Header => 0,
        };
        if let Some(partial) = &mut self.partial {
            let patience = if partial.in_header {
                self.limits.header_timeout
            } else {
                self.limits.body_grace
            };
            partial.since_ns = now_ns;
            partial.received_before = received;
            partial.check_ns = now_ns + nanos(patience);
        }
    }

    /// This side's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the peer said of itself, once the handshake is done.
    pub fn peer(&self) -> Option<&Handshake> {
        self.peer.as_ref()
    }

    /// Ends the handshake.
    pub fn accept_peer(&mut self, peer: Handshake) {
        self.framer
            .set_message_bytes_max(self.limits.payload_bytes_max);
        self.peer = Some(peer);
    }

    /// The next whole frame of `chunk`; `None` when it is used up.
    #[inline]
    pub fn next_frame(
        &mut self,
        chunk: &[u8],
        at: &mut usize,
        now_ns: u64,
    ) -> Result<Option<Frame>, Violation> {
        let frame = self.framer.next_frame(chunk, at)?;
        if frame.is_some() {
            self.partial = None;
        } else {
            self.end_chunk(now_ns);
        }
        Ok(frame)
    }

    /// Says that a chunk has ended with a whole frame.
    #[inline]
    pub fn chunk_used_up(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
        self.pinged_ns = None;
        self.partial = None;
    }

    #[inline(never)]
    fn end_chunk(&mut self, now_ns: u64) {
        let in_header = match self.framer.midway() {
            Midway::Nothing => return self.chunk_used_up(now_ns),
            Midway::Header => true,
            Midway::Body { .. } => false,
        };
        self.heard_ns = now_ns;
        self.pinged_ns = None;
        // A byte more of the same part does not start its time anew.
        if self
            .partial
            .is_none_or(|partial| partial.in_header != in_header)
        {
            let patience = if in_header {
                self.limits.header_timeout
            } else {
                self.limits.body_grace
            };
            let check_ns = now_ns + nanos(patience);
            self.partial = Some(Partial {
                since_ns: now_ns,
                in_header,
                received_before: 0,
                check_ns,
            });
        }
    }

    /// See [`Framer::peek_request`].
    #[inline(always)]
    pub fn peek_request(&self, chunk: &[u8], at: usize) -> Option<(Header, Range<usize>, usize)> {
        self.framer.peek_request(chunk, at)
    }

    /// See [`Framer::peek_response`].
    #[inline(always)]
    pub fn peek_response(&self, chunk: &[u8], at: usize) -> Option<(u64, Range<usize>, usize)> {
        self.framer.peek_response(chunk, at)
    }

    /// Says that a whole frame was used up which this has not yielded.
    #[inline(always)]
    pub fn frame_used_up(&mut self) {
        self.partial = None;
    }

    /// See [`Framer::wants_direct`].
    pub fn wants_direct(&self) -> bool {
        self.framer.wants_direct()
    }

    /// See [`Framer::take_direct`].
    pub fn take_direct(&mut self) -> Option<DirectBody> {
        self.framer.take_direct()
    }

    /// See [`Framer::put_direct`].
    pub fn put_direct(&mut self, body: DirectBody) {
        self.framer.put_direct(body);
    }

    /// See [`Framer::set_body_room`].
    pub fn set_body_room(&mut self, bytes: usize) {
        self.framer.set_body_room(bytes);
    }

    /// See [`Framer::body_wants`].
    pub fn body_wants(&self) -> Option<usize> {
        self.framer.body_wants()
    }

    /// See [`Framer::arriving_header`].
    pub fn arriving_header(&self) -> Option<&Header> {
        self.framer.arriving_header()
    }

    /// Whether the body that is arriving is that of a request.
    pub fn is_request_arriving(&self) -> bool {
        let header = self.framer.arriving_header();
        header.is_some_and(|header| header.kind == Kind::Request)
    }

    /// See [`Framer::discard_body`].
    pub fn discard_body(&mut self) -> bool {
        self.framer.discard_body()
    }

    /// See [`Framer::arriving`].
    pub fn arriving(&self) -> Option<(usize, usize)> {
        self.framer.arriving()
    }

    /// When output will have waited for so long without progress that the peer may be waiting for this
    /// side to read, in turn. `None`: none waits.
    pub fn output_sticks_ns(&self) -> Option<u64> {
        let since = self.stalled_since_ns?;
        Some(since + nanos(OUTPUT_PATIENCE))
    }

    /// Says that this side stops or resumes reading.
    pub fn set_paused(&mut self, is_paused: bool, now_ns: u64) {
        if self.is_paused != is_paused {
            self.is_paused = is_paused;
            self.heard_ns = now_ns;
            self.pinged_ns = None;
            self.partial = None;
        }
    }

    /// Says that nothing more of the peer is acted on: it only has to take what is queued for it.
    pub fn end(&mut self) {
        self.has_ended = true;
        self.framer.abandon();
    }

    /// Says how the output stands: whether some waits, and whether some has just left.
    #[inline]
    pub fn note_output(&mut self, is_waiting: bool, has_progressed: bool, now_ns: u64) {
        if has_progressed {
            self.progressed_ns = now_ns;
        }
        if !is_waiting {
            self.stalled_since_ns = None;
        } else if has_progressed || self.stalled_since_ns.is_none() {
            self.stalled_since_ns = Some(now_ns);
        }
    }

    /// Answers a PING, unless there are too many.
    pub fn handle_ping(
        &mut self,
        token: u64,
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        self.pings.count("ping", now_ns)?;
        append_bare(out, Kind::Pong, token);
        Ok(())
    }

    /// A PONG, or a GOAWAY that changes nothing. That bytes arrived is all it says, and noted already.
    pub fn handle_bare(&mut self, now_ns: u64) -> Result<(), Violation> {
        self.bare.count("pong or goaway", now_ns)
    }

    /// When [`Link::handle_timeout`] wants to be called; it may be called earlier.
    #[inline]
    pub fn poll_timeout(&self) -> u64 {
        let limits = &self.limits;
        let mut earliest = self.stall_due_ns().unwrap_or(u64::MAX);
        if self.has_ended {
            return earliest;
        }
        if self.peer.is_none() {
            earliest = earliest.min(self.opened_ns + nanos(limits.handshake_timeout));
        }
        if self.is_paused {
            return earliest.min(self.heard_ns + self.keepalive_interval_ns);
        }
        if let Some(partial) = self.partial {
            earliest = earliest.min(partial.check_ns);
        }
        let alive = match self.pinged_ns {
            Some(pinged) => self.answer_due_ns(pinged),
            None => self.heard_ns + self.keepalive_interval_ns,
        };
        earliest.min(alive)
    }

    /// Acts on what is due at `now_ns`: may append a PING, or end the connection.
    pub fn handle_timeout(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<(), Violation> {
        let limits = Arc::clone(&self.limits);
        if self.stall_due_ns().is_some_and(|due_ns| now_ns >= due_ns) {
            return Err(Violation::WriteStall);
        }
        if self.has_ended {
            return Ok(());
        }
        if self.peer.is_none() && now_ns >= self.opened_ns + nanos(limits.handshake_timeout) {
            return Err(Violation::HandshakeTimeout);
        }
        if self.is_paused {
            // The answer would not be read. But a peer that has gone does not acknowledge it, or
            // resets the connection, and that is noticed.
            if now_ns >= self.heard_ns + self.keepalive_interval_ns {
                append_bare(out, Kind::Ping, now_ns);
                self.heard_ns = now_ns;
            }
            return Ok(());
        }
        self.check_partial(now_ns)?;
        match self.pinged_ns {
            Some(pinged) if now_ns >= self.answer_due_ns(pinged) => {
                return Err(Violation::KeepaliveTimeout);
            }
            None if self.peer.is_some() && now_ns >= self.heard_ns + self.keepalive_interval_ns => {
                append_bare(out, Kind::Ping, now_ns);
                self.pinged_ns = Some(now_ns);
            }
            // Before the handshake nothing is sent; the handshake's own time runs.
            None if self.peer.is_none() => self.heard_ns = now_ns,
            _ => (),
        }
        Ok(())
    }

    fn check_partial(&mut self, now_ns: u64) -> Result<(), Violation> {
        let Some(partial) = &mut self.partial else {
            return Ok(());
        };
        if now_ns < partial.check_ns {
            return Ok(());
        }
        if partial.in_header {
            return Err(Violation::HeaderTimeout);
        }
        let Midway::Body { received } = self.framer.midway() else {
            return Ok(());
        };
        let elapsed_ns = u128::from(now_ns - partial.since_ns);
        let expected = elapsed_ns * u128::from(self.limits.body_rate_min) / 1_000_000_000;
        if ((received - partial.received_before) as u128) < expected {
            return Err(Violation::BodyTooSlow);
        }
        // Each period is measured by itself: what came fast at first pays for no slowness later.
        *partial = Partial {
            since_ns: now_ns,
            in_header: false,
            received_before: received,
            check_ns: now_ns + nanos(self.limits.body_grace),
        };
        Ok(())
    }
}

/// Nanoseconds of a time; one that is longer than any clock runs becomes the longest that, added to
/// such a clock, still is a time.
pub(crate) const fn nanos(time: Duration) -> u64 {
    let ns = time.as_nanos();
    if ns > NANOS_MAX as u128 {
        NANOS_MAX
    } else {
        ns as u64
    }
}

const NANOS_MAX: u64 = u64::MAX / 2;

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
