//! Reusable memory for one handler future at a time.
#![allow(
    unsafe_code,
    reason = "a future of any type is kept in place in memory that outlives it and is used again"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use super::purpose::Origin;

/// What a cell holds: a future that is told, at each poll, whom it works for.
pub(super) trait Work: 'static {
    /// Goes on. It is not polled again once it is ready.
    fn poll(self: Pin<&mut Self>, origin: Origin<'_>, cx: &mut Context<'_>) -> Poll<()>;
}

/// What a future borrows from beside it: lent by whoever starts the future, until it must be kept.
pub(super) trait Keep: 'static {
    /// Makes it its own: the future goes on after its first poll. Called at most once.
    fn keep(&self);
}

impl Keep for () {
    fn keep(&self) {}
}

/// Holds at most one future, pinned, in memory that is kept for the next one, and beside it what
/// that future borrows.
///
/// A handler that finishes at its first poll thus costs no allocation, although its future is
/// never moved after it was first polled.
pub(super) struct FutureCell {
    memory: NonNull<u8>,
    layout: Layout,
    held: Option<Held>,
}

/// How to poll and drop the future that is held, whose type is not known any more.
#[derive(Clone, Copy)]
struct Held {
    poll: unsafe fn(NonNull<u8>, Origin<'_>, &mut Context<'_>) -> Poll<()>,
    drop: unsafe fn(NonNull<u8>),
}

/// Alignment of the memory at first: few futures need more.
const ALIGN: usize = 16;
/// First size of the memory: most handlers fit.
const FIRST_BYTES: usize = 512;
/// Memory above this size is not kept for the next future.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A cell whose future was just put in, and whose type is still known: its first poll goes through
/// no pointer.
pub(super) struct Fresh<'a, O: Keep, W: Work> {
    cell: &'a mut FutureCell,
    types: PhantomData<(W, O)>,
}

impl FutureCell {
    /// An empty cell.
    pub(super) fn new() -> Self {
        let layout = Layout::from_size_align(FIRST_BYTES, ALIGN).expect("a small size");
        Self {
            memory: allocate(layout),
            layout,
            held: None,
        }
    }

    /// Puts in what the future borrows, which `own` returns, and then the future that `make`
    /// returns, to be polled.
    ///
    /// Everything that may fail comes before them, and nothing between them and the cell: so the
    /// compiler can build both in the cell, instead of elsewhere to be copied here. For that, what
    /// they capture should have no destructor.
    ///
    /// # Safety
    /// The reference is not what it claims: it lasts as long as the future. `make` puts it nowhere
    /// but into the future, and the future lets it out nowhere.
    ///
    /// # Panics
    /// When a future is there already, or with `make`; then the cell stays empty.
    #[inline(always)]
    pub(super) unsafe fn put<O: Keep, W: Work>(
        &mut self,
        own: impl FnOnce() -> O,
        make: impl FnOnce(&'static O) -> W,
    ) -> Fresh<'_, O, W> {
        assert!(self.held.is_none(), "the cell holds a future");
        let (needed, offset) = const { together::<O, W>() };
        if const { together::<O, W>().0.align() > ALIGN } || needed.size() > self.layout.size() {
            self.grow(needed);
        }
        // SAFETY: the memory is large enough for both and aligned for both, and holds nothing.
        // What is borrowed is written first, not moved, and dropped after the future.
        unsafe {
            let borrowed = self.memory.add(offset).cast::<O>();
            borrowed.write(own());
            let borrowed = Borrowed(borrowed);
            self.memory.cast::<W>().write(make(borrowed.0.as_ref()));
            std::mem::forget(borrowed);
        }
        Fresh {
            cell: self,
            types: PhantomData,
        }
    }

    /// Polls the future again. One that is ready is dropped; one that panics stays.
    pub(super) fn poll(&mut self, origin: Origin<'_>, cx: &mut Context<'_>) -> Poll<()> {
        let held = self.held.expect("the cell holds a future");
        // SAFETY: `put` wrote a future of the type for which these functions were made, and it
        // has not been dropped: `held` is set.
        let polled = unsafe { (held.poll)(self.memory, origin, cx) };
        if polled.is_ready() {
            self.clear();
        }
        polled
    }

    /// Whether a future is there.
    pub(super) fn is_occupied(&self) -> bool {
        self.held.is_some()
    }

    /// Drops the future, if there is one, and keeps the memory.
    #[inline]
    pub(super) fn clear(&mut self) {
        // Taken first: if the drop panics, it is not tried again.
        if let Some(held) = self.held.take() {
            // SAFETY: as in `poll`; it is dropped once, since `held` is no longer set.
            unsafe { (held.drop)(self.memory) };
        }
    }

    /// Bytes of memory beyond what every cell has.
    pub(super) fn extra_bytes(&self) -> usize {
        self.layout.size() - FIRST_BYTES
    }

    /// Whether the memory is small enough to be kept.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.layout.size() <= KEPT_BYTES_MAX
    }

    #[cold]
    fn grow(&mut self, needed: Layout) {
        let bytes = needed.size().max(FIRST_BYTES).next_power_of_two();
        let layout = Layout::from_size_align(bytes, needed.align().max(ALIGN))
            .expect("the size of a type is far below isize::MAX");
        let memory = allocate(layout);
        // SAFETY: allocated with this layout, and empty: `put` has checked.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
        (self.memory, self.layout) = (memory, layout);
    }
}

