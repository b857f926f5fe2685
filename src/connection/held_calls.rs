//! Requests that a client holds until the server has resolved their methods.

use std::collections::VecDeque;

use crate::wire::header::Header;
use crate::wire::limits::HEADER_BYTES;

/// Requests in the order of their ids. A call that is held holds all later ones too, whatever
/// service they are for: ids must increase on the wire.
#[derive(Debug, Default)]
pub(super) struct HeldCalls {
    calls: VecDeque<HeldCall>,
    bytes: usize,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct HeldCall {
    /// Place of its service among those of the connection.
    pub(super) service: usize,
    /// Its header, with the method's place in the service's descriptor as selector.
    pub(super) header: Header,
    /// The whole frame.
    frame: Vec<u8>,
}

impl HeldCalls {
    /// Holds a request, given as the frame to be sent later.
    pub(super) fn push(&mut self, service: usize, frame: Vec<u8>) {
        let wire = frame.first_chunk().expect("a frame starts with a header");
        let header = Header::decode(wire, u32::MAX).expect("this side wrote the header");
        self.bytes += frame.len();
        self.calls.push_back(HeldCall {
            service,
            header,
            frame,
        });
    }

    /// The first request, if it may go.
    pub(super) fn pop_if(&mut self, may_go: impl FnOnce(&HeldCall) -> bool) -> Option<HeldCall> {
        if !may_go(self.calls.front()?) {
            return None;
        }
        let call = self.calls.pop_front()?;
        self.bytes -= call.frame.len();
        Some(call)
    }

    /// Gives up a request; `false` when it is not held.
    pub(super) fn remove(&mut self, call_id: u64) -> bool {
        let found = self
            .calls
            .binary_search_by_key(&call_id, |call| call.header.call_id);
        let removed = found.ok().and_then(|at| self.calls.remove(at));
        self.bytes -= removed.as_ref().map_or(0, |call| call.frame.len());
        removed.is_some()
    }

    /// The id of the first.
    pub(super) fn first_id(&self) -> Option<u64> {
        self.calls.front().map(|call| call.header.call_id)
    }

    /// Gives up all.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
        self.bytes = 0;
    }

    /// Length of all frames.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of them.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl HeldCall {
    /// Appends the frame under the index that the server has given its method.
    pub(super) fn send(&self, index: u16, out: &mut Vec<u8>) {
        let header = Header {
            selector: index,
            ..self.header
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&self.frame[HEADER_BYTES..]);
    }
}
