//! Frames, written by the document and not by the crate.

use crate::source::Source;

pub const HELLO: u8 = 1;
pub const WELCOME: u8 = 2;
pub const RESOLVE: u8 = 3;
pub const RESOLVED: u8 = 4;
pub const REQUEST: u8 = 5;
pub const RESPONSE: u8 = 6;
pub const ERROR: u8 = 7;
pub const CANCEL: u8 = 8;
pub const GOAWAY: u8 = 11;

/// A frame that may still get what fits its kind.
#[derive(Default)]
pub struct Frame<'a> {
    pub kind: u8,
    pub selector: u16,
    pub call_id: u64,
    pub timeout_us: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    pub fn append_to(&self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        wire.extend_from_slice(&[self.kind, 0]);
        wire.extend_from_slice(&self.selector.to_le_bytes());
        wire.extend_from_slice(&self.call_id.to_le_bytes());
        wire.extend_from_slice(&self.timeout_us.to_le_bytes());
        wire.extend_from_slice(&[0; 12]);
        wire.extend_from_slice(self.payload);
        wire.resize(
            wire.len() + self.payload.len().next_multiple_of(16) - self.payload.len(),
            0,
        );
    }
}

/// The payload of HELLO and, from a server that does not tell of its shards, of WELCOME.
pub fn handshake(payload_bytes_max: u32, calls_in_flight_max: u32) -> Vec<u8> {
    let mut payload = b"RINGCALL\x01\0\x01\0\x03\x20\x08\0".to_vec();
    payload.extend_from_slice(&[0; 8]);
    payload.extend_from_slice(&payload_bytes_max.to_le_bytes());
    payload.extend_from_slice(&calls_in_flight_max.to_le_bytes());
    payload.extend_from_slice(&[0; 8]);
    payload
}

/// The payload of RESOLVE.
pub fn resolve(methods: &[(&str, u64)]) -> Vec<u8> {
    let mut payload = (methods.len() as u16).to_le_bytes().to_vec();
    for (name, fingerprint) in methods {
        payload.extend_from_slice(&fingerprint.to_le_bytes());
        payload.extend_from_slice(&(name.len() as u16).to_le_bytes());
        payload.extend_from_slice(name.as_bytes());
    }
    payload
}

/// Flips a bit of what was appended since `start`, one time in four.
pub fn damage(wire: &mut [u8], start: usize, source: &mut Source<'_>) {
    let (how, place) = (source.u8(), usize::from(source.u16()));
    let appended = &mut wire[start..];
    if how >= 192 && !appended.is_empty() {
        let place = place % appended.len();
        appended[place] ^= 1 << (how & 7);
    }
}
