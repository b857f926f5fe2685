//! What the benches share: servers to compare, clients to drive them, and reports.
//!
//! 1. [`servers`] holds the peers: [`servers::raw`] echoes bytes on a bare io_uring and is the
//!    physical limit; the others are ringcall and what one would use instead.
//! 2. [`servers::process`] runs one peer in a child process of its own, pinned to the first CPU.
//! 3. [`client`] keeps `connections × depth` calls in flight from the second CPU and records the
//!    latency of each, for servers that take frames; [`tasks`] does it with the client library that
//!    a peer comes with.
//! 4. [`runs`] alternates the peers, A B A B, so that a slow minute of the machine hits all; then
//!    [`count`] looks at each once more, for what counting would slow down.
//! 5. [`pairs`] does the same for servers that are compared with themselves, in another state.
//! 6. [`report`] makes tables, JSON and a picture out of the runs.
//!
//! `cargo bench --bench vs_peers -- --help` lists the options.

pub mod address;
pub mod baseline;
pub mod cell;
pub mod client;
pub mod count;
pub mod cpu;
pub mod descriptors;
mod exclusions;
pub mod memory;
pub mod options;
pub mod pairs;
pub mod point;
pub mod progress;
pub mod report;
pub mod rounds;
pub mod runs;
pub mod servers;
pub mod tasks;
pub mod uring;
pub mod wire;
pub mod work;
