//! Buffers whose first byte is 16-aligned, recycled per thread.

use std::cell::RefCell;

use super::pages::Pages;

/// An owned, 16-aligned run of bytes.
///
/// Buffers go to a bounded per-thread cache when dropped, so that reassembling a frame that straddles
/// two receive buffers, or receiving a large one, allocates nothing once the thread is warm. Large
/// ones are pages of the system's own, which it gets back when they are dropped, and which take memory
/// only as they are written.
#[derive(Debug)]
pub struct AlignedBuf {
    memory: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Words(Vec<u128>),
    Pages(Pages),
}

const _: () = assert!(align_of::<u128>() == 16);
const WORD: usize = size_of::<u128>();

impl AlignedBuf {
    /// All that a thread keeps for buffers to come.
    pub const CACHED_BYTES_MAX: usize = LARGE_CACHED_BYTES_MAX
        + CACHED_PER_CLASS_MAX * (CLASS_WORDS[0] + CLASS_WORDS[1] + CLASS_WORDS[2]) * WORD;

    /// A buffer of `len` bytes. Its content is unspecified: zeros, or what a recycled one held.
    pub fn with_len(len: usize) -> Self {
        let memory = match class_of(len.div_ceil(WORD)) {
            Some(class) => Memory::Words(take_cached(class)),
            None if len < PAGES_BYTES_MIN => Memory::Words(vec![0; len.div_ceil(WORD)]),
            None => Memory::Pages(take_large(len).unwrap_or_else(|| Pages::new(len))),
        };
        Self { memory, len }
    }

    /// A buffer of `len` bytes that this thread keeps in its cache already, if there is one: it takes no
    /// more memory than before.
    pub fn cached(len: usize) -> Option<Self> {
        let memory = Memory::Pages(take_large(len)?);
        Some(Self { memory, len })
    }

    /// A buffer that holds a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::with_len(bytes.len());
        buf.as_mut_slice().copy_from_slice(bytes);
        buf
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it takes, which may be more than its length.
    pub fn capacity(&self) -> usize {
        match &self.memory {
            Memory::Words(words) => words.len() * WORD,
            Memory::Pages(pages) => pages.len(),
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.memory {
            Memory::Words(words) => &bytemuck::cast_slice(words)[..self.len],
            Memory::Pages(pages) => &pages.as_slice()[..self.len],
        }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Words(words) => &mut bytemuck::cast_slice_mut(words)[..self.len],
            Memory::Pages(pages) => &mut pages.as_mut_slice()[..self.len],
        }
    }

    /// Shortens it to `len` bytes; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Lengthens it to `len` bytes, of which those up to the old length stay; a shorter `len` changes
    /// nothing. Pages are moved, not copied.
    pub fn grow(&mut self, len: usize) {
        if len <= self.capacity() {
            self.len = self.len.max(len);
            return;
        }
        if let Memory::Pages(pages) = &mut self.memory {
            pages.grow(len);
            self.len = len;
            return;
        }
        let mut larger = Self::with_len(len);
        larger.as_mut_slice()[..self.len].copy_from_slice(self.as_slice());
        *self = larger;
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.memory, Memory::Words(Vec::new())) {
            Memory::Words(words) => {
                if let Some(class) = CLASS_WORDS.iter().position(|&class| class == words.len()) {
                    keep(class, words);
                }
            }
            Memory::Pages(pages) => keep_large(pages),
        }
    }
}

/// Sizes that are cached, in words: 512 B, 4 KiB, 16 KiB with room for a header.
const CLASS_WORDS: [usize; 3] = [32, 256, 1026];
/// Cached buffers of one size on one thread; bounds the cache to about 0.6 MiB.
const CACHED_PER_CLASS_MAX: usize = 32;
/// From this length on buffers are pages of their own, so that what is dropped goes back to the system
/// whatever else lies around it.
const PAGES_BYTES_MIN: usize = 64 << 10;
/// Bytes of larger buffers that one thread keeps: 16 MiB. Fresh memory of this size comes from the
/// kernel page by page, which costs more than receiving into it.
const LARGE_CACHED_BYTES_MAX: usize = 16 << 20;

