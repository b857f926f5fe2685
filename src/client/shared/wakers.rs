//! Those who are woken when a lock is released, and those who need not be any more.
//!
//! A waker may be code of the program's, which may panic and may make or give up calls: so it runs, and is
//! dropped, when nothing is locked.

use std::task::Waker;

use crate::panics;

/// Mostly none or one, which cost no allocation; whoever wakes many lends the memory for it, again and
/// again.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    first: Option<Waker>,
    others: Vec<Waker>,
    discarded: Vec<Waker>,
}

impl Wakers {
    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.discarded.is_empty()
    }

    /// Adds one.
    #[inline]
    pub(super) fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    /// Takes one that is only to be dropped.
    #[inline]
    pub(super) fn discard(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.discarded.push(waker);
        }
    }

    /// Adds those of an iterator.
    pub(super) fn extend(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }

    /// Takes them all out.
    #[inline]
    pub(super) fn take(&mut self) -> Self {
        let first = self.first.take();
        let others = if self.others.is_empty() {
            // Its memory stays for the next batch.
            Vec::new()
        } else {
            std::mem::take(&mut self.others)
        };
        let discarded = std::mem::take(&mut self.discarded);
        Self {
            first,
            others,
            discarded,
        }
    }

    /// Takes them all out, and leaves memory for as many as `memory`, which is empty, has room for.
    pub(super) fn take_for(&mut self, memory: Vec<Waker>) -> Self {
        Self {
            first: self.first.take(),
            others: std::mem::replace(&mut self.others, memory),
            discarded: std::mem::take(&mut self.discarded),
        }
    }

    /// Wakes them, in the order in which they came, and gives their memory back.
    pub(super) fn wake(mut self) -> Vec<Waker> {
        if let Some(waker) = self.first {
            panics::wake(waker);
        }
        for waker in self.others.drain(..) {
            panics::wake(waker);
        }
        for waker in self.discarded {
            panics::drop_waker(waker);
        }
        self.others
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    struct Counts(AtomicU32);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }

    struct PanicsWhenDropped;

    impl Wake for PanicsWhenDropped {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn one_that_panics_keeps_none_of_the_others_asleep() {
        let counts = Arc::new(Counts(AtomicU32::new(0)));
        let mut wakers = Wakers::default();
        for _ in 0..3 {
            wakers.push(Waker::from(Arc::new(Panics)));
            wakers.push(Waker::from(Arc::clone(&counts)));
        }
        wakers.discard(None);
        wakers.discard(Some(Waker::from(Arc::new(PanicsWhenDropped))));
        let memory = wakers.wake();
        assert_eq!(counts.0.load(Ordering::Relaxed), 3);
        assert!(memory.is_empty() && memory.capacity() >= 5, "it is kept");
    }
}
