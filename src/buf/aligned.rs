//! Heap buffers whose first byte is 16-aligned, recycled per thread.

use std::cell::RefCell;

/// An owned, 16-aligned run of bytes. Safe code only: the memory is a vector of `u128`.
///
/// Buffers go to a bounded per-thread cache when dropped, so that reassembling a frame that straddles
/// two receive buffers, or receiving a large one, allocates nothing once the thread is warm.
#[derive(Debug)]
pub struct AlignedBuf {
    words: Vec<u128>,
    len: usize,
}

const _: () = assert!(align_of::<u128>() == 16);
const WORD: usize = size_of::<u128>();

impl AlignedBuf {
    /// A buffer of `len` bytes. Its content is unspecified: zeros, or what a recycled one held.
    pub fn with_len(len: usize) -> Self {
        let words_needed = len.div_ceil(WORD);
        let words = match class_of(words_needed) {
            Some(class) => take_cached(class),
            None => take_large(words_needed),
        };
        Self { words, len }
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

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    /// Shortens it to `len` bytes; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        match CLASS_WORDS.iter().position(|&class| class == words.len()) {
            Some(class) => keep(class, words),
            None if words.len() > LARGEST_CLASS_WORDS => keep_large(words),
            None => (),
        }
    }
}

/// Sizes that are cached, in words: 512 B, 4 KiB, 16 KiB with room for a header.
const CLASS_WORDS: [usize; 3] = [32, 256, 1026];
/// Cached buffers of one size on one thread; bounds the cache to about 0.6 MiB.
const CACHED_PER_CLASS_MAX: usize = 32;

const LARGEST_CLASS_WORDS: usize = CLASS_WORDS[CLASS_WORDS.len() - 1];
/// Words of larger buffers that one thread keeps: 16 MiB. Fresh memory of this size comes from the
/// kernel page by page, which costs more than receiving into it.
const LARGE_CACHED_WORDS_MAX: usize = (16 << 20) / WORD;

thread_local! {
    static LARGE: RefCell<LargeCache> = const { RefCell::new(LargeCache { buffers: Vec::new(), words: 0 }) };
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
    buffers: Vec<Vec<u128>>,
    /// All together.
    words: usize,
}

/// One that is not too large for what is needed, so that little memory lies idle, or a fresh one.
fn take_large(words_needed: usize) -> Vec<u128> {
    let fits = |buffer: &Vec<u128>| {
        (words_needed..=words_needed + words_needed / 4).contains(&buffer.len())
    };
    let take = |cache: &RefCell<LargeCache>| {
        let mut cache = cache.borrow_mut();
        let at = cache.buffers.iter().position(fits)?;
        let buffer = cache.buffers.swap_remove(at);
        cache.words -= buffer.len();
        Some(buffer)
    };
    let cached = LARGE.try_with(take).ok().flatten();
    cached.unwrap_or_else(|| vec![0; words_needed])
}

/// Keeps a large buffer; older ones of other sizes make room for it.
fn keep_large(words: Vec<u128>) {
    LARGE
        .try_with(|cache| {
            let mut cache = cache.borrow_mut();
            if words.len() > LARGE_CACHED_WORDS_MAX {
                return;
            }
            while cache.words + words.len() > LARGE_CACHED_WORDS_MAX {
                let oldest = cache.buffers.remove(0);
                cache.words -= oldest.len();
            }
            cache.words += words.len();
            cache.buffers.push(words);
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
            assert_eq!(cache.words, LARGE_CACHED_WORDS_MAX);
            assert_eq!(cache.words, cache.buffers.iter().map(Vec::len).sum());
        });
    }

    #[test]
    fn every_size_is_aligned_and_exact() {
        for len in [0, 1, 15, 16, 17, 512, 513, 4096, 16_384, 16_417, 100_000] {
            let buf = AlignedBuf::with_len(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_slice().as_ptr() as usize % 16, 0, "len {len}");
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
}
