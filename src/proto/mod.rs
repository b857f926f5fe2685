//! The protocol without input and output: it takes bytes and the time, and gives events and bytes.
//!
//! Nothing here knows a socket, a clock or a runtime; the engines and clients drive it.
//! `docs/PROTOCOL.md` specifies every byte.
#![forbid(unsafe_code)]

pub mod calls;
pub mod client;
mod flood;
pub mod framer;
pub mod frames;
pub mod goaway;
pub mod handshake;
pub mod header;
mod held_calls;
pub mod limits;
pub mod link;
mod live_calls;
pub mod resolve;
pub mod server;
pub mod status;
pub mod unsent;
pub mod violation;