impl<O: Keep, W: Work> Fresh<'_, O, W> {
    /// The first poll. A future that is ready is dropped at once; one that waits or panics stays in
    /// the cell.
    #[inline(always)]
    pub(super) fn poll(self, origin: Origin<'_>, cx: &mut Context<'_>) -> Poll<()> {
        let memory = self.cell.memory;
        // SAFETY: `put` has just written a `W`, which is not moved until it is dropped.
        let polled = unsafe { poll_as::<W>(memory, origin, cx) };
        if polled.is_ready() {
            std::mem::forget(self);
            // SAFETY: both are there, and not marked as held, so they are dropped once.
            unsafe { drop_as::<O, W>(memory) };
        }
        polled
    }
}

/// A future that did not end at its first poll is held, with what it borrows. Most end, and are never
/// marked.
impl<O: Keep, W: Work> Drop for Fresh<'_, O, W> {
    #[inline(always)]
    fn drop(&mut self) {
        let (_, offset) = const { together::<O, W>() };
        // SAFETY: `put` has just written an `O` there, and nothing has dropped it.
        unsafe { self.cell.memory.add(offset).cast::<O>().as_ref() }.keep();
        self.cell.held = Some(Held {
            poll: poll_as::<W>,
            drop: drop_as::<O, W>,
        });
    }
}

impl Drop for FutureCell {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: allocated with this layout; the future in it is gone.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

/// Memory for a `W` at its start and an `O` at the offset that is returned too.
const fn together<O, W>() -> (Layout, usize) {
    match Layout::new::<W>().extend(Layout::new::<O>()) {
        Ok((layout, offset)) => (layout, offset),
        Err(_) => panic!("two types together are larger than the address space"),
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is never zero: at least `FIRST_BYTES` or that of a larger type.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
/// `memory` holds a `W` that is never moved until it is dropped.
#[inline(always)]
unsafe fn poll_as<W: Work>(
    memory: NonNull<u8>,
    origin: Origin<'_>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    // SAFETY: promised by the caller; the cell's memory does not move, so pinning holds.
    unsafe { Pin::new_unchecked(memory.cast::<W>().as_mut()) }.poll(origin, cx)
}

/// What is borrowed by a future that is being made or dropped, and goes also when that panics.
struct Borrowed<O>(NonNull<O>);

impl<O> Drop for Borrowed<O> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `put` and `drop_as` point it to an `O` that nobody else drops.
        unsafe { self.0.drop_in_place() };
    }
}

/// # Safety
/// `memory` holds a `W` and what it borrows, as [`FutureCell::put`] leaves them; neither is used
/// afterwards.
#[inline(always)]
unsafe fn drop_as<O, W>(memory: NonNull<u8>) {
    let (_, offset) = const { together::<O, W>() };
    // SAFETY: the offset lies in the memory that `put` has found large enough.
    let _borrowed = Borrowed(unsafe { memory.add(offset) }.cast::<O>());
    // SAFETY: promised by the caller.
    unsafe { memory.cast::<W>().drop_in_place() };
}

#[cfg(test)]
mod tests {
    use super::super::handler::Background;
    use super::*;
    use std::cell::Cell;
    use std::future::{pending, poll_fn, ready};
    use std::rc::Rc;
    use std::task::Waker;

    fn start(cell: &mut FutureCell, future: impl Future<Output = ()> + 'static) -> Poll<()> {
        // SAFETY: nothing is borrowed.
        let fresh = unsafe { cell.put(|| (), |()| Background { future }) };
        fresh.poll(Origin::Background, &mut Context::from_waker(Waker::noop()))
    }

    fn poll(cell: &mut FutureCell) -> Poll<()> {
        cell.poll(Origin::Background, &mut Context::from_waker(Waker::noop()))
    }

    struct CountsDrop(Rc<Cell<u32>>);
    impl Drop for CountsDrop {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn memory_is_used_again_and_every_future_is_dropped_once() {
        let (drops, mut cell) = (Rc::new(Cell::new(0)), FutureCell::new());
        for round in 0..3 {
            let guard = CountsDrop(Rc::clone(&drops));
            let ready_at_once = async move {
                let _guard = guard;
                ready(()).await;
            };
            assert_eq!(start(&mut cell, ready_at_once), Poll::Ready(()));
            assert_eq!(drops.get(), 2 * round + 1);
            let guard = CountsDrop(Rc::clone(&drops));
            let mut polls = 0;
            let ready_later = poll_fn(move |_| {
                let _guard = &guard;
                polls += 1;
                if polls == 2 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            assert_eq!(start(&mut cell, ready_later), Poll::Pending);
            assert_eq!(poll(&mut cell), Poll::Ready(()));
            cell.clear();
            cell.clear();
            assert_eq!(drops.get(), 2 * round + 2);
        }
    }

    #[test]
    fn a_large_and_an_overaligned_future_are_held() {
        #[repr(align(64))]
        struct Wide([u8; 64]);
        let (wide, large) = (Wide([0; 64]), [1_u8; 3000]);
        let mut cell = FutureCell::new();
        assert_eq!(
            start(&mut cell, async move {
                ready(()).await;
                assert_eq!(wide.0[63], 0);
            }),
            Poll::Ready(())
        );
        assert_eq!(
            start(&mut cell, async move {
                ready(()).await;
                assert_eq!(large[2999], 1);
            }),
            Poll::Ready(())
        );
    }

    #[test]
    fn dropping_the_cell_drops_a_waiting_future() {
        let drops = Rc::new(Cell::new(0));
        let guard = CountsDrop(Rc::clone(&drops));
        let mut cell = FutureCell::new();
        assert_eq!(
            start(&mut cell, async move {
                let _guard = guard;
                pending::<()>().await;
            }),
            Poll::Pending
        );
        drop(cell);
        assert_eq!(drops.get(), 1);
    }
}
