//! An async RPC runtime on io_uring, with messages that are read where they were received.
//!
//! # How a byte becomes a call and a reply
//!
//! ```text
//! completion → engine: bytes lie in a receive buffer
//!            → shard::dispatch: feeds them to the connection
//!            → connection: cuts a frame, checks it, yields a request
//!            → service table: array index, no hashing, no boxing
//!            → handler: reads the validated archive in place, returns a reply
//!            → the reply is serialised into the connection's send queue
//!            → engine: one send per connection and turn
//! ```
//!
//! A server has one *shard* per CPU: a pinned thread with its own ring, connections, timers and its
//! own instance of each service. Nothing in the path of a call is locked or shared. The *engine*
//! that moves a shard's bytes is io_uring, hosted by a glommio executor, or epoll where io_uring is
//! refused ([`Engine`]).
//!
//! # Messages and services
//!
//! [`message`](macro@message) makes a struct or an enum a message: an rkyv archive on the wire.
//! [`service`](macro@service) makes of a trait `Kv` the trait `KvHandler` to implement, `KvServer`
//! to serve it, and `KvClient` to call it.
//!
//! ```
//! use ringcall::{Context, Reply, Request, Server, Status};
//!
//! #[ringcall::service(name = "greeter.v1")]
//! trait Greeter {
//!     /// Greets somebody.
//!     async fn hello(name: String) -> String;
//! }
//!
//! struct Polite;
//!
//! impl GreeterHandler for Polite {
//!     async fn hello(&self, _cx: &Context, name: Request<String>) -> Result<Reply<String>, Status> {
//!         // `name` derefs to the archived string in the receive buffer.
//!         Ok(format!("Hello, {}!", name.as_str()).into())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder()
//!     .listen("tcp://127.0.0.1:0")
//!     .shards(1.try_into()?)
//!     .serve(|_shard| GreeterServer::new(Polite))?;
//! let greeter = GreeterClient::connect_blocking(&server.addresses()[0])?;
//! assert_eq!(greeter.hello("Ada").wait()?.as_str(), "Hello, Ada!");
//! # Ok(())
//! # }
//! ```
//!
//! [`Request`] and [`Response`] deref to the archived form and hold the memory that it lies in;
//! [`Received::to_owned`] makes the owned value. [`Reply`] is made from the value, from borrowed
//! data that stands for it ([`Encode`]), or from bytes that are sent without a copy.
//!
//! # Clients
//!
//! [`Client`] is for tokio programs, [`LocalClient`] for handlers and load generators on a shard,
//! [`BlockingClient`] for scripts. All end every call with a response or a [`Status`]. A [`Client`] makes
//! connections to further shards of the server as its calls ask for them
//! ([`ClientBuilder::connections_max`]).
//!
//! # Cargo features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `uring` | yes | the io_uring engine; implies `server` |
//! | `server` | yes | servers, [`LocalRuntime`] and [`LocalClient`], on epoll where `uring` is off |
//!
//! Without either there are [`Client`] and [`BlockingClient`], and `#[ringcall::service]` makes the client
//! alone. Such a program builds no C.
//!
//! # Bounds
//!
//! [`Limits`] and [`ServerBuilder`] hold what a peer may send or cause, each with its default.
//! Whatever goes beyond is answered with a status, or ends that connection with a reason, and is
//! counted in [`Metrics`].
#![warn(missing_docs, clippy::print_stdout)]
// Of the library alone, and so not in the manifest: nothing is reachable in tests and programs.
#![warn(unnameable_types, unreachable_pub)]
#![cfg_attr(
    not(feature = "server"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the documentation speaks of the whole"
    )
)]

