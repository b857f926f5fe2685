//! Send buffers that are used again, by whichever connection of a shard sends next.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::buf::Part;

/// Empty buffers, each with the memory that it has grown to.
#[derive(Default)]
pub(crate) struct SpareBuffers {
    /// The one that was given back last: as a rule the next connection takes it.
    last: Cell<Vec<u8>>,
    others: RefCell<Vec<Vec<u8>>>,
    /// Memory of the others.
    bytes: Cell<usize>,
    /// Lists of what goes out together, emptied.
    parts: RefCell<Vec<Vec<Part>>>,
}

/// Memory of all buffers that are kept, and of the largest one, in bytes.
pub(crate) const SPARE_BYTES_MAX: usize = OTHERS_BYTES_MAX + BUFFER_BYTES_MAX;
const OTHERS_BYTES_MAX: usize = 16 << 20;
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// Lists of parts that are kept: a few KiB each at most.
const PARTS_MAX: usize = 64;

impl SpareBuffers {
    /// An empty buffer, without memory if none is kept.
    #[inline]
    pub(crate) fn take(&self) -> Vec<u8> {
        let last = self.last.take();
        if last.capacity() > 0 {
            return last;
        }
        self.take_other()
    }

    #[inline(never)]
    fn take_other(&self) -> Vec<u8> {
        let buffer = self.others.borrow_mut().pop().unwrap_or_default();
        self.bytes.set(self.bytes.get() - buffer.capacity());
        buffer
    }

    /// Keeps a buffer, unless it is too large or there are enough.
    #[inline]
    pub(crate) fn put(&self, mut buffer: Vec<u8>) {
        if (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            let before = self.last.replace(buffer);
            if before.capacity() > 0 {
                self.put_other(before);
            }
        }
    }

    #[inline(never)]
    fn put_other(&self, buffer: Vec<u8>) {
        let bytes = self.bytes.get() + buffer.capacity();
        if bytes <= OTHERS_BYTES_MAX {
            self.bytes.set(bytes);
            self.others.borrow_mut().push(buffer);
        }
    }
}

/// For what goes out together.
impl SpareBuffers {
    /// An empty list.
    pub(super) fn take_parts(&self) -> Vec<Part> {
        self.parts.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives such a list back, emptied.
    pub(super) fn put_parts(&self, parts: Vec<Part>) {
        let mut spare = self.parts.borrow_mut();
        if spare.len() < PARTS_MAX {
            spare.push(parts);
        }
    }
}

impl fmt::Debug for SpareBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpareBuffers")
            .field("others", &self.others.borrow().len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_memory_and_a_bound() {
        let spare = SpareBuffers::default();
        assert_eq!(spare.take().capacity(), 0);
        spare.put(vec![1; 100]);
        spare.put(Vec::with_capacity(200));
        spare.put(Vec::new());
        spare.put(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        let taken = [spare.take(), spare.take(), spare.take()];
        let capacities = taken.map(|buffer| (buffer.len(), buffer.capacity()));
        assert_eq!(capacities, [(0, 200), (0, 100), (0, 0)]);
        for _ in 0..100 {
            spare.put(Vec::with_capacity(BUFFER_BYTES_MAX));
        }
        let kept: usize = (0..100).map(|_| spare.take().capacity()).sum();
        assert_eq!(kept, SPARE_BYTES_MAX);
        assert_eq!(spare.bytes.get(), 0);
    }
}
