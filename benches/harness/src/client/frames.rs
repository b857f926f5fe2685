//! Cuts a stream of answers into frames.

use std::io;

use ringcall::__private::wire::header::Kind;
use ringcall::__private::wire::limits::{CONTROL_BYTES_MAX, HEADER_BYTES, padded};
use ringcall::__private::wire::status::Code;

use crate::wire::CALL_ID_AT;

/// Finds the call ids in a stream of answers that are all of one length.
pub(super) struct FrameReader {
    frame_bytes: usize,
    /// The start of a frame whose end has not arrived.
    partial: Vec<u8>,
}

impl FrameReader {
    /// For answers of this length, header and padding included.
    pub(super) fn new(frame_bytes: usize) -> Self {
        Self {
            frame_bytes,
            partial: Vec::with_capacity(frame_bytes),
        }
    }

    /// Takes what arrived and reports the call id of each answer that is complete. An echoed
    /// request is as good as a response; any other frame is an error.
    #[inline]
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_answer: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.partial.is_empty() {
            bytes = self.complete_partial(bytes)?;
            if self.partial.len() < HEADER_BYTES || self.partial.len() < frame_bytes(&self.partial)
            {
                return Ok(());
            }
            on_answer(self.call_id(&self.partial)?)?;
            self.partial.clear();
        }
        while bytes.len() >= HEADER_BYTES {
            let Some((frame, rest)) = bytes.split_at_checked(frame_bytes(bytes)) else {
                break;
            };
            on_answer(self.call_id(frame)?)?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Moves bytes to the partial frame until it is complete; returns the rest.
    fn complete_partial<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let mut take_until = |partial: &mut Vec<u8>, len: usize| {
            let missing = len.saturating_sub(partial.len()).min(bytes.len());
            partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
        };
        take_until(&mut self.partial, HEADER_BYTES);
        if self.partial.len() >= HEADER_BYTES {
            let len = frame_bytes(&self.partial);
            if len
                > self
                    .frame_bytes
                    .max(HEADER_BYTES + CONTROL_BYTES_MAX as usize)
            {
                return Err(io::Error::other(format!(
                    "a frame of {len} bytes came back"
                )));
            }
            take_until(&mut self.partial, len);
        }
        Ok(bytes)
    }

    #[inline]
    fn call_id(&self, frame: &[u8]) -> io::Result<u64> {
        const REQUEST: u8 = Kind::Request as u8;
        const RESPONSE: u8 = Kind::Response as u8;
        if matches!(frame[KIND_AT], REQUEST | RESPONSE) && frame.len() == self.frame_bytes {
            let id = frame[CALL_ID_AT..].first_chunk().expect("a whole header");
            return Ok(u64::from_le_bytes(*id));
        }
        Err(unexpected(frame))
    }
}

/// Length of the frame that starts here, header and padding included.
#[inline]
fn frame_bytes(header: &[u8]) -> usize {
    let payload_bytes = u32::from_le_bytes(*header.first_chunk().expect("a whole header"));
    HEADER_BYTES + padded(payload_bytes as usize)
}

#[cold]
fn unexpected(frame: &[u8]) -> io::Error {
    let (header, body) = frame.split_at(HEADER_BYTES);
    let selector = u16::from_le_bytes([header[SELECTOR_AT], header[SELECTOR_AT + 1]]);
    refusal(header[KIND_AT], selector, body)
}

/// What a frame says that is not the answer we wanted.
pub(super) fn refusal(kind: u8, selector: u16, payload: &[u8]) -> io::Error {
    if kind != Kind::Error as u8 {
        return io::Error::other(format!(
            "the server sent a frame of kind {kind} with {} bytes instead of an answer",
            payload.len()
        ));
    }
    let text = payload
        .split_first_chunk()
        .and_then(|(bytes, text)| text.get(..u32::from_le_bytes(*bytes) as usize))
        .unwrap_or_default();
    io::Error::other(format!(
        "the server refused: {}: {}",
        Code::from_wire(selector),
        String::from_utf8_lossy(text)
    ))
}

const KIND_AT: usize = 4;
const SELECTOR_AT: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{any_payload, frame};
    use ringcall::__private::wire::header::Header;

    fn answer(kind: Kind, call_id: u64) -> Vec<u8> {
        frame(Header::new(kind, call_id, 50), &any_payload(50))
    }

    fn feed_all(reader: &mut FrameReader, parts: &[&[u8]]) -> io::Result<Vec<u64>> {
        let mut seen = Vec::new();
        for part in parts {
            reader.feed(part, |id| {
                seen.push(id);
                Ok(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn every_cut_of_the_stream_gives_the_same_frames() {
        let stream = [
            answer(Kind::Response, 1),
            answer(Kind::Request, 2),
            answer(Kind::Response, 3),
        ]
        .concat();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut reader = FrameReader::new(96);
                let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(
                    feed_all(&mut reader, &parts).unwrap(),
                    [1, 2, 3],
                    "{first} {second}"
                );
                assert!(reader.partial.is_empty());
            }
        }
    }

    #[test]
    fn an_error_frame_is_told_with_its_message() {
        let payload = [&4_u32.to_le_bytes()[..], b"full", b"details"].concat();
        let header = Header {
            selector: Code::ResourceExhausted as u16,
            ..Header::new(Kind::Error, 1, payload.len() as u32)
        };
        let error = feed_all(&mut FrameReader::new(96), &[&frame(header, &payload)]).unwrap_err();
        assert!(
            error.to_string().ends_with("RESOURCE_EXHAUSTED: full"),
            "{error}"
        );
    }

    #[test]
    fn answers_of_another_length_or_kind_are_refused() {
        let short = frame(Header::new(Kind::Response, 1, 8), &any_payload(8));
        assert!(feed_all(&mut FrameReader::new(96), &[&short]).is_err());
        let goaway = answer(Kind::Goaway, 0);
        assert!(feed_all(&mut FrameReader::new(96), &[&goaway]).is_err());
        let huge = Header::new(Kind::Response, 1, u32::MAX - 64).encode();
        assert!(feed_all(&mut FrameReader::new(96), &[&huge[..9], &huge[9..]]).is_err());
    }
}
