//! Cuts the byte stream of a peer into frames.

use super::header::Header;
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
    Discard { header: Header, left: usize },
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
    /// that is padding only.
    pub fn discard_body(&mut self) -> bool {
        if let State::Body { header, filled, .. } = &self.state
            && *filled <= header.payload_bytes as usize
        {
            self.state = State::Discard {
                header: *header,
                left: header.body_bytes() - filled,
            };
            return true;
        }
        false
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
            State::Discard { header, left } => Midway::Body {
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
        check_padding(&chunk[payload.end..end]).ok()?;
        Some((header, payload, end))
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
                check_padding(&chunk[payload.end..end])?;
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
        if let State::Discard { header, left } = &mut self.state {
            let dropped = (*left).min(chunk.len() - *at);
            let payload_left =
                (header.payload_bytes as usize + *left).saturating_sub(header.body_bytes());
            check_padding(&chunk[*at + payload_left.min(dropped)..*at + dropped])?;
            *at += dropped;
            *left -= dropped;
            if *left > 0 {
                return Ok(None);
            }
            let (header, body) = (*header, Body::Discarded);
            self.state = BETWEEN_FRAMES;
            return Ok(Some(Frame { header, body }));
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
    if !padding.is_empty() && padding.iter().any(|byte| *byte != 0) {
        return Err(Violation::Padding);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::header::Kind;
    use super::*;

    fn frame(call_id: u64, payload: &[u8]) -> Vec<u8> {
        let mut wire = Header::new(Kind::Request, call_id, payload.len() as u32)
            .encode()
            .to_vec();
        wire.extend_from_slice(payload);
        wire.resize(super::super::limits::padded(wire.len()), 0);
        wire
    }

    fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
        let payloads: Vec<Vec<u8>> = [0usize, 1, 15, 16, 17, 300, 20_000, 5]
            .iter()
            .enumerate()
            .map(|(index, &len)| vec![index as u8 + 1; len])
            .collect();
        let wire = payloads
            .iter()
            .enumerate()
            .flat_map(|(i, p)| frame(i as u64 + 1, p))
            .collect();
        (wire, payloads)
    }

    fn collect(framer: &mut Framer, chunk: &[u8], got: &mut Vec<Vec<u8>>) -> Result<(), Violation> {
        let mut at = 0;
        while let Some(frame) = framer.next_frame(chunk, &mut at)? {
            assert_eq!(frame.payload(chunk).as_ptr() as usize % 16, 0);
            got.push(frame.payload(chunk).to_vec());
        }
        assert_eq!(at, chunk.len());
        Ok(())
    }

    #[test]
    fn any_cut_of_the_stream_yields_the_same_frames() {
        let (wire, payloads) = stream();
        // Under Miri each byte costs a thousand times as much: single ones would take an hour.
        let cuts: &[usize] = match cfg!(miri) {
            true => &[1000, 4096],
            false => &[1, 7, 16, 31, 32, 33, 100, 4096],
        };
        for cut_bytes in cuts.iter().copied().chain([wire.len()]) {
            let (mut framer, mut got) = (Framer::new(1 << 20), Vec::new());
            for cut in wire.chunks(cut_bytes) {
                collect(&mut framer, AlignedBuf::copy_of(cut).as_slice(), &mut got).unwrap();
            }
            assert_eq!(got, payloads, "cut every {cut_bytes} bytes");
            assert_eq!(framer.midway(), Midway::Nothing);
        }
    }

    #[test]
    fn an_aligned_whole_frame_is_read_in_place_and_a_misaligned_one_is_not() {
        let wire = frame(1, b"hello");
        let chunk = AlignedBuf::copy_of(&wire);
        let whole = Framer::new(1 << 20)
            .next_frame(chunk.as_slice(), &mut 0)
            .unwrap()
            .unwrap();
        assert!(matches!(whole.body, Body::InPlace(_)));
        let shifted = AlignedBuf::copy_of(&[&[0; 8], &wire[..]].concat());
        let whole = Framer::new(1 << 20)
            .next_frame(shifted.as_slice(), &mut 8)
            .unwrap()
            .unwrap();
        assert!(matches!(whole.body, Body::Gathered(_)));
    }

    #[test]
    fn a_large_body_can_be_received_straight_into_place() {
        let wire = frame(1, &[7; 40_000]);
        let mut framer = Framer::new(1 << 20);
        assert!(framer.next_frame(&wire[..100], &mut 0).unwrap().is_none());
        assert_eq!(framer.midway(), Midway::Body { received: 68 });
        let mut body = framer.take_direct().expect("large");
        assert!(body.unfilled().len() < 40_000, "not all that was announced");
        body.unfilled()[..1000].copy_from_slice(&wire[100..1100]);
        body.advance(1000);
        framer.put_direct(body);
        let rest = AlignedBuf::copy_of(&wire[1100..]);
        let whole = framer.next_frame(rest.as_slice(), &mut 0).unwrap().unwrap();
        assert!(matches!(&whole.body, Body::Direct(buf) if buf.as_slice() == [7; 40_000]));
    }

    #[test]
    fn padding_must_be_zero() {
        let mut wire = frame(1, b"hello");
        *wire.last_mut().unwrap() = 1;
        let chunk = AlignedBuf::copy_of(&wire);
        let refused = Framer::new(1 << 20).next_frame(chunk.as_slice(), &mut 0);
        assert_eq!(refused.unwrap_err(), Violation::Padding);
        let mut framer = Framer::new(1 << 20);
        assert!(framer.next_frame(&wire[..40], &mut 0).unwrap().is_none());
        assert_eq!(
            framer.next_frame(&wire[40..], &mut 0).unwrap_err(),
            Violation::Padding
        );
    }

    #[test]
    fn memory_grows_with_the_bytes_that_have_arrived() {
        const BODY: usize = 16 << 20;
        let header = Header::new(Kind::Request, 1, BODY as u32).encode();
        let mut framer = Framer::new(BODY as u32);
        assert!(framer.next_frame(&header, &mut 0).unwrap().is_none());
        let mut received = 0;
        while received < BODY {
            let (whole, memory) = framer.arriving().expect("a body");
            assert_eq!(whole, BODY);
            let bound = (GROWTH * received).max(GROWN_BODY_BYTES_MIN);
            assert!(memory <= bound, "{memory} for {received} bytes");
            let mut body = framer.take_direct().expect("room");
            let bytes = body.unfilled().len().min(100_000);
            body.unfilled()[..bytes].fill(7);
            body.advance(bytes);
            received += bytes;
            framer.put_direct(body);
            let whole = framer.next_frame(&[], &mut 0).unwrap();
            assert_eq!(whole.is_some(), received == BODY);
        }
        assert_eq!(framer.arriving(), None);
    }

    #[test]
    fn a_body_that_nobody_wants_is_dropped_as_it_arrives() {
        let wire = [frame(1, &[7; 100_000]), frame(2, b"wanted")].concat();
        let mut framer = Framer::new(1 << 20);
        assert!(framer.next_frame(&wire[..1000], &mut 0).unwrap().is_none());
        framer.discard_body();
        assert_eq!((framer.arriving(), framer.wants_direct()), (None, false));
        assert_eq!(framer.midway(), Midway::Body { received: 968 });
        let rest = AlignedBuf::copy_of(&wire[1000..]);
        let mut at = 0;
        let dropped = framer.next_frame(rest.as_slice(), &mut at).unwrap();
        let dropped = dropped.expect("its end has come");
        assert!(matches!(dropped.body, Body::Discarded));
        assert_eq!((dropped.header.payload_bytes, at), (100_000, 99_032));
        let wanted = framer.next_frame(rest.as_slice(), &mut at).unwrap();
        assert_eq!(wanted.expect("whole").payload(rest.as_slice()), b"wanted");
    }

    #[test]
    fn a_body_without_room_waits_for_it_and_loses_nothing() {
        let payload: Vec<u8> = (0..200_000).map(|at| at as u8).collect();
        let wire = frame(1, &payload);
        for chunk_bytes in [1000, 30_000, wire.len() - 1] {
            let mut framer = Framer::new(1 << 20);
            let mut room = 8 << 10;
            framer.set_body_room(room);
            let (mut got, mut waits) = (Vec::new(), 0);
            for chunk in wire.chunks(chunk_bytes) {
                let mut at = 0;
                loop {
                    let whole = framer.next_frame(chunk, &mut at).unwrap();
                    got.extend(whole.map(|whole| whole.payload(chunk).to_vec()));
                    let Some(wanted) = framer.body_wants() else {
                        break;
                    };
                    assert!(!framer.wants_direct());
                    let (_, memory) = framer.arriving().expect("a body");
                    let pages = room.max(16_416).next_multiple_of(ROOM_STEP_BYTES);
                    assert!(memory <= pages, "{memory} in a room of {room}");
                    assert!(wanted > room);
                    room += room / 2;
                    framer.set_body_room(room);
                    waits += 1;
                }
                assert_eq!(at, chunk.len());
            }
            assert!(got == [payload.clone()] && waits > 5, "{waits} waits");
        }
    }
}
