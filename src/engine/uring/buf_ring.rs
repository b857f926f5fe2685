//! The ring through which free receive buffers are given to the kernel.
#![allow(
    unsafe_code,
    reason = "the kernel reads this memory while we write to it, by the rules of its interface"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

use crate::buf::{RecvPool, TakenBuffer};

/// The one buffer group that a shard uses.
pub(super) const GROUP: u16 = 0;

/// Buffers that the kernel has at least, if there are so many.
const HOT_MIN: usize = 16;
/// Bytes that a receive brings at most while memory is short. What a peer has sent is received before it
/// can be told to wait, by as many receives as there are buffers: with few and short ones that is little.
const SHORT_BYTES: usize = 4096;
/// Turns with received bytes after which the number is looked at.
const HOT_TURNS: u32 = 64;

/// A ring of provided buffers in our own memory (kernel-mapped ones have had use-after-free bugs).
#[derive(Debug)]
pub(super) struct BufRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    tail: u16,
    pool: Rc<RecvPool>,
    /// The buffers that the kernel has, by their numbers.
    with_kernel: Box<[Option<TakenBuffer>]>,
    /// Buffers that the kernel may have. It takes them in turn, so with more of them each is colder
    /// when its turn comes: these are twice as many as turns have used lately.
    hot: usize,
    /// Buffers that it had after the last turn.
    given: usize,
    /// The most that one of the last turns has used, and how many these are.
    used_max: usize,
    turns: u32,
}

impl BufRing {
    /// Registers the ring and gives all free buffers of the pool to the kernel.
    pub(super) fn register(ring: &IoUring, pool: Rc<RecvPool>) -> io::Result<Self> {
        let count = u16::try_from(pool.count().next_power_of_two())
            .expect("a pool has at most 32768 buffers");
        let layout = Layout::array::<BufRingEntry>(usize::from(count))
            .and_then(|layout| layout.align_to(4096))
            .expect("32768 small entries");
        // SAFETY: the size is not zero: a pool has at least one buffer.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        let entries = NonNull::new(memory).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut this = Self {
            entries,
            layout,
            mask: count - 1,
            tail: 0,
            hot: HOT_MIN.min(pool.count()),
            with_kernel: (0..pool.count()).map(|_| None).collect(),
            pool,
            given: 0,
            used_max: 0,
            turns: 0,
        };
        // SAFETY: the memory is page-aligned, holds `count` entries, and is freed only in `drop`,
        // which the engine runs after it has closed the io_uring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                this.entries.as_ptr() as u64,
                count,
                GROUP,
                0,
            )?;
        }
        this.publish(false);
        Ok(this)
    }

    /// Buffers that the kernel has: those that are neither free nor held. It may have filled some.
    fn published(&self) -> usize {
        self.pool.count() - self.pool.free_count() - self.pool.held_count()
    }

    /// Whether the kernel has a buffer.
    pub(super) fn has_some(&self) -> bool {
        self.published() > 0
    }

    /// The kernel had no buffer when it needed one. Says whether none was kept back from it.
    pub(super) fn ran_out(&mut self) -> bool {
        self.hot = self.pool.count();
        self.pool.free_count() == 0
    }

    /// Learns how many buffers a turn uses.
    #[inline]
    fn note_use(&mut self, used: usize) {
        if used == 0 {
            return;
        }
        self.used_max = self.used_max.max(used);
        self.turns += 1;
        if self.turns == HOT_TURNS {
            let wanted = (2 * self.used_max).max(self.hot / 2);
            self.hot = wanted.clamp(HOT_MIN.min(self.pool.count()), self.pool.count());
            (self.turns, self.used_max) = (0, 0);
        }
    }

    /// Gives free buffers to the kernel, up to the number that is hot; few and short ones while memory is
    /// short.
    #[inline]
    pub(super) fn publish(&mut self, is_short: bool) {
        if is_short {
            self.hot = self.hot.min(HOT_MIN);
        }
        let before = self.tail;
        let mut published = self.published();
        self.note_use(self.given.saturating_sub(published));
        while published < self.hot
            && let Some(buffer) = self.pool.take()
        {
            self.push(buffer, is_short);
            published += 1;
        }
        self.given = published;
        if self.tail == before {
            return;
        }
        // SAFETY: the tail lies in the first entry, which stays allocated; the kernel only reads
        // it. Release: it must not be seen before the entries that were written.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// A buffer that the kernel gives back with a completion.
    #[inline]
    pub(super) fn given_back(&mut self, buffer: u16) -> TakenBuffer {
        let buffer = self.with_kernel[usize::from(buffer)].take();
        buffer.expect("the kernel gives back what it had")
    }

    fn push(&mut self, buffer: TakenBuffer, is_short: bool) {
        let bytes = if is_short {
            self.pool.buffer_bytes().min(SHORT_BYTES)
        } else {
            self.pool.buffer_bytes()
        };
        // SAFETY: the masked index lies in the ring. The kernel has consumed this entry: the ring
        // has room for all buffers of the pool, and each is in it at most once.
        let entry = unsafe {
            &mut *self
                .entries
                .as_ptr()
                .add(usize::from(self.tail & self.mask))
        };
        entry.set_addr(self.pool.address(&buffer) as u64);
        entry.set_len(bytes as u32);
        entry.set_bid(buffer.index());
        let place = usize::from(buffer.index());
        self.with_kernel[place] = Some(buffer);
        self.tail = self.tail.wrapping_add(1);
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout; the kernel no longer uses it, see there.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
