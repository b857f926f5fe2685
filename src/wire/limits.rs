//! Every bound of the protocol in one place, with the relations between them asserted.
//!
//! Fixed numbers are part of the wire format or guard this implementation; [`Limits`] holds the
//! ones that a deployment may set. Both ends enforce their own.

use super::limits_error::LimitsError;
use std::time::Duration;

/// Bytes of every frame header.
pub const HEADER_BYTES: usize = 32;
/// Frames start and end at multiples of this many bytes of the stream.
pub const FRAME_ALIGN: usize = 16;
/// Levels of `Vec`, `Box` and text of more than eight bytes within each other in one message. It bounds
/// the stack that reading and writing need.
pub const NESTING_LEVELS_MAX: u32 = 62;
/// Largest payload that any configuration may allow, in bytes (1 GiB).
pub const PAYLOAD_BYTES_CEILING: u32 = 1 << 30;
/// Bytes of a control payload (handshake, resolution, error, goaway) that either side accepts.
pub const CONTROL_BYTES_MAX: u32 = 64 * 1024;
/// Methods that one server may register, over all its services.
pub const METHODS_MAX: usize = 1024;
/// Methods in one RESOLVE frame, and so in one service: with the longest names they fit into a
/// control payload.
pub const RESOLVE_METHODS_MAX: usize = 128;
/// Bytes of a full method name, `service/method`.
pub const METHOD_NAME_BYTES_MAX: usize = 255;
/// Bytes of an error message in an ERROR or GOAWAY frame; longer ones are cut at a character,
/// and end in a mark that says so.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of an error's details; longer ones are left out as a whole, and the message says so.
pub const STATUS_DETAILS_BYTES_MAX: usize = 32 * 1024;
/// Frames whose padded payload is at least this long are received into a buffer of their own.
pub const DIRECT_BODY_BYTES_MIN: usize = 16 * 1024;
/// PING frames that a peer may send in one [`PING_WINDOW`].
pub const PINGS_PER_WINDOW_MAX: u32 = 32;
/// Time without progress of its output after which a peer is read from although much waits for it: it
/// may be writing all of its requests before it reads the first answer.
pub const OUTPUT_PATIENCE: Duration = Duration::from_millis(20);
/// The window in which pings are counted.
pub const PING_WINDOW: Duration = Duration::from_secs(1);
/// CANCEL frames that a peer may send beyond the number of its requests.
pub const CANCELS_BEYOND_REQUESTS_MAX: u64 = 64;
/// RESOLVE frames that a peer may send on one connection.
pub const RESOLVES_PER_CONNECTION_MAX: u32 = 256;
/// Longest time-out that travels, in microseconds (71.6 minutes). A longer one travels as none, and the
/// client alone keeps it.
pub const TIMEOUT_US_MAX: u32 = u32::MAX;

