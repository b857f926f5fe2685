//! What a connection has received and may not act on yet.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::buf::{Account, AlignedBuf, Chunk};
use crate::wire::header::Header;

/// In the order of the stream: a whole request for which there is no room, then received bytes.
///
/// The engine stops receiving when something must wait, so there is no more here than one turn
/// brings: at most one shard's receive buffers. Only while output waits for a peer that may have to
/// write before it reads does it go on, into memory that stands in the connection's account.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    held: Option<HeldCall>,
    pieces: VecDeque<Piece>,
    /// What is left of all pieces.
    bytes: usize,
    /// What stands in the connection's account for all of this.
    memory_bytes: usize,
}

/// A request that waits until another call of its connection has ended.
#[derive(Debug)]
pub(crate) struct HeldCall {
    pub(crate) header: Header,
    pub(crate) payload: Chunk,
    /// Its deadline runs from here.
    pub(crate) arrived_ns: u64,
    /// What stands in the connection's account for it.
    pub(crate) memory_bytes: usize,
}

/// Received bytes, of which those before `at` have been used.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Chunk,
    /// Whether they lie in a receive buffer still.
    pub(crate) is_pooled: bool,
    pub(crate) at: usize,
    pub(crate) arrived_ns: u64,
    /// What stands in the connection's account for them.
    pub(crate) memory_bytes: usize,
}

impl Piece {
    pub(crate) fn is_used_up(&self) -> bool {
        self.at == self.bytes.as_slice().len()
    }

    fn left(&self) -> &[u8] {
        &self.bytes.as_slice()[self.at..]
    }

    /// Gives the receive buffer back; what is left of its bytes is copied.
    pub(crate) fn copy_out(&mut self, account: &Rc<Account>) {
        let left = AlignedBuf::copy_of(self.left());
        self.memory_bytes = left.capacity();
        self.bytes = Chunk::on_account(left, account);
        (self.at, self.is_pooled) = (0, false);
    }
}

impl Backlog {
    /// Keeps a request. There is none yet: reading stops with the first.
    pub(crate) fn hold(&mut self, call: HeldCall) {
        assert!(
            self.held.is_none(),
            "one request waits, the rest is not read"
        );
        self.memory_bytes += call.memory_bytes;
        self.held = Some(call);
    }

    /// Whether no received bytes wait.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether a request waits.
    #[inline]
    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// The request that waits.
    pub(crate) fn held(&self) -> Option<&HeldCall> {
        self.held.as_ref()
    }

    /// Length of the bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What stands in the connection's account for what waits.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Takes the request that waits.
    pub(crate) fn take_held(&mut self) -> Option<HeldCall> {
        let held = self.held.take()?;
        self.memory_bytes -= held.memory_bytes;
        Some(held)
    }

    /// Adds bytes that were received last.
    pub(crate) fn push(&mut self, piece: Piece) {
        self.enter(&piece);
        self.pieces.push_back(piece);
    }

    /// Puts back what is left of the first bytes.
    pub(crate) fn put_back(&mut self, piece: Piece) {
        self.enter(&piece);
        self.pieces.push_front(piece);
    }

    fn enter(&mut self, piece: &Piece) {
        self.bytes += piece.left().len();
        self.memory_bytes += piece.memory_bytes;
    }

    /// Takes the first bytes.
    pub(crate) fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.left().len();
        self.memory_bytes -= piece.memory_bytes;
        Some(piece)
    }

    /// Gives up everything, and the memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
