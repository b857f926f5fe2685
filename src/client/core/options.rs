//! What calls are made with.

use std::time::Duration;

/// What a call is made with, on every client: its client's defaults, changed by
/// [`Call::deadline`](crate::Call::deadline) and, last, by the client's [`ClientHook`](crate::ClientHook).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    deadline: Option<Duration>,
}

impl CallOptions {
    /// Time that the call has, from its first poll on; `None`: as long as its connection lives.
    #[inline]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Sets that.
    pub fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }
}