const _: () = {
    assert!(HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
    assert!(DIRECT_BODY_BYTES_MIN.is_multiple_of(FRAME_ALIGN));
    // ERROR: the length of its message, the message, the details. GOAWAY: 16 bytes, the message.
    assert!(4 + STATUS_MESSAGE_BYTES_MAX + STATUS_DETAILS_BYTES_MAX <= CONTROL_BYTES_MAX as usize);
    assert!(16 + STATUS_MESSAGE_BYTES_MAX <= CONTROL_BYTES_MAX as usize);
    assert!(CONTROL_BYTES_MAX < PAYLOAD_BYTES_CEILING);
    assert!(RESOLVE_METHODS_MAX <= METHODS_MAX);
    // The count, then per method a fingerprint, the length of its name, and the name.
    assert!(
        2 + RESOLVE_METHODS_MAX * (8 + 2 + METHOD_NAME_BYTES_MAX) <= CONTROL_BYTES_MAX as usize
    );
    assert!(METHODS_MAX <= u16::MAX as usize);
};

/// What one end of a connection accepts from the other. Plain data; see each field's default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest payload of one message, in bytes. A longer one ends the connection before any
    /// memory is reserved for it. Default 16 MiB, ceiling 1 GiB, floor 64 KiB.
    pub payload_bytes_max: u32,
    /// Calls of one connection that may be suspended in handlers at once. A request beyond it
    /// waits, and the server stops reading from that connection, until one ends. Default 1024.
    pub calls_in_flight_max: u32,
    /// Memory that one connection may make the server hold before it stops reading from it, in bytes:
    /// requests in buffers of their own (those that are large, or did not lie whole in a receive buffer),
    /// answers that wait to be read, and calls that wait. One message more than this is the most; how
    /// much it may be besides depends on the others
    /// ([`ServerBuilder::memory_per_shard`](crate::ServerBuilder::memory_per_shard)). Default 64 MiB.
    pub request_bytes_in_flight_max: usize,
    /// Time in which the handshake must complete. Default 5 s.
    pub handshake_timeout: Duration,
    /// Time in which all 32 bytes of a header must arrive, counted from its first. Default 5 s.
    pub header_timeout: Duration,
    /// Period after which a body that is still arriving must have kept [`Limits::body_rate_min`],
    /// and over which it must go on to keep it. Default 5 s.
    pub body_grace: Duration,
    /// Slowest permitted arrival of a body in each period of [`Limits::body_grace`], in bytes per
    /// second. Default 1 KiB/s.
    pub body_rate_min: u64,
    /// Time for which a request's body may wait for memory in vain: while none of the calls of its connection
    /// that wait in handlers ends or, where there are none, while no body of its shard is granted memory. Then
    /// it is dropped as it arrives, and its call answered with RESOURCE_EXHAUSTED, not executed: behind it may
    /// lie that others were given up, which would make room. Should be longer than handlers keep large
    /// requests. Default 60 s.
    pub body_patience: Duration,
    /// Silence after which a PING asks whether the peer is alive. Default 20 s.
    pub keepalive_interval: Duration,
    /// Time that a PING may go unanswered. Default 10 s.
    pub keepalive_timeout: Duration,
    /// Queued output above which no further call of that peer starts. What it sends is still read as
    /// far as memory permits, in case it writes everything before it reads. Default 256 KiB.
    pub write_queue_bytes_high: usize,
    /// Queued output above which calls that have waited, and answer all at once, get
    /// RESOURCE_EXHAUSTED in place of answers above 1 KiB. Default 64 MiB; at least one message of the
    /// largest size always fits.
    pub write_queue_bytes_max: usize,
    /// Time in which queued output must make some progress. Default 30 s.
    pub write_stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 16 << 20,
            calls_in_flight_max: 1024,
            request_bytes_in_flight_max: 64 << 20,
            handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            body_grace: Duration::from_secs(5),
            body_rate_min: 1024,
            body_patience: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            write_queue_bytes_high: 256 << 10,
            write_queue_bytes_max: 64 << 20,
            write_stall_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Checks the fields and the relations between them.
    ///
    /// # Errors
    /// The first that is wrong, and how to mend it.
    pub fn check(&self) -> Result<(), LimitsError> {
        let payload = self.payload_bytes_max;
        if !(CONTROL_BYTES_MAX..=PAYLOAD_BYTES_CEILING).contains(&payload) {
            return Err(LimitsError::PayloadBytesMax {
                bytes: payload,
                bytes_min: CONTROL_BYTES_MAX,
                bytes_max: PAYLOAD_BYTES_CEILING,
            });
        }
        if self.calls_in_flight_max == 0 {
            return Err(LimitsError::NoCalls);
        }
        if self.request_bytes_in_flight_max == 0 {
            return Err(LimitsError::NoRequestBytes);
        }
        if self.write_queue_bytes_high == 0 {
            return Err(LimitsError::NoQueueBytes);
        }
        let frame_bytes_max = payload as usize + HEADER_BYTES + FRAME_ALIGN;
        let queue_bytes_min = self.write_queue_bytes_high.saturating_add(frame_bytes_max);
        if self.write_queue_bytes_max < queue_bytes_min {
            return Err(LimitsError::WriteQueueBytesMax {
                bytes: self.write_queue_bytes_max,
                bytes_min: queue_bytes_min,
            });
        }
        let times = [
            ("handshake_timeout", self.handshake_timeout),
            ("header_timeout", self.header_timeout),
            ("body_grace", self.body_grace),
            ("body_patience", self.body_patience),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("write_stall_timeout", self.write_stall_timeout),
        ];
        for (field, time) in times {
            if !(TIME_MIN..=TIME_MAX).contains(&time) {
                return Err(LimitsError::Time {
                    field,
                    time,
                    time_min: TIME_MIN,
                    time_max: TIME_MAX,
                });
            }
        }
        Ok(())
    }
}

/// What any time among the limits may be.
const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// `bytes` rounded up to the next multiple of [`FRAME_ALIGN`].
#[inline]
pub const fn padded(bytes: usize) -> usize {
    (bytes + FRAME_ALIGN - 1) & !(FRAME_ALIGN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_consistent() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn each_wrong_limit_is_refused_by_its_name_and_what_it_may_be() {
        let wrong = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            let error = limits.check().unwrap_err();
            (error.field(), error.to_string())
        };
        for ((field, text), expected, may_be) in [
            (
                wrong(|limits| limits.payload_bytes_max = 1 << 31),
                "payload_bytes_max",
                "between 65536 and 1073741824",
            ),
            (
                wrong(|limits| limits.calls_in_flight_max = 0),
                "calls_in_flight_max",
                "at least one",
            ),
            (
                wrong(|limits| limits.request_bytes_in_flight_max = 0),
                "request_bytes_in_flight_max",
                "at least one",
            ),
            (
                wrong(|limits| limits.write_queue_bytes_high = 0),
                "write_queue_bytes_high",
                "at least one",
            ),
            (
                wrong(|limits| limits.write_queue_bytes_max = 1 << 20),
                "write_queue_bytes_max",
                "at least 17039408",
            ),
            (
                wrong(|limits| limits.write_queue_bytes_high = usize::MAX),
                "write_queue_bytes_max",
                "at least",
            ),
            (
                wrong(|limits| limits.body_grace = Duration::ZERO),
                "body_grace",
                "between 1ms and 86400s",
            ),
        ] {
            assert_eq!(field, expected);
            assert!(text.contains(&format!("Limits::{field} is ")), "{text}");
            assert!(text.contains(may_be), "{text}");
        }
    }

    #[test]
    fn padding_reaches_the_next_multiple_only() {
        assert_eq!([0, 1, 16, 17].map(padded), [0, 16, 16, 32]);
    }
}
