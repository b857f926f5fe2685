//! How many bytes a peer makes this side hold.

use std::cell::Cell;
use std::rc::Rc;

/// The account of a connection, or of its shard, which each connection's adds to.
///
/// Messages in receive buffers are not counted: there are only so many of those.
#[derive(Debug, Default)]
pub struct Account {
    bytes: Cell<usize>,
    was_released: Cell<bool>,
    parent: Option<Rc<Account>>,
}

impl Account {
    /// An account whose bytes count in `parent` too.
    pub fn below(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self {
            parent: Some(Rc::clone(parent)),
            ..Self::default()
        })
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Whether bytes were taken out since this was asked last.
    pub fn take_released(&self) -> bool {
        self.was_released.take()
    }

    /// Enters `after` bytes where `before` stood.
    pub fn change(&self, before: usize, after: usize) {
        if after > before {
            self.add(after - before);
        } else if before > after {
            self.subtract(before - after);
        }
    }

    /// Enters bytes.
    pub fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        if let Some(parent) = &self.parent {
            parent.add(bytes);
        }
    }

    /// Takes bytes out that were entered.
    pub fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.was_released.set(true);
        if let Some(parent) = &self.parent {
            parent.subtract(bytes);
        }
    }
}
