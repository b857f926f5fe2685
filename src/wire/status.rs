//! Status codes and the payload of an ERROR frame.

use std::borrow::Cow;
use std::fmt;

use super::limits::{STATUS_DETAILS_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX};

/// gRPC's seventeen canonical status codes, with the same numbers and meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
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
    pub const ALL: &'static [Self] = &[
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
///
/// Two are equal when all of that is; it makes no difference where they come from.
#[derive(Clone, Debug)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    details: Vec<u8>,
    is_from_peer: bool,
}

impl PartialEq for Status {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code && self.message == other.message && self.details == other.details
    }
}

impl Eq for Status {}

impl Status {
    /// That of a request which is longer than permitted.
    pub(crate) fn request_too_long() -> Self {
        Self::resource_exhausted(
            "the request is longer than payload_bytes_max of this side or of the server; raise it or split the \
             request",
        )
    }

    /// A status without details. A static message costs no allocation. Of a message 4096 bytes
    /// travel at most; a longer one is cut at a character, and ends in how long it was.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            is_from_peer: false,
        }
    }

    /// Attaches bytes that the two services agree on, at most 32 KiB of them.
    ///
    /// A part of longer ones would be taken for the whole, so those are left out: the status then has
    /// no details, its message says so with both lengths, and a warning is logged.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Vec<u8>>) -> Self {
        self.details = details.into();
        if self.details.len() > STATUS_DETAILS_BYTES_MAX {
            self.leave_details_out();
        }
        self
    }

    #[cold]
    fn leave_details_out(&mut self) {
        let bytes = self.details.len();
        tracing::warn!(
            bytes,
            bytes_max = STATUS_DETAILS_BYTES_MAX,
            status = %self.code,
            "the details of a status are too long and were left out"
        );
        let note = format!(
            " [its details were left out: they have {bytes} bytes, and at most {STATUS_DETAILS_BYTES_MAX} travel]"
        );
        // Both have to travel.
        let message = cut_with_mark(&self.message, STATUS_MESSAGE_BYTES_MAX - note.len());
        self.message = (message.into_owned() + &note).into();
        self.details = Vec::new();
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

    /// Whether the other side has sent it. Otherwise this one made it: there was no connection, it was lost,
    /// the deadline passed, or the call was refused before it was sent.
    pub fn is_from_peer(&self) -> bool {
        self.is_from_peer
    }

    /// Appends the payload of an ERROR frame: `message_bytes u32`, the message, the details.
    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) {
        let message = cut_with_mark(&self.message, STATUS_MESSAGE_BYTES_MAX);
        out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        out.extend_from_slice(message.as_bytes());
        out.extend_from_slice(&self.details);
    }

    /// Reads the payload of an ERROR frame; `None` when its lengths, which are bounded, or its UTF-8
    /// are wrong.
    pub(crate) fn decode_payload(code: u16, payload: &[u8]) -> Option<Self> {
        let (message_bytes, rest) = payload.split_first_chunk::<4>()?;
        let message_bytes = u32::from_le_bytes(*message_bytes) as usize;
        if message_bytes > STATUS_MESSAGE_BYTES_MAX {
            return None;
        }
        let (message, details) = rest.split_at_checked(message_bytes)?;
        if details.len() > STATUS_DETAILS_BYTES_MAX {
            return None;
        }
        let message = std::str::from_utf8(message).ok()?;
        let code = match Code::from_wire(code) {
            Code::Ok => Code::Unknown,
            code => code,
        };
        let status = Self::new(code, message.to_owned()).with_details(details);
        Some(Self {
            is_from_peer: true,
            ..status
        })
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

/// `text` if it is at most `bytes_max` long, else its beginning up to a character and a mark that
/// says how long it was, together at most that long.
pub(crate) fn cut_with_mark(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mark = format!(" [cut; {} bytes in all]", text.len());
    let kept_bytes = bytes_max.saturating_sub(mark.len());
    let kept = &text[..text.floor_char_boundary(kept_bytes)];
    Cow::Owned(kept.to_owned() + &mark)
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
        let read = Status::decode_payload(5, &payload).expect("can be read");
        assert_eq!(read, status);
        assert!(read.is_from_peer() && !status.is_from_peer());
    }

    #[test]
    fn damaged_error_payloads_are_refused() {
        assert_eq!(Status::decode_payload(5, &[1, 0, 0]), None);
        assert_eq!(Status::decode_payload(5, &[9, 0, 0, 0, b'x']), None);
        assert_eq!(Status::decode_payload(5, &[1, 0, 0, 0, 0xff]), None);
    }

    fn sent(status: &Status) -> Status {
        let mut payload = Vec::new();
        status.encode_payload(&mut payload);
        Status::decode_payload(status.code() as u16, &payload).expect("can be read")
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_and_says_so() {
        let whole = "x".repeat(STATUS_MESSAGE_BYTES_MAX);
        assert_eq!(sent(&Status::internal(whole.clone())).message(), whole);
        for first in ["", "x"] {
            let long = first.to_owned() + &"\u{fc}".repeat(STATUS_MESSAGE_BYTES_MAX);
            let mark = format!(" [cut; {} bytes in all]", long.len());
            let status = sent(&Status::internal(long.clone()));
            let kept = status.message().strip_suffix(&mark).expect("the mark");
            assert!(long.starts_with(kept));
            let unused = STATUS_MESSAGE_BYTES_MAX - status.message().len();
            assert!(unused < 2, "{unused} bytes less than permitted");
        }
    }

    #[test]
    fn details_are_sent_whole_or_not_at_all() {
        let fit = Status::aborted("failed").with_details(vec![1; STATUS_DETAILS_BYTES_MAX]);
        assert_eq!((fit.message(), sent(&fit)), ("failed", fit.clone()));
        for message in [
            "failed".to_owned(),
            "x".repeat(2 * STATUS_MESSAGE_BYTES_MAX),
        ] {
            let long = Status::aborted(message);
            let long = long.with_details(vec![1; STATUS_DETAILS_BYTES_MAX + 1]);
            let got = sent(&long);
            assert_eq!((got.details(), &got), (&[][..], &long));
            let note = "details were left out: they have 32769 bytes, and at most 32768 travel]";
            assert!(got.message().ends_with(note), "{got}");
        }
    }

    #[test]
    fn details_beyond_the_bound_are_refused() {
        let mut payload = vec![0; 4 + STATUS_DETAILS_BYTES_MAX];
        assert!(Status::decode_payload(5, &payload).is_some());
        payload.push(0);
        assert_eq!(Status::decode_payload(5, &payload), None);
    }
}
