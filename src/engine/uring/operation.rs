//! Operations in flight, and the memory that each owns until its last completion.

use std::rc::Rc;

use io_uring::types::Timespec;

use crate::connection::outgoing::Outgoing;
use crate::wire::framer::DirectBody;

/// What an operation is for, and what it owns.
#[derive(Debug)]
pub(in crate::engine) enum Operation {
    /// Connections of a listener, one completion each.
    Accept { listener: u32 },
    /// Tells of connections of a listener that other shards share, one completion or more for each.
    Poll { listener: u32 },
    /// Bytes of a socket into buffers of the pool: many completions, or one.
    Receive { socket: u32, is_multishot: bool },
    /// Bytes of a socket straight into a large body.
    ReceiveDirect { socket: u32, body: DirectBody },
    /// Queued bytes of a socket.
    /// `vectors` is what `sendmsg` reads, when there are several parts.
    Send {
        socket: u32,
        message: Outgoing,
        vectors: Option<Box<Vectors>>,
    },
    /// Tells when a socket from which nothing is received breaks.
    Watch { socket: u32 },
    /// A connection of a local client.
    Connect {
        socket: u32,
        address: Box<socket2::SockAddr>,
    },
    /// A wake-up for the shard's timers, which comes at `due_ns`.
    Timeout { time: Box<Timespec>, due_ns: u64 },
    /// The wake-ups that other threads have written for a shard that naps.
    Wakeup { count: Box<[u8; 8]> },
    /// The end of another operation.
    Cancel,
}

impl Operation {
    /// A copy of a multishot operation, which goes on after a completion.
    #[inline(always)]
    pub(in crate::engine) fn continued(&self) -> Self {
        match self {
            Self::Accept { listener } => Self::Accept {
                listener: *listener,
            },
            Self::Poll { listener } => Self::Poll {
                listener: *listener,
            },
            Self::Receive {
                socket,
                is_multishot,
            } => Self::Receive {
                socket: *socket,
                is_multishot: *is_multishot,
            },
            other => panic!("the kernel announced more completions of {other:?}"),
        }
    }
}

/// The memory that describes several parts to the kernel.
pub(in crate::engine) struct Vectors {
    pub(in crate::engine) header: libc::msghdr,
    pub(in crate::engine) slices: Vec<libc::iovec>,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors")
            .field("slices", &self.slices.len())
            .finish_non_exhaustive()
    }
}

/// Names an operation in flight; it is the `user_data` of its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct OpKey(pub(in crate::engine) u64);

/// The operations in flight.
#[derive(Debug)]
pub(in crate::engine) struct Operations<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<S> {
    generation: u32,
    operation: Option<Operation>,
    /// Kept open as long as the kernel may use it.
    socket: Option<Rc<S>>,
}

impl<S> Default for Operations<S> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<S> Operations<S> {
    /// Enters an operation. Its memory is not moved or freed before [`Operations::remove`].
    #[inline]
    pub(in crate::engine) fn insert(
        &mut self,
        operation: Operation,
        socket: Option<Rc<S>>,
    ) -> OpKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                operation: None,
                socket: None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.operation = Some(operation);
        slot.socket = socket;
        OpKey(u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// An operation in flight.
    ///
    /// # Panics
    /// When there is none with this name: the kernel completed what was never started, or twice.
    #[inline(always)]
    pub(in crate::engine) fn get(&mut self, key: OpKey) -> &mut Operation {
        let slot = &mut self.slots[key.0 as u32 as usize];
        assert_eq!(
            slot.generation,
            (key.0 >> 32) as u32,
            "a completion of an ended operation"
        );
        slot.operation
            .as_mut()
            .expect("a live generation has an operation")
    }

    /// Takes an operation out at its last completion.
    #[inline(always)]
    pub(in crate::engine) fn remove(&mut self, key: OpKey) -> Operation {
        self.get(key);
        let index = key.0 as u32;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.socket = None;
        self.free.push(index);
        slot.operation.take().expect("checked above")
    }

    /// The names of all operations in flight.
    pub(in crate::engine) fn keys(&self) -> Vec<OpKey> {
        let live = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.operation.is_some());
        live.map(|(index, slot)| OpKey(u64::from(slot.generation) << 32 | index as u64))
            .collect()
    }

    /// Number of operations in flight.
    pub(in crate::engine) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "ended operation")]
    fn a_second_last_completion_is_noticed() {
        let mut operations = Operations::<()>::default();
        let key = operations.insert(Operation::Cancel, None);
        operations.remove(key);
        operations.insert(Operation::Cancel, None);
        operations.remove(key);
    }
}
