//! Memory that comes from the system page by page and goes back to it.
#![allow(
    unsafe_code,
    reason = "memory that the kernel has moved lies elsewhere, which the library leaves its caller to mind"
)]

use std::alloc::{Layout, handle_alloc_error};

use memmap2::{MmapMut, RemapOptions};

/// Zeroed pages. Those that were never written take no memory.
#[derive(Debug)]
pub(super) struct Pages(MmapMut);

/// The kernel counts in pages, which have at least so many bytes.
const PAGE_BYTES: usize = 4096;

impl Pages {
    /// At least `len` bytes, of which there must be one.
    pub(super) fn new(len: usize) -> Self {
        let len = len.next_multiple_of(PAGE_BYTES);
        MmapMut::map_anon(len).map_or_else(|_| out_of_memory(len), Self)
    }

    /// As much as there is.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Lengthens it to at least `len` bytes. The kernel moves the pages, nothing is copied.
    pub(super) fn grow(&mut self, len: usize) {
        let len = len.next_multiple_of(PAGE_BYTES);
        debug_assert!(len >= self.len());
        // SAFETY: the memory may move, so nobody may hold a pointer into it: `&mut self` rules slices
        // out, and nothing else of this type gives an address away. All of the new length is backed,
        // since the mapping is of no file.
        let moved = unsafe { self.0.remap(len, RemapOptions::new().may_move(true)) };
        if moved.is_err() {
            out_of_memory(len);
        }
    }
}

/// As the allocator does it.
fn out_of_memory(len: usize) -> ! {
    handle_alloc_error(Layout::from_size_align(len, 1).expect("far below isize::MAX"))
}
