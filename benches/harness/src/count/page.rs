//! A page of memory that a server shares with whoever measures it.
#![allow(
    unsafe_code,
    reason = "shared memory is mapped, and lies behind a raw pointer"
)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use memmap2::MmapRaw;
use tempfile::NamedTempFile;

/// The counters of a process.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Counters {
    pub(super) allocations: AtomicU64,
    pub(super) live_bytes: AtomicI64,
}

/// The page, as the measuring side has it.
#[derive(Debug)]
pub struct Page {
    file: NamedTempFile,
    memory: MmapRaw,
}

impl Page {
    /// A new page, all zero.
    pub fn new() -> io::Result<Self> {
        let file = NamedTempFile::with_prefix("ringcall-bench-")?;
        let memory = map(file.as_file())?;
        Ok(Self { file, memory })
    }

    /// What a server is told, to find it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Allocations and reallocations since the server began to count.
    pub fn allocations(&self) -> u64 {
        self.counters().allocations.load(Ordering::Relaxed)
    }

    /// Heap that the server has taken since then and not given back.
    pub fn live_bytes(&self) -> i64 {
        self.counters().live_bytes.load(Ordering::Relaxed)
    }

    fn counters(&self) -> &Counters {
        // SAFETY: the mapping is as long as `Counters`, page-aligned, and lives as long as `self`.
        // Both processes touch it through atomics only, for which any bytes are valid.
        unsafe { &*self.memory.as_ptr().cast::<Counters>() }
    }
}

/// Maps the page that another process has made; it stays until this process ends.
pub(super) fn open(path: &Path) -> io::Result<&'static Counters> {
    let file = File::options().read(true).write(true).open(path)?;
    let memory: &'static MmapRaw = Box::leak(Box::new(map(&file)?));
    // SAFETY: as in `Page::counters`; the mapping is never ended.
    Ok(unsafe { &*memory.as_ptr().cast::<Counters>() })
}

fn map(file: &File) -> io::Result<MmapRaw> {
    file.set_len(size_of::<Counters>() as u64)?;
    MmapRaw::map_raw(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_counters() {
        let page = Page::new().unwrap();
        let counters = open(page.path()).unwrap();
        counters.allocations.fetch_add(3, Ordering::Relaxed);
        counters.live_bytes.fetch_sub(5, Ordering::Relaxed);
        assert_eq!((page.allocations(), page.live_bytes()), (3, -5));
    }
}
