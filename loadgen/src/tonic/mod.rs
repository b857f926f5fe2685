//! The sample services as gRPC, by tonic: what ringcall is compared with.
//!
//! Both sides are set up as well as tonic allows for this use: each thread has a runtime of its own
//! and its own listener, as each shard of ringcall does; TCP_NODELAY; windows so large that flow
//! control never waits; bodies as `Bytes`. [`serve`] is the server, [`proto`] holds the client.

mod serve;

pub use self::serve::{MESSAGE_BYTES_MAX, Serving, serve};

/// What `build.rs` made of `samples.proto`.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "generated, and documented by its .proto file"
)]
pub mod proto {
    ::tonic::include_proto!("samples.v1");
}

/// Bytes that may be under way on one stream, either way: more than any message has.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that may be under way on one connection, either way.
pub const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
