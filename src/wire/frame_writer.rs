//! Appends whole frames to a send buffer.

use super::goaway::Goaway;
use super::header::{Header, Kind};
use super::limits::{FRAME_ALIGN, padded};
use super::status::Status;

/// Appends a frame whose payload `write` appends; its length is filled in then. On an error of
/// `write`, or its panic, nothing stays behind.
#[inline(always)]
pub fn append<E>(
    out: &mut Vec<u8>,
    header: Header,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    // Not a multiple of 16 when the end of a body precedes it that is sent from its place.
    let start = out.len();
    let unfinished = Unfinished { out, start };
    let out = &mut *unfinished.out;
    out.extend_from_slice(&header.encode());
    let body = out.len();
    write(out)?;
    let payload_bytes = (out.len() - body) as u32;
    out[start..start + 4].copy_from_slice(&payload_bytes.to_le_bytes());
    let frame_bytes = out.len() - start;
    append_padding(out, padded(frame_bytes) - frame_bytes);
    std::mem::forget(unfinished);
    Ok(())
}

/// Appends a frame whose payload is serialised already.
#[inline(always)]
pub fn append_copy(out: &mut Vec<u8>, mut header: Header, payload: &[u8]) {
    header.payload_bytes = payload.len() as u32;
    let padding = padded(payload.len()) - payload.len();
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
    append_padding(out, padding);
}

/// Appends fewer zeros than the alignment.
#[inline(always)]
pub(super) fn append_padding(out: &mut Vec<u8>, padding: usize) {
    if padding > 0 {
        // Too many, and some of them taken back: a fixed number needs no loop.
        out.extend_from_slice(&[0; FRAME_ALIGN]);
        out.truncate(out.len() - (FRAME_ALIGN - padding));
    }
}

/// A frame that is taken back when this is dropped.
struct Unfinished<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.start);
    }
}

/// Appends a control frame, whose payload can't fail.
pub fn append_control(out: &mut Vec<u8>, header: Header, write: impl FnOnce(&mut Vec<u8>)) {
    let done: Result<(), std::convert::Infallible> = append(out, header, |out| {
        write(out);
        Ok(())
    });
    match done {
        Ok(()) => (),
    }
}

/// Appends a frame without payload.
pub fn append_bare(out: &mut Vec<u8>, kind: Kind, call_id: u64) {
    append_control(out, Header::new(kind, call_id, 0), |_| ());
}

/// Appends the failure of a call.
pub fn append_error(out: &mut Vec<u8>, call_id: u64, status: &Status) {
    let header = Header {
        selector: status.code() as u16,
        ..Header::new(Kind::Error, call_id, 0)
    };
    append_control(out, header, |out| status.encode_payload(out));
}

/// Appends the last word of this side.
pub fn append_goaway(out: &mut Vec<u8>, goaway: &Goaway) {
    append_control(out, Header::new(Kind::Goaway, 0, 0), |out| {
        goaway.encode_payload(out)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_payload_that_fails_or_panics_leaves_nothing() {
        let mut out = vec![7; 16];
        let header = Header::new(Kind::Response, 1, 0);
        let failed = append(&mut out, header, |out| {
            out.extend_from_slice(b"half of it");
            Err("no more")
        });
        assert_eq!((failed, &out[..]), (Err("no more"), &[7; 16][..]));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            append(&mut out, header, |out| -> Result<(), ()> {
                out.extend_from_slice(b"half of it");
                panic!("in the middle")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(out, [7; 16]);
    }
}
