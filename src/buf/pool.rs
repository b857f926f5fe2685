//! The receive buffers of one shard.
//!
//! One allocation holds `count` buffers of equal size. At every moment each buffer has one owner:
//!
//! * **free**: listed here, to be given out or published to the kernel;
//! * **kernel**: published to the ring by the engine, which took it with [`RecvPool::take`];
//! * **runtime or handlers**: reachable through [`Chunk`]s, counted without atomics; the last one
//!   to go puts the buffer back on the free list.
#![allow(
    unsafe_code,
    reason = "the kernel fills this memory while no reference to it exists, which safe slices can't express"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use super::chunk::{Chunk, Owner, SharedBuf};
use crate::planted_bugs::{Bug, is_planted};

/// A buffer that was taken off the free list and of which no chunk was made yet. It can't be copied, so
/// that it is given back, or filled, once.
#[derive(Debug)]
#[must_use = "a buffer that is dropped is never free again"]
pub struct TakenBuffer {
    index: u16,
    /// Compared only: buffers of another pool are refused.
    pool: *const RecvPool,
}

impl TakenBuffer {
    /// Its number in the pool.
    pub fn index(&self) -> u16 {
        self.index
    }
}

/// A pool of equal receive buffers on one shard.
#[derive(Debug)]
pub struct RecvPool {
    memory: NonNull<u8>,
    layout: Layout,
    buffer_bytes: usize,
    /// The books of the buffers' chunks.
    shared: Box<[SharedBuf]>,
    free: RefCell<Vec<u16>>,
    /// How many buffers have holders.
    held: Cell<usize>,
}

impl RecvPool {
    /// Allocates `count` zeroed buffers of `buffer_bytes` each, page-aligned. `None`: there is not so
    /// much memory.
    ///
    /// # Panics
    /// When `count` is 0 or above 32768, or `buffer_bytes` is 0 or no multiple of 16: configuration
    /// is checked before.
    pub fn try_new(count: u16, buffer_bytes: usize) -> Option<Rc<Self>> {
        assert!((1..=32_768).contains(&count), "1 to 32768 receive buffers");
        assert!(
            buffer_bytes > 0 && buffer_bytes.is_multiple_of(16),
            "buffers are 16-aligned"
        );
        let layout = Layout::from_size_align(usize::from(count) * buffer_bytes, 4096)
            .expect("32768 buffers of at most 1 GiB fit the address space");
        // SAFETY: the layout's size is not zero: both factors were just checked.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory)?;
        Some(Rc::new(Self {
            memory,
            layout,
            buffer_bytes,
            shared: (0..count).map(|_| SharedBuf::unheld()).collect(),
            free: RefCell::new((0..count).rev().collect()),
            held: Cell::new(0),
        }))
    }

    /// The same where there is memory for it.
    ///
    /// # Panics
    /// As [`RecvPool::try_new`], and without memory.
    pub fn new(count: u16, buffer_bytes: usize) -> Rc<Self> {
        Self::try_new(count, buffer_bytes).expect("memory for the receive buffers")
    }

    /// Number of buffers.
    pub fn count(&self) -> usize {
        self.shared.len()
    }

    /// Bytes of each buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Buffers that are neither with the kernel nor held by a [`Chunk`].
    pub fn free_count(&self) -> usize {
        self.free.borrow().len()
    }

    /// Buffers that are held by a [`Chunk`].
    pub fn held_count(&self) -> usize {
        self.held.get()
    }

    /// Takes a buffer off the free list, to publish it to the kernel or to read into it.
    pub fn take(&self) -> Option<TakenBuffer> {
        let index = self.free.borrow_mut().pop()?;
        Some(TakenBuffer { index, pool: self })
    }

    /// Puts back a buffer of which no chunk was made.
    pub fn put_back(&self, buffer: TakenBuffer) {
        self.check(&buffer);
        self.free.borrow_mut().push(buffer.index);
    }

    fn check(&self, buffer: &TakenBuffer) {
        assert!(std::ptr::eq(self, buffer.pool), "a buffer of another pool");
    }

