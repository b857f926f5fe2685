//! The 32-byte frame header: the only thing that every frame has.
//!
//! ```text
//!  0  payload_bytes  u32   exact payload length; the frame is padded with zeros to 16
//!  4  kind           u8
//!  5  flags          u8    reserved, zero
//!  6  selector       u16   method index (REQUEST), status code (ERROR), else zero
//!  8  call_id        u64   zero for frames that belong to no call
//! 16  timeout_us     u32   remaining time of a REQUEST in microseconds, zero for none
//! 20  metadata_bytes u32   reserved for metadata, zero
//! 24  inflated_bytes u32   reserved for compression, zero
//! 28  credit         u32   reserved for streams, zero
//! ```
//! All integers are little-endian. Reserved means: zero when sent, refused when not zero.

use super::limits::{HEADER_BYTES, padded};
use super::violation::Violation;

/// What a frame is. The numbers 16 to 31 are kept for streams, credits and one-way calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First frame of a client.
    Hello = 1,
    /// First frame of a server.
    Welcome = 2,
    /// Asks for the indices of methods.
    Resolve = 3,
    /// Answers [`Kind::Resolve`].
    Resolved = 4,
    /// A call.
    Request = 5,
    /// The result of a call.
    Response = 6,
    /// The failure of a call.
    Error = 7,
    /// The caller no longer wants the result.
    Cancel = 8,
    /// Asks whether the peer is alive.
    Ping = 9,
    /// Answers [`Kind::Ping`].
    Pong = 10,
    /// The sender takes no more calls, and why.
    Goaway = 11,
}

/// Kind numbers that are kept for streams (data, end) and credits, and refused until negotiated.
pub const CREDIT_KINDS: std::ops::RangeInclusive<u8> = 16..=31;

impl Kind {
    const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Resolve,
            4 => Self::Resolved,
            5 => Self::Request,
            6 => Self::Response,
            7 => Self::Error,
            8 => Self::Cancel,
            9 => Self::Ping,
            10 => Self::Pong,
            11 => Self::Goaway,
            _ => return None,
        })
    }

    /// Whether the payload is a message of the application, bounded by `payload_bytes_max`.
    const fn carries_message(self) -> bool {
        matches!(self, Self::Request | Self::Response)
    }

    const fn has_selector(self) -> bool {
        matches!(self, Self::Request | Self::Error)
    }

    const fn has_payload(self) -> bool {
        !matches!(self, Self::Cancel | Self::Ping | Self::Pong)
    }

    /// Frames of a call carry its id; the others carry zero. PING and PONG carry a token there.
    const fn call_id_fits(self, call_id: u64) -> bool {
        match self {
            Self::Hello | Self::Welcome | Self::Goaway => call_id == 0,
            Self::Ping | Self::Pong => true,
            _ => call_id != 0,
        }
    }
}

/// A decoded header whose fields agree with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Exact payload length, without padding.
    pub payload_bytes: u32,
    /// What the frame is.
    pub kind: Kind,
    /// Method index or status code.
    pub selector: u16,
    /// The call that the frame belongs to.
    pub call_id: u64,
    /// Remaining time of a request in microseconds; zero for none.
    pub timeout_us: u32,
}

impl Header {
    /// A header without selector and time-out.
    pub const fn new(kind: Kind, call_id: u64, payload_bytes: u32) -> Self {
        Self {
            payload_bytes,
            kind,
            selector: 0,
            call_id,
            timeout_us: 0,
        }
    }

    /// Bytes that follow the header in the stream: the payload and its padding.
    #[inline]
    pub const fn body_bytes(&self) -> usize {
        padded(self.payload_bytes as usize)
    }

    /// The header as it goes on the wire.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut wire = [0; HEADER_BYTES];
        wire[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        wire[4] = self.kind as u8;
        wire[6..8].copy_from_slice(&self.selector.to_le_bytes());
        wire[8..16].copy_from_slice(&self.call_id.to_le_bytes());
        wire[16..20].copy_from_slice(&self.timeout_us.to_le_bytes());
        wire
    }

    /// Reads a header and checks all that can be checked without knowing the connection:
    /// the kind, reserved fields, and that the length is at most `message_bytes_max` for messages
    /// and [`CONTROL_BYTES_MAX`](super::limits::CONTROL_BYTES_MAX) for everything else.
    #[inline(always)]
    pub fn decode(wire: &[u8; HEADER_BYTES], message_bytes_max: u32) -> Result<Self, Violation> {
        let word =
            |at: usize| u32::from_le_bytes([wire[at], wire[at + 1], wire[at + 2], wire[at + 3]]);
        let kind = match Kind::from_wire(wire[4]) {
            Some(kind) => kind,
            None if CREDIT_KINDS.contains(&wire[4]) => {
                return Err(Violation::CreditNotGranted { kind: wire[4] });
            }
            None => return Err(Violation::UnknownKind { kind: wire[4] }),
        };
        let header = Self {
            payload_bytes: word(0),
            kind,
            selector: u16::from_le_bytes([wire[6], wire[7]]),
            call_id: u64::from(word(8)) | u64::from(word(12)) << 32,
            timeout_us: word(16),
        };
        let reserved = wire[5] as u32 | word(20) | word(24) | word(28);
        header.check(reserved, message_bytes_max)?;
        Ok(header)
    }

