//! ringcall
#![warn(missing_docs)]

pub(crate) mod buf;
mod client;
mod engine;
pub(crate) mod platform;
pub mod proto;
mod rpc;
mod server;
mod shard;

pub use client::{BlockingCall, BlockingClient, Call, Caller, Client, ClientBuilder};
pub use engine::{Engine, Idle};
pub use platform::environment::{Environment, IoUring};
pub use platform::rlimit::Limit as ResourceLimit;
pub use proto::limits::Limits;
pub use proto::resolve::{MethodDescriptor, ServiceDescriptor};
pub use proto::status::{Code, Status};
pub use ringcall_macros::{message, service};
pub use rkyv;
pub use rpc::encode::{Encode, Encoder};
pub use rpc::message::Message;
pub use rpc::received::{LocalResponse, Received, Request, Response};
pub use rpc::reply::Reply;
pub use server::{LocalRuntime, LocalRuntimeBuilder, Metrics, ServeError, Server, ServerBuilder};
pub use shard::context::{Context, Shard, Sleep};
pub use shard::local_client::{LocalCall, LocalClient};
pub use shard::service::{IncomingCall, IntoServices, Service};

/// Looks at what this machine offers: CPUs, limits, io_uring. It takes about a millisecond; call it
/// before any thread is pinned, for the CPUs are those of the calling thread.
pub fn environment() -> Environment {
    Environment::look(engine::ring_locked_bytes())
}

/// What the macros' expansion and this workspace's benches name; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::engine::memory::MemoryConnection;
    pub use crate::rpc::fingerprint::{Fingerprint, SELF, method as method_fingerprint};
}
