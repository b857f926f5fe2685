//! Received bytes, shared on one shard and counted without atomics.
#![allow(
    unsafe_code,
    reason = "a request must be small to be moved quickly: a pointer to its bytes, not a path to them"
)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Account, AlignedBuf, RecvPool};

/// A range of a buffer, shared and read-only. Cloning counts without atomics; the last one to go
/// gives the memory back.
#[derive(Debug)]
pub struct Chunk {
    first: NonNull<u8>,
    buffer: NonNull<SharedBuf>,
    len: usize,
}

/// What the chunks of one buffer share: how many they are, and whose the memory is.
pub(super) struct SharedBuf {
    holders: Cell<u32>,
    /// Set exactly while there are holders.
    owner: Cell<Option<Owner>>,
}

#[derive(Debug)]
pub(super) enum Owner {
    /// A pool, to which this buffer returns. Chunks keep their pool alive.
    Pool { pool: Rc<RecvPool>, buffer: u16 },
    /// The chunks themselves; its bytes stand in the account.
    Heap(AlignedBuf, Option<Rc<Account>>),
}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuf")
            .field("holders", &self.holders)
            .finish_non_exhaustive()
    }
}

impl SharedBuf {
    /// Of a buffer that nobody holds.
    pub(super) const fn unheld() -> Self {
        Self {
            holders: Cell::new(0),
            owner: Cell::new(None),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.holders.get() > 0
    }

    /// The first chunk of a buffer.
    ///
    /// # Safety
    /// Until the last chunk is gone, `buffer` stays where it is and the `len` bytes from `first` on
    /// are initialised, stay there, and are written by nobody.
    pub(super) unsafe fn hold(
        buffer: NonNull<Self>,
        owner: Owner,
        first: NonNull<u8>,
        len: usize,
    ) -> Chunk {
        // SAFETY: the caller promises that it is there.
        let shared = unsafe { buffer.as_ref() };
        assert!(!shared.is_held(), "the buffer is held already");
        shared.holders.set(1);
        shared.owner.set(Some(owner));
        Chunk { first, buffer, len }
    }
}

impl Chunk {
    /// The bytes.
    #[inline(always)]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `SharedBuf::hold` was promised that these bytes stay as they are while there is a
        // chunk, and `slice` has only narrowed the range.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }

    /// A part of this chunk, holding the same buffer.
    #[inline(always)]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let part = &self.as_slice()[range];
        let (first, len) = (NonNull::from(part).cast(), part.len());
        let holders = &self.shared().holders;
        let count = holders.get().checked_add(1);
        holders.set(count.expect("fewer than 2^32 chunks of one buffer"));
        Self {
            first,
            buffer: self.buffer,
            len,
        }
    }

    #[inline(always)]
    fn shared(&self) -> &SharedBuf {
        // SAFETY: `SharedBuf::hold` was promised that it stays while there is a chunk.
        unsafe { self.buffer.as_ref() }
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        self.slice(0..self.len)
    }
}

impl Drop for Chunk {
    #[inline(always)]
    fn drop(&mut self) {
        let holders = &self.shared().holders;
        holders.set(holders.get() - 1);
        if holders.get() == 0 {
            // By value: were the chunk's address taken, it could not stay in registers.
            release(self.buffer);
        }
    }
}

/// Gives the memory of a buffer back whose last chunk is going.
#[inline(never)]
fn release(buffer: NonNull<SharedBuf>) {
    // SAFETY: `SharedBuf::hold` was promised that it stays while there is a chunk, and the owner,
    // which may be what keeps it, is only dropped after this.
    let owner = unsafe { buffer.as_ref() }.owner.take();
    match owner {
        Some(Owner::Pool { pool, buffer }) => pool.release(buffer),
        Some(Owner::Heap(memory, account)) => {
            if let Some(account) = account {
                account.subtract(memory.capacity());
            }
            drop(memory);
            // SAFETY: the `SharedBuf` of heap memory came out of a box in `from`, and its last chunk,
            // the only one that refers to it, never looks at it again.
            keep(unsafe { Box::from_raw(buffer.as_ptr()) });
        }
        None => unreachable!("a held buffer has an owner"),
    }
}

impl From<AlignedBuf> for Chunk {
    fn from(memory: AlignedBuf) -> Self {
        Self::of_heap(memory, None)
    }
}

impl Chunk {
    /// A buffer whose bytes stand in `account` as long as there are chunks of it.
    pub fn on_account(memory: AlignedBuf, account: &Rc<Account>) -> Self {
        account.add(memory.capacity());
        Self::of_heap(memory, Some(Rc::clone(account)))
    }

    fn of_heap(memory: AlignedBuf, account: Option<Rc<Account>>) -> Self {
        let bytes = memory.as_slice();
        let (first, len) = (NonNull::from(bytes).cast(), bytes.len());
        let shared = NonNull::from(Box::leak(take_kept()));
        // SAFETY: the leaked box stays until `release` takes it back, and the buffer's heap memory
        // does not move with its owner, which nobody can reach while there are chunks.
        unsafe { SharedBuf::hold(shared, Owner::Heap(memory, account), first, len) }
    }
}

/// Boxes, because chunks point to what is in them, which must not move when the list grows.
type KeptBoxes = Vec<Box<SharedBuf>>;

thread_local! {
    static KEPT: RefCell<KeptBoxes> = const { RefCell::new(Vec::new()) };
}

/// Boxes kept on each thread, so that a frame that straddles receive buffers allocates nothing.
const KEPT_MAX: usize = 64;

fn take_kept() -> Box<SharedBuf> {
    let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| Box::new(SharedBuf::unheld()))
}

fn keep(shared: Box<SharedBuf>) {
    // At thread exit there may be nowhere to keep it; then it is freed.
    KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(shared);
        }
    })
    .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heap_memory_is_shared_and_its_book_used_again() {
        for text in ["first", "second"] {
            let chunk = Chunk::from(AlignedBuf::copy_of(text.as_bytes()));
            let part = chunk.slice(1..4);
            let twin = part.clone();
            drop(chunk);
            drop(part);
            assert_eq!(twin.as_slice(), &text.as_bytes()[1..4]);
            drop(twin);
            assert_eq!(KEPT.with_borrow(Vec::len), 1);
        }
    }

    #[test]
    fn bytes_stand_in_both_accounts_until_the_last_chunk_is_gone() {
        let shard = Rc::new(Account::default());
        let (one, other) = (Account::below(&shard), Account::below(&shard));
        let first = Chunk::on_account(AlignedBuf::with_len(100), &one);
        let second = Chunk::on_account(AlignedBuf::with_len(4000), &other);
        let part = first.slice(5..6);
        drop(first);
        assert_eq!(
            (one.bytes(), other.bytes(), shard.bytes()),
            (512, 4096, 4608)
        );
        drop((part, second));
        assert_eq!((one.bytes(), other.bytes(), shard.bytes()), (0, 0, 0));
    }

    #[test]
    fn an_empty_chunk_is_held_too() {
        let chunk = Chunk::from(AlignedBuf::with_len(0));
        assert_eq!(chunk.slice(0..0).as_slice(), b"");
    }

    #[test]
    #[should_panic(expected = "range end index 6")]
    fn a_part_lies_within_its_chunk() {
        Chunk::from(AlignedBuf::copy_of(b"short")).slice(0..6);
    }
}
