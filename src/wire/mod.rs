//! What stands on the wire: frames and what they hold, read and written.
//!
//! Nothing here knows a socket, a clock or the state of a connection. `docs/PROTOCOL.md` specifies every
//! byte.
#![forbid(unsafe_code)]

pub mod frame_writer;
pub mod framer;
pub mod goaway;
pub mod handshake;
pub mod header;
pub mod limits;
pub(crate) mod limits_error;
pub mod resolve;
#[cfg(feature = "server")]
pub(crate) mod response_writer;
pub mod status;
pub(crate) mod unsent;
pub mod violation;
