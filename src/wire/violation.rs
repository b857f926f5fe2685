//! What a peer did that ends its connection.

use std::fmt;

/// A breach of the protocol or of a bound by the peer. The connection ends with a GOAWAY that
/// carries [`Violation::reason`] and the text of its `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A length above what this side accepts.
    TooLong {
        /// Announced.
        bytes: u32,
        /// Accepted.
        bytes_max: u32,
    },
    /// Header fields that contradict each other or the kind.
    Contradiction {
        /// Wire number of the frame's kind.
        kind: u8,
    },
    /// A reserved field that is not zero.
    ReservedBits {
        /// Wire number of the frame's kind.
        kind: u8,
    },
    /// A kind that this version does not know.
    UnknownKind {
        /// Its wire number.
        kind: u8,
    },
    /// A stream or credit frame although none was negotiated.
    CreditNotGranted {
        /// Its wire number.
        kind: u8,
    },
    /// Padding that is not zero.
    Padding,
    /// A known kind at a moment or from a side that may not send it.
    Unexpected {
        /// Wire number of the frame's kind.
        kind: u8,
    },
    /// The first frame is not a ringcall handshake.
    NotRingcall,
    /// No common protocol version.
    Version {
        /// Lowest and highest version of the peer.
        peer: (u16, u16),
    },
    /// The peer's rkyv archives are laid out differently.
    Format {
        /// What it announced.
        peer: u32,
    },
    /// A control payload that can't be parsed.
    Malformed {
        /// Which one, in words.
        what: &'static str,
    },
    /// A call id that is not above the previous one.
    CallId {
        /// The refused id.
        call_id: u64,
    },
    /// A response to a call that was never made.
    UnknownCall {
        /// Its id.
        call_id: u64,
    },
    /// More pings, cancels or resolutions than any honest peer sends.
    Flood {
        /// Which of them.
        what: &'static str,
    },
    /// The handshake did not complete in time.
    HandshakeTimeout,
    /// A header did not arrive in time.
    HeaderTimeout,
    /// A body arrives more slowly than permitted.
    BodyTooSlow,
    /// A ping went unanswered.
    KeepaliveTimeout,
    /// The peer does not read what is sent to it.
    WriteStall,
    /// The shard has as many connections as it accepts.
    TooManyConnections,
}

/// Number of distinct reasons; [`Violation::reason`] is below it.
pub const REASONS: usize = 21;

impl Violation {
    /// Number in the GOAWAY frame, and index of the counter.
    pub const fn reason(&self) -> u16 {
        match self {
            Self::TooLong { .. } => 1,
            Self::Contradiction { .. } => 2,
            Self::ReservedBits { .. } => 3,
            Self::UnknownKind { .. } => 4,
            Self::CreditNotGranted { .. } => 5,
            Self::Padding => 6,
            Self::Unexpected { .. } => 7,
            Self::NotRingcall => 8,
            Self::Version { .. } => 9,
            Self::Format { .. } => 10,
            Self::Malformed { .. } => 11,
            Self::CallId { .. } => 12,
            Self::UnknownCall { .. } => 13,
            Self::Flood { .. } => 14,
            Self::HandshakeTimeout => 15,
            Self::HeaderTimeout => 16,
            Self::BodyTooSlow => 17,
            Self::KeepaliveTimeout => 18,
            Self::WriteStall => 19,
            Self::TooManyConnections => 20,
        }
    }

    /// Whether a reason is that something took too long, not that anything was wrong.
    pub const fn is_of_time(reason: u16) -> bool {
        matches!(reason, 15..=19)
    }

    /// Name of a reason in metrics; `"shutdown"` for zero.
    pub const fn reason_name(reason: u16) -> &'static str {
        match reason {
            0 => "shutdown",
            1 => "too_long",
            2 => "contradiction",
            3 => "reserved_bits",
            4 => "unknown_kind",
            5 => "credit_not_granted",
            6 => "padding",
            7 => "unexpected",
            8 => "not_ringcall",
            9 => "version",
            10 => "format",
            11 => "malformed",
            12 => "call_id",
            13 => "unknown_call",
            14 => "flood",
            15 => "handshake_timeout",
            16 => "header_timeout",
            17 => "body_too_slow",
            18 => "keepalive_timeout",
            19 => "write_stall",
            20 => "too_many_connections",
            _ => "unknown",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, bytes_max } => {
                write!(
                    f,
                    "payload of {bytes} bytes is longer than the {bytes_max} accepted here"
                )
            }
            Self::Contradiction { kind } => {
                write!(
                    f,
                    "header fields contradict each other in a frame of kind {kind}"
                )
            }
            Self::ReservedBits { kind } => {
                write!(
                    f,
                    "reserved header fields are set in a frame of kind {kind}"
                )
            }
            Self::UnknownKind { kind } => write!(f, "unknown frame kind {kind}"),
            Self::CreditNotGranted { kind } => {
                write!(
                    f,
                    "frame kind {kind} needs streams and credits, which were not negotiated"
                )
            }
            Self::Padding => write!(f, "frame padding is not zero"),
            Self::Unexpected { kind } => {
                write!(f, "frame kind {kind} is not allowed at this point")
            }
            Self::NotRingcall => write!(f, "the peer does not speak ringcall"),
            Self::Version { peer: (low, high) } => write!(
                f,
                "peer speaks versions {low} to {high}, this side {} to {}",
                super::handshake::VERSION_MIN,
                super::handshake::VERSION_MAX
            ),
            Self::Format { peer } => write!(
                f,
                "peer announces rkyv format {peer:#x}, this side uses {:#x}",
                super::handshake::RKYV_FORMAT
            ),
            Self::Malformed { what } => write!(f, "malformed {what}"),
            Self::CallId { call_id } => {
                write!(f, "call id {call_id} is not above the previous one")
            }
            Self::UnknownCall { call_id } => {
                write!(f, "response to call {call_id}, which was never made")
            }
            Self::Flood { what } => write!(f, "too many {what} frames"),
            Self::HandshakeTimeout => write!(f, "the handshake did not complete in time"),
            Self::HeaderTimeout => write!(f, "a frame header did not arrive in time"),
            Self::BodyTooSlow => write!(f, "a frame body arrives too slowly"),
            Self::KeepaliveTimeout => write!(f, "a keepalive ping was not answered in time"),
            Self::WriteStall => write!(f, "the peer stopped reading"),
            Self::TooManyConnections => write!(f, "too many connections"),
        }
    }
}

impl std::error::Error for Violation {}
