//! The allocator of every bench: the system's, with an eye on it where a server is told to count.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts is unsafe to implement"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::page::{self, Counters};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Where to count; null while nobody asks. Looking at it costs next to nothing.
static COUNTERS: AtomicPtr<Counters> = AtomicPtr::new(ptr::null_mut());

/// Counts from now on into the page at `path`, for the rest of this process.
pub fn count_into(path: &Path) -> io::Result<()> {
    let counters = page::open(path)?;
    COUNTERS.store(ptr::from_ref(counters).cast_mut(), Ordering::Relaxed);
    Ok(())
}

#[inline]
fn count(allocations: u64, bytes: i64) {
    // SAFETY: the pointer is null or came from a `&'static Counters`.
    if let Some(counters) = unsafe { COUNTERS.load(Ordering::Relaxed).as_ref() } {
        counters
            .allocations
            .fetch_add(allocations, Ordering::Relaxed);
        counters.live_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: all calls are handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        count(1, new_bytes as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_bytes) }
    }
}
