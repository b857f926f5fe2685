//! Requests in a client's queued output: those of which nothing was sent.
//!
//! Ids increase along the stream, so the first of these requests divides all calls of a connection:
//! from it on nothing was sent, and the server can have executed none of them.

use super::header::{Header, Kind};
use super::limits::HEADER_BYTES;

/// The id of the first request among these whole frames that begins at `from_bytes` or later.
pub(crate) fn first_request(frames: &[u8], from_bytes: usize) -> Option<u64> {
    let mut requests = frames_of(frames)
        .filter(|(at, header, _)| *at >= from_bytes && header.kind == Kind::Request);
    requests.next().map(|(_, header, _)| header.call_id)
}

/// Removes all requests from these whole frames, and what was to be said of these calls. Gives the id
/// of the first.
pub(crate) fn remove_requests(frames: &mut Vec<u8>) -> Option<u64> {
    let first = first_request(frames, 0)?;
    let mut kept = Vec::new();
    for (_, header, frame) in frames_of(frames) {
        let is_of_a_call = matches!(header.kind, Kind::Request | Kind::Cancel);
        if !(is_of_a_call && header.call_id >= first) {
            kept.extend_from_slice(frame);
        }
    }
    *frames = kept;
    Some(first)
}

/// Each frame, where it begins, and its header.
fn frames_of(frames: &[u8]) -> impl Iterator<Item = (usize, Header, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let wire = frames[at..].first_chunk::<HEADER_BYTES>()?;
        let header = Header::decode(wire, u32::MAX).expect("this side wrote the header");
        let begin = at;
        at += HEADER_BYTES + header.body_bytes();
        Some((begin, header, &frames[begin..at]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::frame_writer::{append_bare, append_copy};
    use super::*;

    fn queued() -> Vec<u8> {
        let mut out = Vec::new();
        append_bare(&mut out, Kind::Pong, 7);
        for call_id in [3, 5] {
            append_copy(&mut out, Header::new(Kind::Request, call_id, 0), b"12345");
        }
        append_bare(&mut out, Kind::Cancel, 5);
        append_bare(&mut out, Kind::Cancel, 2);
        out
    }

    #[test]
    fn a_request_of_which_a_byte_was_sent_is_none_of_them() {
        let queued = queued();
        let first = [0, 32, 33, 80, 81, 200].map(|sent| first_request(&queued, sent));
        assert_eq!(first, [Some(3), Some(3), Some(5), Some(5), None, None]);
    }

    #[test]
    fn what_is_no_request_stays() {
        let mut queued = queued();
        assert_eq!(remove_requests(&mut queued), Some(3));
        let kinds: Vec<_> = frames_of(&queued)
            .map(|(_, header, _)| (header.kind, header.call_id))
            .collect();
        assert_eq!(kinds, [(Kind::Pong, 7), (Kind::Cancel, 2)]);
        assert_eq!(remove_requests(&mut queued), None);
        assert_eq!(queued.len(), 64);
    }
}
