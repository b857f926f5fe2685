//! However a stream is cut, it consists of the same frames, and has the same fault at the same place.

use ringcall::__private::wire::framer::Framer;

use crate::chunks::{Chunking, assert_aligned};
use crate::source::Source;
use crate::wire::{self, Frame};

/// Frames: header as bytes, payload. The fault, in words.
type Seen = (Vec<([u8; 32], Vec<u8>)>, Option<String>);

pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let is_structured = source.u8() & 1 == 1;
    let chunkings = Chunking::three(&mut source);
    let stream = if is_structured {
        structured(&mut source)
    } else {
        source.0.to_vec()
    };
    let [whole, others @ ..] = chunkings;
    let expected = seen(&stream, &whole);
    for chunking in others {
        assert_eq!(seen(&stream, &chunking), expected, "{chunking:?}");
    }
}

fn seen(stream: &[u8], chunking: &Chunking) -> Seen {
    let mut framer = Framer::new(128 * 1024);
    let (mut frames, mut fault) = (Vec::new(), None);
    chunking.feed(
        stream,
        &mut framer,
        |framer| framer.take_direct(),
        |framer, body| framer.put_direct(body),
        |framer, chunk, start| {
            let mut at = start;
            loop {
                if chunking.is_quick
                    && let Some((header, payload, end)) = framer.peek_request(chunk, at)
                {
                    assert_aligned(&chunk[payload.clone()]);
                    frames.push((header.encode(), chunk[payload].to_vec()));
                    at = end;
                    continue;
                }
                match framer.next_frame(chunk, &mut at) {
                    Ok(Some(frame)) => {
                        let payload = frame.payload(chunk);
                        assert_aligned(payload);
                        assert_eq!(payload.len(), frame.header.payload_bytes as usize);
                        frames.push((frame.header.encode(), payload.to_vec()));
                    }
                    Ok(None) => {
                        assert_eq!(at, chunk.len(), "the chunk is used up");
                        return true;
                    }
                    Err(violation) => {
                        fault = Some(violation.to_string());
                        return false;
                    }
                }
            }
        },
    );
    (frames, fault)
}

fn structured(source: &mut Source<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !source.is_empty() && stream.len() < 400_000 {
        let start = stream.len();
        let (kind, how) = (source.u8(), source.u8());
        let length = match how & 3 {
            0 => 0,
            1 => usize::from(source.u16()) * 2,
            _ => usize::from(source.u8()),
        };
        let mut payload = source.take(length.min(64)).to_vec();
        payload.resize(length, how);
        let frame = Frame {
            kind: kind % 13,
            selector: if how & 4 == 0 { 0 } else { source.u16() },
            call_id: if how & 8 == 0 { 1 } else { source.u64() },
            timeout_us: if how & 16 == 0 { 0 } else { source.u32() },
            payload: &payload,
        };
        frame.append_to(&mut stream);
        wire::damage(&mut stream, start, source);
    }
    stream
}
