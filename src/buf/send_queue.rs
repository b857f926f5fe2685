//! What waits to be sent on one connection.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Chunk;
use crate::panics;

/// Bytes to send, in order: frames that were serialised into buffers, and bodies that were handed
/// over and go out from where they lie.
///
/// Frames are appended to [`SendQueue::filling`]. The engine takes everything that is ready with
/// [`SendQueue::take`], owns it while the kernel reads it, and gives the memory back.
#[derive(Debug, Default)]
pub struct SendQueue {
    ready: VecDeque<Part>,
    filling: Vec<u8>,
    /// Bytes in `ready` and in the hands of the engine.
    bytes_before: usize,
    /// Bytes that have been sent of a message whose rest has not, so that their memory is still held.
    bytes_kept: usize,
}

/// One run of bytes to send.
#[derive(Debug)]
pub enum Part {
    /// Serialised frames.
    Frames(Vec<u8>),
    /// A body that is sent without a copy.
    Body(Body),
    /// A message that goes out from where it was received.
    Received(Chunk),
}

impl Part {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Frames(frames) => frames,
            Self::Body(body) => &body.0,
            Self::Received(chunk) => chunk.as_slice(),
        }
    }
}

/// The bytes of a body. Whoever owns them may be the program's own type, whose destructor runs when they
/// are sent or given up; should it panic, that harms no connection.
#[derive(Debug)]
pub struct Body(Bytes);

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Drop for Body {
    #[inline]
    fn drop(&mut self) {
        drop_apart(std::mem::take(&mut self.0));
    }
}

/// Apart from the rest, which as a rule drops no body, and is small without this.
#[inline(never)]
fn drop_apart(bytes: Bytes) {
    if let Err(panic) = panics::caught(|| drop(bytes)) {
        tracing::error!(panic, "the owner of a body panicked while it was dropped");
    }
}

/// Where a queue ended at some time.
#[derive(Clone, Copy, Debug)]
pub struct QueueEnd {
    ready: usize,
    bytes_before: usize,
    filling: usize,
}

impl QueueEnd {
    /// Everything that was queued or being sent then, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes_before + self.filling
    }
}

impl SendQueue {
    /// The buffer to append whole frames to.
    #[inline]
    pub fn filling(&mut self) -> &mut Vec<u8> {
        &mut self.filling
    }

    /// Queues bytes that go out from where they lie, behind what was appended so far. The caller
    /// appends their padding afterwards.
    pub fn push_part(&mut self, part: Part) {
        self.seal(Vec::new());
        self.bytes_before += part.as_slice().len();
        self.ready.push_back(part);
    }

    /// Everything that is queued or being sent, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes_before + self.filling.len()
    }

    /// The memory that all of this takes, in bytes.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.bytes_before + self.bytes_kept + self.filling.capacity()
    }

    /// Whether nothing is queued nor being sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something is queued that the engine has not taken.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.filling.is_empty() || !self.ready.is_empty()
    }

    /// Takes the next part to send; new frames then go to `spare`, which must be empty. What was
    /// taken counts as queued until [`SendQueue::sent`].
    #[inline]
    pub fn take(&mut self, spare: impl FnOnce() -> Vec<u8>) -> Option<Part> {
        if self.ready.is_empty() {
            if self.filling.is_empty() {
                return None;
            }
            let mut frames = std::mem::replace(&mut self.filling, spare());
            if frames.capacity() - frames.len() > SLACK_BYTES_MAX {
                frames.shrink_to_fit();
            }
            self.bytes_before += frames.len();
            return Some(Part::Frames(frames));
        }
        self.ready.pop_front()
    }

    fn seal(&mut self, spare: Vec<u8>) {
        if !self.filling.is_empty() {
            let frames = std::mem::replace(&mut self.filling, spare);
            self.bytes_before += frames.len();
            self.ready.push_back(Part::Frames(frames));
        }
    }

    /// Where the queue ends now.
    pub fn end(&self) -> QueueEnd {
        QueueEnd {
            ready: self.ready.len(),
            bytes_before: self.bytes_before,
            filling: self.filling.len(),
        }
    }

    /// Gives up what was appended since the queue ended so, of which nothing was taken yet, and its memory.
    pub fn take_back(&mut self, end: &QueueEnd) {
        let mut behind = self.ready.drain(end.ready..);
        if let Some(Part::Frames(frames)) = behind.next() {
            self.filling = frames;
        }
        drop(behind);
        self.filling.truncate(end.filling);
        self.filling.shrink_to(SLACK_BYTES_MAX);
        self.bytes_before = end.bytes_before;
    }

    /// Records that `bytes` of what was taken have been sent, or will never be, and whether that was
    /// the end of the message, whose memory goes only then.
    #[inline]
    pub fn sent(&mut self, bytes: usize, is_whole: bool) {
        self.bytes_before -= bytes;
        self.bytes_kept = if is_whole { 0 } else { self.bytes_kept + bytes };
    }

    /// Gives up everything that was not taken, and the memory.
    pub fn clear(&mut self) {
        let dropped: usize = self.ready.drain(..).map(|part| part.as_slice().len()).sum();
        self.bytes_before -= dropped;
        self.filling = Vec::new();
    }
}

/// A send buffer with more memory than this beyond its bytes gives it back before it waits for the
/// peer. It is as much as buffers that are used again may have.
const SLACK_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_count_survive_a_body_between_frames() {
        let mut queue = SendQueue::default();
        queue.filling().extend_from_slice(b"head");
        queue.push_part(Part::Body(Bytes::from_static(b"body").into()));
        queue.filling().extend_from_slice(b"tail");
        assert_eq!((queue.len(), queue.has_ready()), (12, true));
        let mut sent = Vec::new();
        while let Some(part) = queue.take(Vec::new) {
            sent.extend_from_slice(part.as_slice());
            assert_eq!(queue.len(), 12);
        }
        queue.sent(5, false);
        assert_eq!((queue.len(), queue.memory_bytes()), (7, 12), "all is held");
        queue.sent(7, true);
        assert_eq!((&sent[..], queue.is_empty()), (&b"headbodytail"[..], true));
        assert_eq!(queue.memory_bytes(), 0);
    }

    #[test]
    fn what_is_taken_back_leaves_what_was_there() {
        let mut queue = SendQueue::default();
        queue.push_part(Part::Body(Bytes::from_static(b"first").into()));
        for filling in [&b""[..], b"frames"] {
            queue.filling().extend_from_slice(filling);
            let end = queue.end();
            queue.filling().extend_from_slice(b"more");
            queue.take_back(&end);
            queue.filling().extend_from_slice(b"header");
            queue.push_part(Part::Body(Bytes::from_static(b"body").into()));
            let tail = vec![0; 2 * SLACK_BYTES_MAX];
            queue.filling().extend_from_slice(&tail);
            queue.take_back(&end);
            assert_eq!((queue.len(), end.bytes()), (5 + filling.len(), queue.len()));
            assert!(queue.memory_bytes() <= queue.len() + SLACK_BYTES_MAX);
        }
        let mut sent = Vec::new();
        while let Some(part) = queue.take(Vec::new) {
            sent.extend_from_slice(part.as_slice());
        }
        assert_eq!(sent, b"firstframes");
    }
}