    /// Address of a buffer, for the kernel.
    pub fn address(&self, buffer: &TakenBuffer) -> *mut u8 {
        self.check(buffer);
        // SAFETY: indices come from the free list, which holds those of the pool's buffers alone, so the
        // offset lies inside the one allocation.
        unsafe {
            self.memory
                .as_ptr()
                .add(usize::from(buffer.index) * self.buffer_bytes)
        }
    }

    /// The memory of a taken buffer that the kernel does not have.
    pub fn memory<'a>(&'a self, buffer: &'a mut TakenBuffer) -> &'a mut [u8] {
        // SAFETY: the buffer was taken, there is one `TakenBuffer` of it, which is borrowed, and no chunk,
        // so this is the only reference; the memory was zeroed at allocation and only ever written with
        // bytes.
        unsafe { std::slice::from_raw_parts_mut(self.address(buffer), self.buffer_bytes) }
    }

    /// Lends a taken buffer as a slice to be filled by `read`, and makes a chunk of what it says.
    /// An error or zero bytes put the buffer back.
    pub fn fill_with<E>(
        self: &Rc<Self>,
        buffer: TakenBuffer,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<Chunk>, E> {
        let mut buffer = buffer;
        match read(self.memory(&mut buffer)) {
            Ok(bytes) if bytes > 0 => Ok(Some(self.filled(buffer, bytes))),
            other => {
                self.put_back(buffer);
                other.map(|_| None)
            }
        }
    }

    /// Makes a chunk of a taken buffer whose first `bytes` were filled by the kernel, which has
    /// given the buffer back with its completion.
    pub fn filled(self: &Rc<Self>, buffer: TakenBuffer, bytes: usize) -> Chunk {
        assert!(
            bytes <= self.buffer_bytes,
            "the kernel filled more than the buffer"
        );
        let shared = &self.shared[usize::from(buffer.index)];
        self.held.set(self.held.get() + 1);
        let first = NonNull::new(self.address(&buffer)).expect("lies in the pool's memory");
        let owner = Owner::Pool {
            pool: Rc::clone(self),
            buffer: buffer.index,
        };
        // SAFETY: the chunk keeps the pool, and with it `shared` and the memory, where they are.
        // The memory was zeroed at allocation; the kernel has given it back, and since it was taken once
        // and is not on the free list before `release`, nobody writes to it and `shared` is unheld.
        unsafe { SharedBuf::hold(shared.into(), owner, first, bytes) }
    }

    /// Takes a buffer back whose last chunk has gone.
    pub(super) fn release(&self, buffer: u16) {
        self.held.set(self.held.get() - 1);
        self.free.borrow_mut().push(buffer);
        if is_planted(Bug::BufferRecycledTwice) && buffer == 1 {
            self.free.borrow_mut().push(buffer);
        }
    }
}

impl Drop for RecvPool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. Chunks hold the pool, so none is left; the
        // engine closes its ring, which ends all receives, before it drops its pool.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_free_again_when_its_last_chunk_goes() {
        let pool = RecvPool::new(2, 64);
        let buffer = pool.take().expect("free");
        let chunk = pool
            .fill_with(buffer, |memory| {
                memory[..5].copy_from_slice(b"hello");
                Ok::<_, ()>(5)
            })
            .unwrap()
            .expect("bytes were read");
        let part = chunk.slice(1..4);
        drop(chunk);
        assert_eq!(
            (part.as_slice(), pool.free_count(), pool.held_count()),
            (&b"ell"[..], 1, 1)
        );
        drop(part);
        assert_eq!((pool.free_count(), pool.held_count()), (2, 0));
    }

    #[test]
    fn a_failed_or_empty_read_puts_the_buffer_back() {
        let pool = RecvPool::new(1, 64);
        let buffer = pool.take().expect("free");
        assert_eq!(
            pool.fill_with(buffer, |_| Err::<usize, _>("no"))
                .unwrap_err(),
            "no"
        );
        let buffer = pool.take().expect("put back");
        assert!(
            pool.fill_with(buffer, |_| Ok::<_, ()>(0))
                .unwrap()
                .is_none()
        );
        assert_eq!(pool.free_count(), 1);
    }

    #[test]
    #[should_panic(expected = "another pool")]
    fn a_buffer_is_refused_by_another_pool() {
        let (pool, other) = (RecvPool::new(1, 64), RecvPool::new(1, 64));
        other.put_back(pool.take().expect("free"));
    }
}
