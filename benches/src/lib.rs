//! Measures how close the typed server of `ringcall` comes to what the kernel permits.
//!
//! One client drives every server, and the servers differ only in software:
//!
//! 1. [`servers`] holds the peers: [`servers::raw`] echoes bytes on a bare io_uring and is the
//!    physical limit, [`servers::raw_epoll`] does the same on epoll.
//! 2. [`servers::process`] runs one peer in a child process of its own, pinned to the first CPU.
//! 3. [`client`] keeps `connections × depth` calls in flight from the second CPU and records the
//!    latency of each.
//! 4. [`runs`] alternates the peers, A B A B, so that a slow minute of the machine hits all.
//! 5. [`report`] makes one table out of the runs.
//!
//! `cargo bench -p ringcall-benches --bench vs_raw -- --help` lists the options.

pub mod address;
pub mod cell;
pub mod client;
pub mod cpu;
pub mod idle;
pub mod report;
pub mod runs;
pub mod servers;
pub mod uring;
pub mod wire;
