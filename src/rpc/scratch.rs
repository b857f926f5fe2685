//! Memory that serialising needs for a moment, recycled per thread.
#![allow(unsafe_code, reason = "rkyv's allocator trait hands out raw memory")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

use rkyv::ser::Allocator;

/// Scratch memory of one serialisation: what rkyv keeps about the elements of nested vectors.
///
/// Most messages need none, so nothing is taken before it is asked for. Then it is a block that
/// the thread keeps, and the heap only for what does not fit.
#[derive(Debug, Default)]
pub struct Scratch {
    /// From `Box::leak`, and given back to a box when this is dropped. It is no box meanwhile, since
    /// borrowing that again would end the right of rkyv's pointers to what they point to.
    block: Option<NonNull<Block>>,
    used_bytes: usize,
}

type Block = [u128; BLOCK_WORDS];
/// 16 KiB: resolvers of about a thousand nested elements.
const BLOCK_WORDS: usize = 1024;
const BLOCK_BYTES: usize = BLOCK_WORDS * size_of::<u128>();

thread_local! {
    static KEPT_BLOCK: Cell<Option<Box<Block>>> = const { Cell::new(None) };
}

impl Scratch {
    /// The first byte of the block.
    fn base(&mut self) -> NonNull<u8> {
        let block = self.block.get_or_insert_with(|| {
            let kept = KEPT_BLOCK.try_with(Cell::take).ok().flatten();
            NonNull::from(Box::leak(
                kept.unwrap_or_else(|| Box::new([0; BLOCK_WORDS])),
            ))
        });
        block.cast()
    }
}

impl Drop for Scratch {
    #[inline]
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            // SAFETY: it was leaked by `base`, and is taken here, so no other box is made of it. rkyv
            // has popped what it pushed, or has failed and touches none of it again: it borrows the
            // serialiser, and this with it, as long as it does.
            let block = unsafe { Box::from_raw(block.as_ptr()) };
            // At thread exit there may be nowhere to keep it; then it is freed.
            KEPT_BLOCK
                .try_with(|kept| kept.set(Some(block)))
                .unwrap_or_default();
        }
    }
}

// SAFETY: of ranges: memory from the block lies between what is used and its end, aligned as asked,
// and is not handed out again before it is popped, since `used_bytes` grows past it; all other memory
// is fresh from the heap. rkyv pops in reverse order, each with the layout that it pushed, so lowering
// `used_bytes` to the popped start frees just that; the heap's memory is known by lying outside of the
// block. Of provenance: each pointer into the block is made from the one that `Box::leak` gave, which
// may reach all of it, and no reference to the block is made before the scratch is dropped, so what
// was handed out stays usable; moving the scratch moves only that pointer. Memory from the heap is
// freed through the pointer that rkyv got.
unsafe impl<E> Allocator<E> for Scratch {
    unsafe fn push_alloc(&mut self, layout: Layout) -> Result<NonNull<[u8]>, E> {
        let used_bytes = self.used_bytes;
        let base = self.base();
        let start = used_bytes.next_multiple_of(layout.align());
        let in_block = layout.align() <= align_of::<u128>() && start + layout.size() <= BLOCK_BYTES;
        let memory = if in_block {
            self.used_bytes = start + layout.size();
            // SAFETY: `start` lies in the block, since the layout is not empty and ends there too.
            unsafe { base.add(start) }
        } else {
            // SAFETY: rkyv promises that the layout is not empty.
            let memory = unsafe { alloc(layout) };
            NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
        };
        Ok(NonNull::slice_from_raw_parts(memory, layout.size()))
    }

    unsafe fn pop_alloc(&mut self, memory: NonNull<u8>, layout: Layout) -> Result<(), E> {
        let base = self.base().addr().get();
        let address = memory.addr().get();
        if (base..base + BLOCK_BYTES).contains(&address) {
            self.used_bytes = address - base;
        } else {
            // SAFETY: what lies outside of the block came from `alloc` with this layout.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::Layout;

    use rkyv::rancor::Failure;
    use rkyv::ser::Allocator;

    use super::super::encode::encode_payload;
    use super::super::message::{access, to_owned};
    use super::{BLOCK_BYTES, Scratch};
    use crate::buf::AlignedBuf;

    #[test]
    fn nested_messages_survive_whether_the_block_is_enough_or_not() {
        // Miri, which is slow, sees in the other test what happens beyond the block.
        let many = if cfg!(miri) { 50 } else { 5_000 };
        for count in [0, 1, 10, many] {
            let value: Vec<Vec<String>> = (0..count)
                .map(|at| vec![format!("a string of element {at}"); at % 4])
                .collect();
            let mut out = Vec::new();
            for _ in 0..2 {
                out.clear();
                encode_payload::<Vec<Vec<String>>>(&value, 1 << 24, &mut out).expect("fits");
                let payload = AlignedBuf::copy_of(&out);
                let archived = access::<Vec<Vec<String>>>(payload.as_slice()).expect("valid");
                assert_eq!(to_owned::<Vec<Vec<String>>>(archived), value);
            }
        }
    }

    /// What rkyv does with nested vectors: it writes to what it got first after it has got more, and
    /// has moved the serialiser. Miri says whether it may.
    #[test]
    fn memory_stays_usable_while_more_is_taken() {
        let mut scratch = Scratch::default();
        // In the block, with gaps; as much as is left, and one more byte; more than a block.
        let sizes = [
            (3, 1),
            (24, 8),
            (16, 16),
            (BLOCK_BYTES - 48, 16),
            (1, 1),
            (2 * BLOCK_BYTES, 32),
        ];
        for round in 0..2_u8 {
            let mut taken = Vec::new();
            for (nth, (bytes, align)) in (0..).zip(sizes) {
                let layout = Layout::from_size_align(bytes, align).expect("a power of two");
                // SAFETY: the layout is not empty.
                let memory = unsafe { Allocator::<Failure>::push_alloc(&mut scratch, layout) };
                let memory = memory.expect("there is memory");
                assert!(memory.len() == bytes && memory.cast::<u8>().addr().get() % align == 0);
                taken.push((memory.cast::<u8>(), layout, nth));
                for &(memory, layout, nth) in &taken {
                    // SAFETY: it was taken with this layout, and is not given back yet.
                    unsafe { memory.write_bytes(nth + round, layout.size().min(100)) };
                }
                scratch = std::convert::identity(scratch);
            }
            while let Some((memory, layout, nth)) = taken.pop() {
                // SAFETY: as above; the first byte was written.
                assert_eq!(unsafe { memory.read() }, nth + round);
                // SAFETY: it is the last that was taken and not given back, with its layout.
                let given_back =
                    unsafe { Allocator::<Failure>::pop_alloc(&mut scratch, memory, layout) };
                given_back.expect("can't fail");
            }
            assert_eq!(scratch.used_bytes, 0);
        }
    }
}