#[cfg(feature = "server")]
mod bench_api;
pub(crate) mod buf;
mod client;
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, reason = "without shards only the client's end is driven")
)]
mod connection;
#[cfg(feature = "server")]
mod engine;
mod net;
mod panics;
#[cfg_attr(
    not(feature = "simulation"),
    allow(dead_code, unreachable_pub, reason = "only the simulation plants them")
)]
mod planted_bugs;
#[cfg(feature = "server")]
mod platform;
mod rpc;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
#[cfg_attr(
    not(feature = "uring"),
    allow(dead_code, reason = "some of it is for the io_uring engine alone")
)]
mod shard;
mod wire;

pub use client::{BlockingClient, Call, CallOptions, Caller, Client, ClientBuilder, ClientHook};
pub use net::address::Address;
pub use net::address_error::AddressError;
pub use net::transport::Transport;
pub use ringcall_macros::{message, service};
pub use rkyv;
pub use rpc::encode::{Encode, Encoder};
pub use rpc::message::Message;
pub use rpc::outcome::CallOutcome;
pub use rpc::received::{Received, Response};
pub use wire::limits::Limits;
pub use wire::limits_error::LimitsError;
pub use wire::resolve::{MethodDescriptor, ServiceDescriptor};
pub use wire::status::{Code, Status};

#[cfg(feature = "server")]
pub use {
    engine::{Engine, Idle, ShardFailure, StartError},
    platform::cpus::CpusError,
    platform::environment::{Environment, IoUring},
    platform::rlimit::Limit as ResourceLimit,
    platform::shortage::Shortage,
    rpc::reply::Reply,
    rpc::request::{LocalResponse, Request},
    server::{
        ConfigurationError, LocalRuntime, LocalRuntimeBuilder, Metrics, ServeError, Server,
        ServerBuilder,
    },
    shard::call_info::CallInfo,
    shard::context::{Context, Shard, Sleep},
    shard::hook::{CallTimings, ServerHook},
    shard::local_client::LocalClient,
    shard::service::{IncomingCall, IntoServices, Service},
};

/// Looks at what this machine offers: CPUs, limits, io_uring. It takes about a millisecond. The CPUs are
/// those of the calling thread, or of a shard's before it was pinned; call it before the program pins any.
#[cfg(feature = "server")]
pub fn environment() -> Environment {
    Environment::look(engine::ring_locked_bytes())
}

/// What the macros' expansion, this workspace's benches and the fuzz targets name; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::buf::{
        Account, AlignedBuf, Body, Chunk, Part, QueueEnd, RecvPool, SendQueue, TakenBuffer,
    };
    #[cfg(feature = "simulation")]
    pub use crate::engine::sim;
    #[cfg(feature = "simulation")]
    pub use crate::planted_bugs::{Bug, plant};
    pub use crate::rpc::bounds::{greater, nests_within, request_bytes_max, sum};
    pub use crate::rpc::encode::PayloadWriter;
    pub use crate::rpc::fingerprint::{Fingerprint, SELF, method as method_fingerprint};
    pub use crate::rpc::received::{Payload, SharedPayload};
    pub use crate::rpc::scratch::Scratch;
    #[cfg(feature = "server")]
    pub use crate::{
        bench_api::{TimerName, TimerWheel, access, decode_status, encode},
        engine::memory::MemoryConnection,
        shard::handler::Method,
        shard::hook::hooked,
    };

    /// What stands on the wire, to be fed with hostile bytes.
    pub mod wire {
        pub use crate::wire::{
            frame_writer, framer, goaway, handshake, header, limits, resolve, status, violation,
        };
    }

    /// Both ends of a connection without input and output.
    pub mod connection {
        pub use crate::connection::{client, link, server};
    }
}

/// Takes what `#[ringcall::service]` makes for servers, which can't see the features of this crate. With
/// `server` it stays as it is.
#[cfg(feature = "server")]
#[doc(hidden)]
#[macro_export]
macro_rules! __server {
    ($($items:tt)*) => { $($items)* };
}

/// Takes what `#[ringcall::service]` makes for servers, and makes nothing of it: there are none without the
/// feature `server`.
#[cfg(not(feature = "server"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __server {
    ($($items:tt)*) => {};
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
