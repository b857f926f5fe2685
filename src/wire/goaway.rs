//! GOAWAY: the last word of one side, and why.
//!
//! ```text
//!  0  reason        u16   0 for a planned shutdown, else a violation's reason
//!  2  reserved      u16   zero
//!  4  version_min   u16   versions that the sender speaks, for peers of another version
//!  6  version_max   u16
//!  8  last_call_id  u64   calls above it were not and will not be executed
//! 16  message             UTF-8, for people
//! ```

use super::handshake::{VERSION_MAX, VERSION_MIN};
use super::limits::STATUS_MESSAGE_BYTES_MAX;
use super::status::cut_with_mark;
use super::violation::Violation;

/// What a GOAWAY says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goaway {
    /// Zero for a planned shutdown, else [`Violation::reason`].
    pub reason: u16,
    /// Calls with a higher id were not and will not be executed.
    pub last_call_id: u64,
    /// For people.
    pub message: String,
}

impl Goaway {
    /// Whether a client may come back at once: the server shuts down as planned, or was not heard from
    /// this side in time, as after a pause of the program. Any other reason is a mistake, which would be
    /// made again.
    pub fn invites_back(&self) -> bool {
        self.reason == 0 || Violation::is_of_time(self.reason)
    }

    /// Appends the payload.
    pub fn encode_payload(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.reason.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&VERSION_MIN.to_le_bytes());
        out.extend_from_slice(&VERSION_MAX.to_le_bytes());
        out.extend_from_slice(&self.last_call_id.to_le_bytes());
        out.extend_from_slice(cut_with_mark(&self.message, STATUS_MESSAGE_BYTES_MAX).as_bytes());
    }

    /// Reads a payload.
    pub fn decode_payload(payload: &[u8]) -> Result<Self, Violation> {
        const MALFORMED: Violation = Violation::Malformed { what: "goaway" };
        let (fixed, message) = payload.split_first_chunk::<16>().ok_or(MALFORMED)?;
        let (_, call_id) = fixed.split_last_chunk::<8>().ok_or(MALFORMED)?;
        if fixed[2..4] != [0, 0] || message.len() > STATUS_MESSAGE_BYTES_MAX {
            return Err(MALFORMED);
        }
        Ok(Self {
            reason: u16::from_le_bytes([fixed[0], fixed[1]]),
            last_call_id: u64::from_le_bytes(*call_id),
            message: std::str::from_utf8(message)
                .map_err(|_| MALFORMED)?
                .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goaway_survives_the_wire() {
        let goaway = Goaway {
            reason: 4,
            last_call_id: 99,
            message: "unknown frame kind".into(),
        };
        let mut payload = Vec::new();
        goaway.encode_payload(&mut payload);
        assert_eq!(Goaway::decode_payload(&payload), Ok(goaway));
        assert!(Goaway::decode_payload(&payload[..15]).is_err());
    }
    #[test]
    fn a_long_message_is_cut_and_says_so() {
        let goaway = Goaway {
            reason: 1,
            last_call_id: 0,
            message: "x".repeat(2 * STATUS_MESSAGE_BYTES_MAX),
        };
        let mut payload = Vec::new();
        goaway.encode_payload(&mut payload);
        let read = Goaway::decode_payload(&payload).expect("as long as it may be");
        assert!(read.message.ends_with(" [cut; 8192 bytes in all]"));
        assert_eq!(read.message.len(), STATUS_MESSAGE_BYTES_MAX);
    }
}
