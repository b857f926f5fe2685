//! Cuts the byte stream of a peer into frames.

use super::header::{Header, Kind};
use super::limits::{DIRECT_BODY_BYTES_MIN, FRAME_ALIGN, HEADER_BYTES};
use super::violation::Violation;
use crate::buf::AlignedBuf;
use std::ops::Range;

/// Where the payload of a whole frame lies. Always 16-aligned.
#[derive(Debug)]
pub enum Body {
    /// In the chunk that was handed in, at this range.
    InPlace(Range<usize>),
    /// In a buffer of its own: it was misaligned or straddled chunks.
    Gathered(AlignedBuf),
    /// In a buffer of its own, because it is large.
    Direct(AlignedBuf),
    /// Nowhere: it was dropped as it arrived; see [`Framer::discard_body`].
    Discarded,
}

/// One whole frame.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// Where its payload lies.
    pub body: Body,
}

impl Frame {
    /// The payload; `chunk` is the one that the frame came out of.
    pub fn payload<'a>(&'a self, chunk: &'a [u8]) -> &'a [u8] {
        match &self.body {
            Body::InPlace(range) => &chunk[range.clone()],
            Body::Gathered(buf) | Body::Direct(buf) => buf.as_slice(),
            Body::Discarded => &[],
        }
    }
}

/// What the stream stands in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Midway {
    /// Between frames.
    Nothing,
    /// In a header.
    Header,
    /// In a body of which this many bytes have arrived.
    Body {
        /// Bytes of the body that are here.
        received: usize,
    },
}

/// The incomplete end of the stream: nothing, part of a header, or part of a body.
///
/// Call [`Framer::next_frame`] until it returns `None`, which means that the chunk is used up, or that
/// a body has no room to go on ([`Framer::body_wants`]).
/// While [`Framer::wants_direct`] holds, the driver may receive into the memory of
/// [`Framer::take_direct`] instead, and give it back by [`Framer::put_direct`].
///
/// A body that arrives in pieces gets memory as it does: what its header announces reserves nothing.
#[derive(Debug)]
pub struct Framer {
    message_bytes_max: u32,
    /// Bytes of memory that the body which is arriving may have.
    body_room: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_BYTES],
        filled: usize,
    },
    Body {
        header: Header,
        /// As long as the room that it has had so far, at most as the body.
        buf: AlignedBuf,
        filled: usize,
    },
    /// The driver holds the body; see [`Framer::take_direct`].
    Lent {
        header: Header,
        filled: usize,
        capacity: usize,
    },
    /// The rest of a body that nobody wants is dropped as it arrives.
    Discard {
        header: Header,
        left: usize,
        /// What has arrived of it: as for any frame, the peer is told when the frame is whole.
        padding: Result<(), Violation>,
    },
}

/// A body up to this long gets its memory at once.
pub(crate) const WHOLE_BODY_BYTES_MAX: usize = 4096;
/// A longer one has this much after that, and then four times as much each time that it is full.
const GROWN_BODY_BYTES_MIN: usize = 64 << 10;
const GROWTH: usize = 4;
/// Room in smaller steps than this is not worth taking.
const ROOM_STEP_BYTES: usize = 4096;

const BETWEEN_FRAMES: State = State::Header {
    bytes: [0; HEADER_BYTES],
    filled: 0,
};

/// A body that is received straight into place, owned by the driver while it does so.
#[derive(Debug)]
pub struct DirectBody {
    buf: AlignedBuf,
    filled: usize,
}

impl DirectBody {
    /// The memory still to be filled.
    pub fn unfilled(&mut self) -> &mut [u8] {
        &mut self.buf.as_mut_slice()[self.filled..]
    }

    /// Records that the first `received` bytes of [`DirectBody::unfilled`] have arrived.
    pub fn advance(&mut self, received: usize) {
        self.filled += received;
        assert!(
            self.filled <= self.buf.len(),
            "more was received than there was room for"
        );
    }
}

impl Framer {
    /// A framer that refuses messages above `message_bytes_max`.
    pub fn new(message_bytes_max: u32) -> Self {
        Self {
            message_bytes_max,
            body_room: usize::MAX,
            state: BETWEEN_FRAMES,
        }
    }

