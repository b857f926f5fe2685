//! Why a message is not sent or not read, and how the caller is told.

use std::fmt;

use rkyv::string::repr::INLINE_CAPACITY;

use super::message::Message;
use crate::wire::limits::NESTING_LEVELS_MAX;
use crate::wire::status::Status;

/// Why a message can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// It is longer than the peer accepts (or than 2 GiB, which relative pointers reach).
    TooLong,
    /// It nests deeper than a receiver follows.
    TooDeep,
}

impl Unsendable {
    /// How the call ends whose request this is.
    #[cold]
    pub(crate) fn request(self) -> Status {
        match self {
            Self::TooLong => Status::request_too_long(),
            Self::TooDeep => Status::invalid_argument(format!("the request {}", nests_too_deep())),
        }
    }
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the message is longer than the peer accepts"),
            Self::TooDeep => write!(f, "the message {}", nests_too_deep()),
        }
    }
}

impl std::error::Error for Unsendable {}

pub(super) fn nests_too_deep() -> String {
    format!(
        "nests deeper than {NESTING_LEVELS_MAX} levels, the most that a receiver follows (each Vec, each Box and \
         each String of more than {INLINE_CAPACITY} bytes within another is one); send a list of parts that name each other by index"
    )
}

/// Why a payload can't be read as the type that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is no valid archive, or nests too deep.
    Invalid,
    /// It is longer than any value of the type: most of it means nothing.
    Slack {
        /// Its length.
        bytes: usize,
        /// The greatest length that the type permits.
        bytes_max: u32,
    },
}

impl Unreadable {
    /// Why this payload is not read as a `T`. To be asked once it was not: finding out beforehand would
    /// cost each message that is read.
    #[cold]
    pub(crate) fn of<T: Message>(payload: &[u8]) -> Self {
        match T::PAYLOAD_BYTES_MAX {
            Some(bytes_max) if payload.len() > bytes_max as usize => Self::Slack {
                bytes: payload.len(),
                bytes_max,
            },
            _ => Self::Invalid,
        }
    }

    /// How the call ends whose response this is.
    #[cold]
    pub(crate) fn response(self) -> Status {
        Status::data_loss(self.describe("response"))
    }

    pub(super) fn describe(self, what: &str) -> String {
        match self {
            Self::Invalid => format!(
                "the {what} is not a valid archive of the method's {what} type, or nests deeper than \
                 {NESTING_LEVELS_MAX} levels"
            ),
            Self::Slack { bytes, bytes_max } => format!(
                "the {what} has {bytes} bytes; the method's {what} type needs at most {bytes_max}"
            ),
        }
    }
}
