//! Receive buffers that the kernel picks from: a provided-buffer ring in our own memory.
#![allow(
    unsafe_code,
    reason = "the kernel reads the ring and writes the buffers while we hold them"
)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::Ring;

/// Buffers of equal size. At each moment a buffer belongs to the kernel, or to us from the
/// completion that names it until [`Buffers::give_back`].
///
/// The memory is never freed: a closed ring still winds down for a moment, and both users of this
/// type keep theirs until their process ends.
pub struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    tail_published: u16,
}

impl Buffers {
    /// Reserves the memory, registers it as buffer group [`GROUP`] and gives all to the kernel.
    pub fn register(ring: &Ring) -> io::Result<Self> {
        let entries = page_aligned(size_of::<BufRingEntry>() * usize::from(COUNT)).cast();
        let memory = page_aligned(BUFFER_BYTES * usize::from(COUNT));
        // No flags: memory of ours instead of the kernel's, and each buffer is used once.
        const FLAGS: u16 = 0;
        // SAFETY: `entries` is page-aligned, zeroed, long enough for COUNT entries, never freed.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries as u64, COUNT, GROUP, FLAGS)?;
        }
        let mut buffers = Self {
            entries,
            memory,
            tail: 0,
            tail_published: 0,
        };
        for index in 0..COUNT {
            buffers.give_back(index);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    #[inline]
    pub fn filled(&self, index: u16, len: usize) -> &[u8] {
        assert!(len <= BUFFER_BYTES);
        // SAFETY: `at` stays inside the memory and `len` inside the buffer. The kernel wrote these
        // bytes before it posted the completion with `index`, and leaves them alone until
        // `give_back`, which needs `&mut self` and so outlives no borrow of them.
        unsafe { std::slice::from_raw_parts(self.at(index), len) }
    }

    /// Where a buffer starts, for an operation that sends from it.
    #[inline]
    pub fn at(&self, index: u16) -> *const u8 {
        assert!(index < COUNT);
        // SAFETY: `index` is below COUNT, so the offset lies inside the allocation.
        unsafe { self.memory.add(usize::from(index) * BUFFER_BYTES) }
    }

    /// Returns a buffer to the kernel with the next [`Buffers::publish`].
    #[inline]
    pub fn give_back(&mut self, index: u16) {
        let address = self.at(index) as u64;
        // SAFETY: the mask keeps the slot inside the ring, and the kernel does not read slots at or
        // behind the published tail. COUNT buffers exist, so no unread slot is overwritten.
        let slot = unsafe { &mut *self.entries.add(usize::from(self.tail & (COUNT - 1))) };
        slot.set_addr(address);
        slot.set_len(BUFFER_BYTES as u32);
        slot.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see all buffers given back so far; says whether there are any.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.tail == self.tail_published {
            return false;
        }
        // SAFETY: `entries` is the start of the ring, whose first slot holds the tail in a field
        // that `give_back` never writes; it is 2-aligned and lives for ever.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        // Release: whoever sees the new tail sees the slots written before it.
        tail.store(self.tail, Ordering::Release);
        self.tail_published = self.tail;
        true
    }
}

/// Zeroed memory that starts at a page, as the kernel wants buffer rings to.
fn page_aligned(bytes: usize) -> *mut u8 {
    const PAGE_BYTES: usize = 4096;
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a constant, small size");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}

/// The buffer group that receive operations name.
pub const GROUP: u16 = 0;
/// Buffers; a power of two, as the kernel demands. Few, so that they stay in the cache: the kernel
/// takes them in turn, and all of them are used.
const COUNT: u16 = 256;
/// Bytes of one buffer: the largest turn of one connection in the usual cells fits.
pub const BUFFER_BYTES: usize = 16 * 1024;

const _: () = assert!(COUNT.is_power_of_two());