thread_local! {
    static LARGE: RefCell<LargeCache> = const { RefCell::new(LargeCache { buffers: Vec::new(), bytes: 0 }) };
    static CACHE: RefCell<[Vec<Vec<u128>>; CLASS_WORDS.len()]> = const { RefCell::new([const { Vec::new() }; CLASS_WORDS.len()]) };
}

fn class_of(words: usize) -> Option<usize> {
    CLASS_WORDS
        .iter()
        .position(|&class| words <= class && words > 0)
}

fn take_cached(class: usize) -> Vec<u128> {
    CACHE
        .try_with(|cache| cache.borrow_mut()[class].pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| vec![0; CLASS_WORDS[class]])
}

fn keep(class: usize, words: Vec<u128>) {
    // At thread exit the cache may be gone already; then the memory is simply freed.
    CACHE
        .try_with(|cache| {
            let cached = &mut cache.borrow_mut()[class];
            if cached.len() < CACHED_PER_CLASS_MAX {
                cached.push(words);
            }
        })
        .unwrap_or_default();
}

/// Large buffers, of any size.
struct LargeCache {
    buffers: Vec<Pages>,
    /// All together.
    bytes: usize,
}

/// One that is not too large for what is needed, so that little memory lies idle.
fn take_large(bytes_needed: usize) -> Option<Pages> {
    let fits =
        |buffer: &Pages| (bytes_needed..=bytes_needed + bytes_needed / 4).contains(&buffer.len());
    let take = |cache: &RefCell<LargeCache>| {
        let mut cache = cache.borrow_mut();
        let at = cache.buffers.iter().position(fits)?;
        let buffer = cache.buffers.swap_remove(at);
        cache.bytes -= buffer.len();
        Some(buffer)
    };
    LARGE.try_with(take).ok().flatten()
}

/// Keeps a large buffer; older ones of other sizes make room for it.
fn keep_large(pages: Pages) {
    LARGE
        .try_with(|cache| {
            let mut cache = cache.borrow_mut();
            if pages.len() > LARGE_CACHED_BYTES_MAX {
                return;
            }
            while cache.bytes + pages.len() > LARGE_CACHED_BYTES_MAX {
                let oldest = cache.buffers.remove(0);
                cache.bytes -= oldest.len();
            }
            cache.bytes += pages.len();
            cache.buffers.push(pages);
        })
        .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_used_again_and_bounded() {
        let first = AlignedBuf::with_len(1 << 20);
        let address = first.as_slice().as_ptr();
        drop(first);
        assert_eq!(AlignedBuf::with_len(1_000_000).as_slice().as_ptr(), address);
        let unlike = AlignedBuf::with_len(100_000);
        assert_eq!(unlike.len(), 100_000);
        let many: Vec<_> = (0..40).map(|_| AlignedBuf::with_len(1 << 20)).collect();
        drop(many);
        drop(AlignedBuf::with_len(64 << 20));
        LARGE.with_borrow(|cache| {
            assert_eq!(cache.bytes, LARGE_CACHED_BYTES_MAX);
            let in_all: usize = cache.buffers.iter().map(Pages::len).sum();
            assert_eq!(cache.bytes, in_all);
        });
    }

    #[test]
    fn every_size_is_aligned_and_exact() {
        for len in [0, 1, 15, 16, 17, 512, 513, 4096, 16_384, 16_417, 100_000] {
            let buf = AlignedBuf::with_len(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_slice().as_ptr() as usize % 16, 0, "len {len}");
            assert!(buf.capacity() >= len);
        }
    }

    #[test]
    fn a_small_buffer_is_recycled_on_its_thread() {
        let first = AlignedBuf::copy_of(b"one");
        let address = first.as_slice().as_ptr() as usize;
        drop(first);
        assert_eq!(
            AlignedBuf::with_len(100).as_slice().as_ptr() as usize,
            address
        );
    }

    #[test]
    fn a_buffer_grows_over_all_kinds_of_memory_and_keeps_its_bytes() {
        let mut buf = AlignedBuf::copy_of(b"the first bytes");
        for len in [600, 5_000, 20_000, 70_000, 300_000, 5 << 20] {
            buf.grow(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_slice().as_ptr() as usize % 16, 0);
            assert_eq!(&buf.as_slice()[..15], b"the first bytes");
            buf.as_mut_slice()[len - 1] = 1;
        }
        buf.grow(10);
        assert_eq!(buf.len(), 5 << 20);
    }
}
