//! Those who are woken when a lock is released.

use std::task::Waker;

/// Mostly none or one, which cost no allocation; whoever wakes many lends the memory for it, again and
/// again.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds one.
    #[inline]
    pub(super) fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
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
        Self { first, others }
    }

    /// Takes them all out, and leaves memory for as many as `memory`, which is empty, has room for.
    pub(super) fn take_for(&mut self, memory: Vec<Waker>) -> Self {
        Self {
            first: self.first.take(),
            others: std::mem::replace(&mut self.others, memory),
        }
    }

    /// Wakes them, in the order in which they came, and gives their memory back.
    pub(super) fn wake(mut self) -> Vec<Waker> {
        if let Some(waker) = self.first {
            waker.wake();
        }
        self.others.drain(..).for_each(Waker::wake);
        self.others
    }
}
