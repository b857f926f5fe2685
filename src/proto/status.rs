//! Status codes and the payload of an ERROR frame.

use std::borrow::Cow;
use std::fmt;

use super::limits::{STATUS_DETAILS_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX};

/// gRPC's seventeen canonical status codes, with the same numbers and meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Code {
    /// Success; never travels in an ERROR frame.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Neither side can say more.
    Unknown = 2,
    /// The message is wrong, whatever the state of the service.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// What was to be created exists.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// The state of the service, or a type fingerprint, does not permit this.
    FailedPrecondition = 9,
    /// A conflict; try the whole operation again.
    Aborted = 10,
    /// Past the valid range.
    OutOfRange = 11,
    /// No such method here.
    Unimplemented = 12,
    /// A bug of the service.
    Internal = 13,
    /// The service can't be reached now.
    Unavailable = 14,
    /// Data is lost or damaged.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// Every code, at the index of its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of a wire number; numbers that no version defines read as [`Code::Unknown`].
    pub fn from_wire(number: u16) -> Self {
        Self::ALL
            .get(number as usize)
            .copied()
            .unwrap_or(Self::Unknown)
    }

    /// The name that gRPC gives it, such as `INVALID_ARGUMENT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call failed: a code, a message for people, and details for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    details: Vec<u8>,
}

impl Status {
    /// A status without details. A static message costs no allocation.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// Attaches bytes that the two services agree on; at most 32 KiB travel.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Vec<u8>>) -> Self {
        self.details = details.into();
        self.details.truncate(STATUS_DETAILS_BYTES_MAX);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details for programs; empty for most.
    pub fn details(&self) -> &[u8] {
        &self.details
    }

    /// Appends the payload of an ERROR frame: `message_bytes u32`, the message, the details.
    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) {
        let message = cut_at_char(&self.message, STATUS_MESSAGE_BYTES_MAX);
        out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        out.extend_from_slice(message.as_bytes());
        out.extend_from_slice(&self.details);
    }

    /// Reads the payload of an ERROR frame; `None` when its lengths or its UTF-8 are wrong.
    pub(crate) fn decode_payload(code: u16, payload: &[u8]) -> Option<Self> {
        let (message_bytes, rest) = payload.split_first_chunk::<4>()?;
        let message_bytes = u32::from_le_bytes(*message_bytes) as usize;
        if message_bytes > STATUS_MESSAGE_BYTES_MAX {
            return None;
        }
        let (message, details) = rest.split_at_checked(message_bytes)?;
        let message = std::str::from_utf8(message).ok()?;
        let code = match Code::from_wire(code) {
            Code::Ok => Code::Unknown,
            code => code,
        };
        Some(Self::new(code, message.to_owned()).with_details(details))
    }
}

/// Constructors named after the codes.
macro_rules! constructors {
    ($($name:ident $code:ident),*) => {
        impl Status {
            $(
                #[doc = concat!("A status with [`Code::", stringify!($code), "`].")]
                pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                    Self::new(Code::$code, message)
                }
            )*
        }
    };
}

constructors!(
    cancelled Cancelled, invalid_argument InvalidArgument, deadline_exceeded DeadlineExceeded,
    not_found NotFound, resource_exhausted ResourceExhausted,
    failed_precondition FailedPrecondition, aborted Aborted, already_exists AlreadyExists, data_loss DataLoss,
    permission_denied PermissionDenied, unauthenticated Unauthenticated, unknown Unknown,
    out_of_range OutOfRange,
    unimplemented Unimplemented, internal Internal, unavailable Unavailable
);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// The longest prefix of `text` that is at most `bytes_max` long and ends at a character.
pub(crate) fn cut_at_char(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max.min(text.len()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_at_their_number() {
        for (number, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
        }
        assert_eq!(Code::from_wire(999), Code::Unknown);
    }

    #[test]
    fn a_status_survives_the_wire() {
        let status = Status::not_found("no key \u{fc}").with_details([1, 2]);
        let mut payload = Vec::new();
        status.encode_payload(&mut payload);
        assert_eq!(Status::decode_payload(5, &payload), Some(status));
    }

    #[test]
    fn damaged_error_payloads_are_refused() {
        assert_eq!(Status::decode_payload(5, &[1, 0, 0]), None);
        assert_eq!(Status::decode_payload(5, &[9, 0, 0, 0, b'x']), None);
        assert_eq!(Status::decode_payload(5, &[1, 0, 0, 0, 0xff]), None);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let long = "\u{fc}".repeat(STATUS_MESSAGE_BYTES_MAX);
        let mut payload = Vec::new();
        Status::internal(long).encode_payload(&mut payload);
        let status = Status::decode_payload(13, &payload).expect("valid UTF-8");
        assert_eq!(status.message().len(), STATUS_MESSAGE_BYTES_MAX);
    }
}