    /// Says how many bytes of memory the body that arrives next, or is arriving, may have. Without
    /// it there is no bound but the largest message.
    pub fn set_body_room(&mut self, bytes: usize) {
        self.body_room = bytes;
    }

    /// How much memory the body that is arriving must have in order to go on; `None` when it has room,
    /// or none is arriving.
    pub fn body_wants(&self) -> Option<usize> {
        match &self.state {
            State::Body {
                header,
                buf,
                filled,
            } if *filled == buf.len() && *filled < header.body_bytes() => {
                Some(grown(buf.len(), header.body_bytes()))
            }
            _ => None,
        }
    }

    /// Length of the whole body that is arriving, and bytes of memory that it has.
    pub fn arriving(&self) -> Option<(usize, usize)> {
        match &self.state {
            State::Body { header, buf, .. } => Some((header.body_bytes(), buf.capacity())),
            State::Lent {
                header, capacity, ..
            } => Some((header.body_bytes(), *capacity)),
            State::Header { .. } | State::Discard { .. } => None,
        }
    }

    /// The header of the body that is arriving into memory.
    pub fn arriving_header(&self) -> Option<&Header> {
        match &self.state {
            State::Body { header, .. } => Some(header),
            _ => None,
        }
    }

    /// Drops the body that is arriving, and what is still to come of it. Says whether it did: not when
    /// none is arriving into memory.
    pub fn discard_body(&mut self) -> bool {
        let State::Body {
            header,
            buf,
            filled,
        } = &self.state
        else {
            return false;
        };
        let payload_end = (header.payload_bytes as usize).min(*filled);
        self.state = State::Discard {
            header: *header,
            left: header.body_bytes() - filled,
            padding: check_padding(&buf.as_slice()[payload_end..*filled]),
        };
        true
    }

