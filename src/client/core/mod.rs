//! What all clients do alike, without socket, runtime or clock: where calls go, how they wait for their
//! turn and for their outcome, when a lost connection is replaced, and when there is more than one.
//!
//! A front (tokio, blocking, or that of a shard) moves the bytes of a
//! [`ClientConnection`](crate::connection::client::ClientConnection) and asks these what to do.

mod backoff;
pub(crate) mod cause;
pub(crate) mod hook;
pub(crate) mod options;
pub(crate) mod redial;
pub(crate) mod slots;
pub(crate) mod spread;
pub(crate) mod target;
pub(crate) mod waiting;
