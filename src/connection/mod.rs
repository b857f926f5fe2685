//! The two ends of a connection without input and output: they take bytes and the time, and give events
//! and bytes.
//!
//! Nothing here knows a socket, a clock or a runtime; shards and clients drive it.
#![forbid(unsafe_code)]

pub mod client;
mod flood;
mod held_calls;
pub mod link;
mod live_calls;
mod pending_calls;
pub mod server;
