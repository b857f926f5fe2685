//! The frames that the client sends, encoded once, and what it reads of those that come back.

use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::limits::{HEADER_BYTES, padded};

/// Where the call id stands in a header; only these eight bytes differ between calls.
pub const CALL_ID_AT: usize = 8;

/// A whole frame: header, payload, padding.
pub fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    assert_eq!(header.payload_bytes as usize, payload.len());
    let mut frame = header.encode().to_vec();
    frame.extend_from_slice(payload);
    frame.resize(HEADER_BYTES + padded(payload.len()), 0);
    frame
}

/// A request of the method `selector`. Its call id is patched for each call.
pub fn request(selector: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        selector,
        ..Header::new(Kind::Request, 0, payload.len() as u32)
    };
    frame(header, payload)
}

/// A payload of this length for servers that don't look at it.
pub fn any_payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| at as u8).collect()
}

/// A frame that answered one of the preamble.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its header, checked.
    pub header: Header,
    /// Its payload without the padding.
    pub payload: Vec<u8>,
}

impl Answer {
    /// Length of a frame with so much payload.
    pub const fn frame_bytes(payload_bytes: usize) -> usize {
        HEADER_BYTES + padded(payload_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_padded_and_its_call_id_stands_where_we_patch_it() {
        let mut frame = request(3, &any_payload(50));
        assert_eq!(frame.len(), HEADER_BYTES + 64);
        frame[CALL_ID_AT..CALL_ID_AT + 8].copy_from_slice(&7_u64.to_le_bytes());
        let header = Header::decode(frame.first_chunk().unwrap(), 1 << 20).unwrap();
        assert_eq!((header.call_id, header.selector), (7, 3));
    }
}
