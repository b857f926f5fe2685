//! What is wrong with limits.

use std::fmt;
use std::time::Duration;

/// What is wrong with [`Limits`](super::limits::Limits). Its `Display` names the field, its value, and what it
/// may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitsError {
    /// `payload_bytes_max` is too small for what every connection needs, or too large for the format.
    PayloadBytesMax {
        /// Its value.
        bytes: u32,
        /// The least that it may be.
        bytes_min: u32,
        /// The most that it may be.
        bytes_max: u32,
    },
    /// `calls_in_flight_max` is 0.
    NoCalls,
    /// `request_bytes_in_flight_max` is 0.
    NoRequestBytes,
    /// `write_queue_bytes_high` is 0.
    NoQueueBytes,
    /// `write_queue_bytes_max` has no room for one of the largest messages above `write_queue_bytes_high`.
    WriteQueueBytesMax {
        /// Its value.
        bytes: usize,
        /// The least that it may be, as the other limits are.
        bytes_min: usize,
    },
    /// A time is too short or too long.
    Time {
        /// Which.
        field: &'static str,
        /// Its value.
        time: Duration,
        /// The least that it may be.
        time_min: Duration,
        /// The most that it may be.
        time_max: Duration,
    },
}

impl LimitsError {
    /// The name of the field.
    pub fn field(&self) -> &'static str {
        match self {
            Self::PayloadBytesMax { .. } => "payload_bytes_max",
            Self::NoCalls => "calls_in_flight_max",
            Self::NoRequestBytes => "request_bytes_in_flight_max",
            Self::NoQueueBytes => "write_queue_bytes_high",
            Self::WriteQueueBytesMax { .. } => "write_queue_bytes_max",
            Self::Time { field, .. } => field,
        }
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limits::{} is ", self.field())?;
        match self {
            Self::PayloadBytesMax {
                bytes,
                bytes_min,
                bytes_max,
            } => write!(
                f,
                "{bytes}; it must lie between {bytes_min} and {bytes_max}"
            ),
            Self::NoCalls => f.write_str("0; at least one call must be possible"),
            Self::NoRequestBytes => f.write_str("0; at least one byte must be possible"),
            Self::NoQueueBytes => f.write_str(
                "0; nothing is acted on above it, so at least one byte must be possible",
            ),
            Self::WriteQueueBytesMax { bytes, bytes_min } => write!(
                f,
                "{bytes}; it must be at least {bytes_min}: write_queue_bytes_high, and one frame of the largest \
                 payload"
            ),
            Self::Time {
                time,
                time_min,
                time_max,
                ..
            } => write!(
                f,
                "{time:?}; it must lie between {time_min:?} and {time_max:?}"
            ),
        }
    }
}

impl std::error::Error for LimitsError {}
