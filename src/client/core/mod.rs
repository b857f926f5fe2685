//! What all clients do alike, without socket, runtime, clock or chance of its own: where calls go, how they
//! wait for their turn and for their outcome, and when a lost connection is replaced.
//!
//! A front (tokio, blocking, or that of a shard) moves the bytes of a
//! [`ClientConnection`](crate::connection::client::ClientConnection) and asks these what to do.

mod backoff;
pub(crate) mod cause;
pub(crate) mod redial;
pub(crate) mod slots;
pub(crate) mod target;
pub(crate) mod waiting;

use std::time::Duration;

/// The deadline of calls that set none, unless the program says otherwise: they wait for as long as the
/// connection lives, whose keepalive notices when its other end is gone.
pub(crate) const DEFAULT_DEADLINE: Option<Duration> = None;