    /// Refuses messages above another maximum from the next frame on.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: u32) {
        self.message_bytes_max = message_bytes_max;
    }

    /// What the stream stands in the middle of.
    pub fn midway(&self) -> Midway {
        match &self.state {
            State::Header { filled: 0, .. } => Midway::Nothing,
            State::Header { .. } => Midway::Header,
            State::Body { filled, .. } | State::Lent { filled, .. } => {
                Midway::Body { received: *filled }
            }
            State::Discard { header, left, .. } => Midway::Body {
                received: header.body_bytes() - left,
            },
        }
    }

    /// The request at `at`, if it lies there whole and aligned and has no fault: its header, and
    /// where the frame ends. Nothing is used up: that is for the caller to do, by moving on, or for
    /// [`Framer::next_frame`].
    #[inline(always)]
    pub fn peek_request(&self, chunk: &[u8], at: usize) -> Option<(Header, Range<usize>, usize)> {
        let wire = self.whole_header(chunk, at)?;
        let header = Header::decode_request(wire, self.message_bytes_max)?;
        let (payload, end) = Self::extent(chunk, at, &header)?;
        has_zero_padding(chunk, &payload, end).then_some((header, payload, end))
    }

    /// The same for a response, of which the call is told.
    #[inline(always)]
    pub fn peek_response(&self, chunk: &[u8], at: usize) -> Option<(u64, Range<usize>, usize)> {
        let wire = self.whole_header(chunk, at)?;
        let (payload_bytes, call_id) = Header::decode_response(wire, self.message_bytes_max)?;
        let header = Header::new(Kind::Response, call_id, payload_bytes);
        let (payload, end) = Self::extent(chunk, at, &header)?;
        has_zero_padding(chunk, &payload, end).then_some((call_id, payload, end))
    }

    /// The 32 bytes at `at`, if the stream stands between frames and they are all there.
    #[inline(always)]
    fn whole_header<'a>(&self, chunk: &'a [u8], at: usize) -> Option<&'a [u8; HEADER_BYTES]> {
        match self.state {
            State::Header { filled: 0, .. } => chunk[at..].first_chunk(),
            _ => None,
        }
    }

    /// Where the payload of the frame at `at` lies, and where the frame ends, if it is whole and
    /// aligned.
    #[inline(always)]
    fn extent(chunk: &[u8], at: usize, header: &Header) -> Option<(Range<usize>, usize)> {
        let body = at + HEADER_BYTES;
        let end = body + header.body_bytes();
        let is_aligned = (chunk.as_ptr() as usize + body).is_multiple_of(FRAME_ALIGN);
        (is_aligned && end <= chunk.len())
            .then_some((body..body + header.payload_bytes as usize, end))
    }

    /// The next whole frame in `chunk`, from `*at` on, which moves past what was used.
    /// `None`: the chunk is used up, and what was incomplete is kept here.
    #[inline]
    pub fn next_frame(&mut self, chunk: &[u8], at: &mut usize) -> Result<Option<Frame>, Violation> {
        if let Some(wire) = self.whole_header(chunk, *at) {
            let header = Header::decode(wire, self.message_bytes_max)?;
            if let Some((payload, end)) = Self::extent(chunk, *at, &header) {
                if !has_zero_padding(chunk, &payload, end) {
                    return Err(Violation::Padding);
                }
                *at = end;
                let body = Body::InPlace(payload);
                return Ok(Some(Frame { header, body }));
            }
        }
        self.gather(chunk, at)
    }

    /// What is misaligned, straddles chunks, or is large.
    #[inline(never)]
    fn gather(&mut self, chunk: &[u8], at: &mut usize) -> Result<Option<Frame>, Violation> {
        if let State::Header { bytes, filled } = &mut self.state {
            *filled += copy_some(&mut bytes[*filled..], chunk, at);
            if *filled < HEADER_BYTES {
                return Ok(None);
            }
            let header = Header::decode(bytes, self.message_bytes_max)?;
            let buf = first_buffer(header.body_bytes(), chunk.len() - *at, self.body_room);
            self.state = State::Body {
                header,
                buf,
                filled: 0,
            };
        }
        if let State::Discard { .. } = self.state {
            return self.drop_some(chunk, at);
        }
        let State::Body {
            header,
            buf,
            filled,
        } = &mut self.state
        else {
            assert!(
                *at == chunk.len(),
                "bytes arrived elsewhere while a direct receive is under way"
            );
            return Ok(None);
        };
        let body_bytes = header.body_bytes();
        loop {
            *filled += copy_some(&mut buf.as_mut_slice()[*filled..], chunk, at);
            if *filled < buf.len() || *filled == body_bytes {
                break;
            }
            let mut room = grown(buf.len(), body_bytes).min(self.body_room);
            // In whole pages but for the last, so that little room does not come in many small steps.
            if room < body_bytes {
                room -= room % ROOM_STEP_BYTES;
            }
            if room < body_bytes.min(buf.len() + ROOM_STEP_BYTES) {
                return Ok(None);
            }
            buf.grow(room);
        }
        self.take_whole()
    }

    /// Drops what `chunk` holds of a body that nobody wants; yields the frame at its end.
    fn drop_some(&mut self, chunk: &[u8], at: &mut usize) -> Result<Option<Frame>, Violation> {
        let State::Discard {
            header,
            left,
            padding,
        } = &mut self.state
        else {
            return Ok(None);
        };
        let dropped = (*left).min(chunk.len() - *at);
        let payload_left =
            (header.payload_bytes as usize + *left).saturating_sub(header.body_bytes());
        if padding.is_ok() {
            *padding = check_padding(&chunk[*at + payload_left.min(dropped)..*at + dropped]);
        }
        *at += dropped;
        *left -= dropped;
        if *left > 0 {
            return Ok(None);
        }
        let (header, body) = (*header, Body::Discarded);
        match std::mem::replace(&mut self.state, BETWEEN_FRAMES) {
            State::Discard { padding, .. } => padding.map(|()| Some(Frame { header, body })),
            _ => Ok(None),
        }
    }

    fn take_whole(&mut self) -> Result<Option<Frame>, Violation> {
        match std::mem::replace(&mut self.state, BETWEEN_FRAMES) {
            State::Body {
                header,
                mut buf,
                filled,
            } if filled == header.body_bytes() => {
                let payload_bytes = header.payload_bytes as usize;
                check_padding(&buf.as_slice()[payload_bytes..])?;
                let is_large = buf.len() >= DIRECT_BODY_BYTES_MIN;
                buf.truncate(payload_bytes);
                let body = if is_large {
                    Body::Direct(buf)
                } else {
                    Body::Gathered(buf)
                };
                Ok(Some(Frame { header, body }))
            }
            unfinished => {
                self.state = unfinished;
                Ok(None)
            }
        }
    }

    /// Whether a large body is arriving, and has room, that is best received straight into its place.
    pub fn wants_direct(&self) -> bool {
        match &self.state {
            State::Body {
                header,
                buf,
                filled,
            } => header.body_bytes() >= DIRECT_BODY_BYTES_MIN && *filled < buf.len(),
            _ => false,
        }
    }

    /// Hands the large body to the driver, which receives into it and must give it back.
    pub fn take_direct(&mut self) -> Option<DirectBody> {
        if !self.wants_direct() {
            return None;
        }
        match std::mem::replace(&mut self.state, BETWEEN_FRAMES) {
            State::Body {
                header,
                buf,
                filled,
            } => {
                let capacity = buf.capacity();
                self.state = State::Lent {
                    header,
                    filled,
                    capacity,
                };
                Some(DirectBody { buf, filled })
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Drops what has arrived of a frame: nothing more comes.
    pub fn abandon(&mut self) {
        if let State::Body { .. } = self.state {
            self.state = BETWEEN_FRAMES;
        }
    }

    /// Takes a body back from the driver. [`Framer::next_frame`] then yields it when it is whole, or
    /// gives it more room.
    pub fn put_direct(&mut self, body: DirectBody) {
        match self.state {
            State::Lent { header, .. } => {
                self.state = State::Body {
                    header,
                    buf: body.buf,
                    filled: body.filled,
                };
            }
            _ => panic!("a direct body came back that was never lent"),
        }
    }
}

/// The memory that a body begins with, of which so many bytes are at hand: enough for these, or all of
/// it when that is little, or lies in the cache of this thread.
fn first_buffer(body_bytes: usize, at_hand: usize, room: usize) -> AlignedBuf {
    if body_bytes <= WHOLE_BODY_BYTES_MAX {
        return AlignedBuf::with_len(body_bytes);
    }
    if body_bytes <= room
        && let Some(cached) = AlignedBuf::cached(body_bytes)
    {
        return cached;
    }
    let first = at_hand.min(room).max(WHOLE_BODY_BYTES_MAX);
    AlignedBuf::with_len(body_bytes.min(first))
}

/// The next size of a body's memory.
fn grown(bytes: usize, body_bytes: usize) -> usize {
    (bytes * GROWTH).max(GROWN_BODY_BYTES_MIN).min(body_bytes)
}

/// Copies as much as fits from `chunk[*at..]`, moves `*at`, and returns how much it was.
fn copy_some(into: &mut [u8], chunk: &[u8], at: &mut usize) -> usize {
    let bytes = into.len().min(chunk.len() - *at);
    into[..bytes].copy_from_slice(&chunk[*at..*at + bytes]);
    *at += bytes;
    bytes
}

#[inline(always)]
fn check_padding(padding: &[u8]) -> Result<(), Violation> {
    debug_assert!(padding.len() < FRAME_ALIGN);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Violation::Padding);
    }
    Ok(())
}

/// The same for what follows a payload in a chunk. The payload's last bytes are looked at together with it,
/// so that this takes no loop.
#[inline(always)]
fn has_zero_padding(chunk: &[u8], payload: &Range<usize>, end: usize) -> bool {
    let padding = end - payload.end;
    padding == 0
        || chunk[payload.start..end]
            .last_chunk()
            .is_some_and(|last| u128::from_le_bytes(*last) >> (128 - 8 * padding) == 0)
}

#[cfg(test)]
#[path = "framer_tests.rs"]
mod tests;
