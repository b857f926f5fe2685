//! Bytes on their way out.

use super::spare_buffers::SpareBuffers;
use crate::buf::{Part, SendQueue};
use crate::wire::unsent::first_request;

/// Bytes that are being sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    first: Part,
    /// Empty, and so without memory of its own, unless bodies are sent from their place.
    rest: Vec<Part>,
    /// The part that is sent next, and how much of it has been sent.
    part: usize,
    offset: usize,
}

impl Outgoing {
    /// Takes what is queued, up to [`PARTS_MAX`] parts; `None` when there is nothing.
    #[inline]
    pub(super) fn take(queue: &mut SendQueue, spare: &SpareBuffers) -> Option<Self> {
        // The next frames get a buffer when there are some, not now: idle connections have none.
        let first = queue.take(Vec::new)?;
        if !queue.has_ready() {
            return Some(Self::new(first, Vec::new()));
        }
        let mut rest = spare.take_parts();
        while queue.has_ready() && rest.len() + 1 < PARTS_MAX {
            rest.extend(queue.take(Vec::new));
        }
        Some(Self::new(first, rest))
    }

    fn new(first: Part, rest: Vec<Part>) -> Self {
        Self {
            first,
            rest,
            part: 0,
            offset: 0,
        }
    }

    /// Number of parts.
    pub(crate) fn part_count(&self) -> usize {
        1 + self.rest.len()
    }

    /// Gives the memory back when all is sent.
    pub(crate) fn recycle(mut self, spare: &SpareBuffers) {
        let put = |part| {
            if let Part::Frames(buffer) = part {
                spare.put(buffer);
            }
        };
        put(self.first);
        if !self.rest.is_empty() {
            self.rest.drain(..).for_each(put);
            spare.put_parts(self.rest);
        }
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::once(&self.first)
            .chain(&self.rest)
            .map(Part::as_slice)
    }

    /// The parts that are not sent yet, from the first unsent byte on.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let offset = self.offset;
        let left = self.slices().skip(self.part).enumerate();
        left.map(move |(at, slice)| if at == 0 { &slice[offset..] } else { slice })
    }

    /// Records that `bytes` more were sent; says whether that was all.
    #[inline]
    pub(crate) fn advance(&mut self, mut bytes: usize) -> bool {
        // As a rule there is one part, and all of it went out.
        if self.rest.is_empty() && self.offset + bytes == self.first.as_slice().len() {
            (self.part, self.offset) = (1, 0);
            return true;
        }
        loop {
            let Some(left) = self.unsent().next().map(<[u8]>::len) else {
                assert_eq!(bytes, 0, "the kernel sent more than it was given");
                return true;
            };
            if bytes < left {
                self.offset += bytes;
                return false;
            }
            bytes -= left;
            self.part += 1;
            self.offset = 0;
        }
    }

    /// The first call of a client of which nothing was sent. A client queues nothing but frames.
    pub(crate) fn first_unsent_request(&self) -> Option<u64> {
        match (&self.first, self.part) {
            (Part::Frames(frames), 0) if self.rest.is_empty() => first_request(frames, self.offset),
            _ => None,
        }
    }

    /// Bytes that are not sent yet.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent().map(<[u8]>::len).sum()
    }
}

/// Parts in one system call.
pub(crate) const PARTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_is_left_to_send_is_found_after_any_short_send() {
        let message = || {
            let rest = vec![
                Part::Body(Bytes::from_static(b"defgh").into()),
                Part::Frames(b"i".to_vec()),
            ];
            Outgoing::new(Part::Frames(b"abc".to_vec()), rest)
        };
        for first in 0..9 {
            let mut message = message();
            assert!(!message.advance(first));
            let left: Vec<u8> = message.unsent().flatten().copied().collect();
            assert_eq!(left, b"abcdefghi"[first..]);
            assert_eq!(message.unsent_bytes(), 9 - first);
            assert!(message.advance(9 - first));
        }
    }
}
