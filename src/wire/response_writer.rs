//! Writes the response of a call, here alone: its header, and behind it the payload in one of three ways.

use super::frame_writer::{append, append_copy, append_padding};
use super::header::{Header, Kind};
use super::limits::padded;
use crate::buf::{Part, SendQueue};

/// Where the response of one call goes. Each way of writing it uses it up.
#[derive(Debug)]
pub(crate) struct ResponseWriter<'a> {
    queue: &'a mut SendQueue,
    header: Header,
    payload_bytes_max: u32,
}

impl<'a> ResponseWriter<'a> {
    /// Of a call whose caller accepts so many bytes.
    #[inline(always)]
    pub(crate) fn new(queue: &'a mut SendQueue, call_id: u64, payload_bytes_max: u32) -> Self {
        Self {
            queue,
            header: Header::new(Kind::Response, call_id, 0),
            payload_bytes_max,
        }
    }

    /// The longest payload that the caller accepts, in bytes. It is for whoever writes to keep to it.
    #[inline(always)]
    pub(crate) fn payload_bytes_max(&self) -> u32 {
        self.payload_bytes_max
    }

    /// Lets `write` append the payload. On its error, or its panic, nothing stays behind.
    #[inline(always)]
    pub(crate) fn encode<E>(
        self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        append(self.queue.filling(), self.header, write)
    }

    /// Copies a payload.
    #[inline(always)]
    pub(crate) fn copy(self, payload: &[u8]) {
        append_copy(self.queue.filling(), self.header, payload);
    }

    /// Sends a payload from where it lies, but for its last bytes, `tail`.
    pub(crate) fn send(mut self, payload: Part, tail: &[u8]) {
        let payload_bytes = payload.as_slice().len() + tail.len();
        self.header.payload_bytes = payload_bytes as u32;
        let encoded = self.header.encode();
        self.queue.filling().extend_from_slice(&encoded);
        self.queue.push_part(payload);
        let out = self.queue.filling();
        out.extend_from_slice(tail);
        append_padding(out, padded(payload_bytes) - payload_bytes);
    }
}
