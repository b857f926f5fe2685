//! How many bytes of received messages lie in buffers of their own.

use std::cell::Cell;
use std::rc::Rc;

/// The account of a connection, or of its shard, which each connection's adds to.
///
/// Messages in receive buffers are not counted: there are only so many of those.
#[derive(Debug, Default)]
pub struct Account {
    bytes: Cell<usize>,
    parent: Option<Rc<Account>>,
}

impl Account {
    /// An account whose bytes count in `parent` too.
    pub fn below(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(0),
            parent: Some(Rc::clone(parent)),
        })
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        if let Some(parent) = &self.parent {
            parent.add(bytes);
        }
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        if let Some(parent) = &self.parent {
            parent.subtract(bytes);
        }
    }
}