    /// Reads the header of a request that [`Header::decode`] would accept. `None`: it is of another
    /// kind, or has a fault, which `decode` names. Most headers come this way, and are cheaper to
    /// check when only one kind is possible.
    #[inline(always)]
    pub fn decode_request(wire: &[u8; HEADER_BYTES], message_bytes_max: u32) -> Option<Self> {
        let (words, _) = wire.as_chunks::<8>();
        let [first, call_id, third, reserved] =
            [0, 1, 2, 3].map(|at| u64::from_le_bytes(words[at]));
        let (payload_bytes, kind_and_flags) = (first as u32, (first >> 32) as u16);
        let is_sound = kind_and_flags == Kind::Request as u16
            && payload_bytes <= message_bytes_max
            && call_id != 0
            && third >> 32 | reserved == 0;
        is_sound.then_some(Self {
            payload_bytes,
            kind: Kind::Request,
            selector: (first >> 48) as u16,
            call_id,
            timeout_us: third as u32,
        })
    }

    /// Reads the header of a response that [`Header::decode`] would accept: its payload's length and its
    /// call. `None` as in [`Header::decode_request`].
    #[inline(always)]
    pub fn decode_response(
        wire: &[u8; HEADER_BYTES],
        message_bytes_max: u32,
    ) -> Option<(u32, u64)> {
        let (words, _) = wire.as_chunks::<8>();
        let [first, call_id, third, reserved] =
            [0, 1, 2, 3].map(|at| u64::from_le_bytes(words[at]));
        let (payload_bytes, kind_flags_and_selector) = (first as u32, first >> 32);
        let is_sound = kind_flags_and_selector == Kind::Response as u64
            && payload_bytes <= message_bytes_max
            && call_id != 0
            && third | reserved == 0;
        is_sound.then_some((payload_bytes, call_id))
    }

    #[inline(always)]
    fn check(&self, reserved: u32, message_bytes_max: u32) -> Result<(), Violation> {
        let kind = self.kind;
        if reserved != 0 {
            return Err(Violation::ReservedBits { kind: kind as u8 });
        }
        let bytes_max = if kind.carries_message() {
            message_bytes_max
        } else {
            super::limits::CONTROL_BYTES_MAX
        };
        if self.payload_bytes > bytes_max {
            return Err(Violation::TooLong {
                bytes: self.payload_bytes,
                bytes_max,
            });
        }
        let contradicts = (self.selector != 0 && !kind.has_selector())
            || (self.payload_bytes != 0 && !kind.has_payload())
            || (self.timeout_us != 0 && kind as u8 != Kind::Request as u8)
            || !kind.call_id_fits(self.call_id);
        if contradicts {
            return Err(Violation::Contradiction { kind: kind as u8 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 1 << 20;

    fn request() -> Header {
        Header {
            payload_bytes: 100,
            kind: Kind::Request,
            selector: 7,
            call_id: 0x0102_0304_0506_0708,
            timeout_us: 5000,
        }
    }

    #[test]
    fn a_header_survives_the_wire() {
        assert_eq!(Header::decode(&request().encode(), MAX), Ok(request()));
    }

    /// What the short ways read, the long way reads too; what they refuse it refuses, or it is of
    /// another kind.
    #[test]
    fn the_short_ways_agree_with_the_long_one_about_every_changed_byte() {
        let response = Header::new(Kind::Response, 9, 100).encode();
        for (sound, at, value) in [request().encode(), response]
            .iter()
            .flat_map(|sound| (0..HEADER_BYTES).map(move |at| (sound, at)))
            .flat_map(|(sound, at)| [0, 1, 5, 6, 255].map(|value| (sound, at, value)))
        {
            let mut wire = *sound;
            wire[at] = value;
            let long = Header::decode(&wire, MAX).ok();
            let of = |kind| long.filter(|header| header.kind == kind);
            let short = Header::decode_request(&wire, MAX);
            assert_eq!(short, of(Kind::Request), "byte {at}: {value}");
            let short = Header::decode_response(&wire, MAX);
            let long = of(Kind::Response).map(|header| (header.payload_bytes, header.call_id));
            assert_eq!(short, long, "byte {at}: {value}");
        }
    }

    #[test]
    fn every_reserved_byte_is_refused_when_set() {
        for at in [5].into_iter().chain(20..32) {
            let mut wire = request().encode();
            wire[at] = 1;
            let refused = Header::decode(&wire, MAX);
            assert!(
                matches!(refused, Err(Violation::ReservedBits { .. })),
                "byte {at}: {refused:?}"
            );
        }
    }

    #[test]
    fn lengths_above_the_maximum_are_refused_per_kind() {
        let message = Header {
            payload_bytes: MAX + 1,
            ..request()
        };
        assert!(matches!(
            Header::decode(&message.encode(), MAX),
            Err(Violation::TooLong { .. })
        ));
        let control = Header::new(Kind::Goaway, 0, super::super::limits::CONTROL_BYTES_MAX + 1);
        assert!(matches!(
            Header::decode(&control.encode(), u32::MAX),
            Err(Violation::TooLong { .. })
        ));
    }

    #[test]
    fn unknown_and_reserved_kinds_are_told_apart() {
        let mut wire = request().encode();
        wire[4] = 16;
        assert!(matches!(
            Header::decode(&wire, MAX),
            Err(Violation::CreditNotGranted { kind: 16 })
        ));
        wire[4] = 200;
        assert!(matches!(
            Header::decode(&wire, MAX),
            Err(Violation::UnknownKind { kind: 200 })
        ));
    }

    #[test]
    fn fields_that_a_kind_does_not_have_must_be_zero() {
        for contradictory in [
            Header {
                selector: 1,
                ..Header::new(Kind::Response, 1, 0)
            },
            Header {
                timeout_us: 1,
                ..Header::new(Kind::Response, 1, 0)
            },
            Header::new(Kind::Ping, 1, 4),
            Header::new(Kind::Request, 0, 4),
            Header::new(Kind::Goaway, 9, 4),
        ] {
            let refused = Header::decode(&contradictory.encode(), MAX);
            assert!(
                matches!(refused, Err(Violation::Contradiction { .. })),
                "{contradictory:?}"
            );
        }
    }
}
