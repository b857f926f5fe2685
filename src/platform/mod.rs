//! What the machine offers to the process: CPUs, limits, io_uring, and sockets.
//!
//! Nothing here knows of frames, shards or engines. The order at start is [`rlimit`] (raise what
//! may be raised), [`uring::probe`] (is io_uring usable), [`cpus`] (how many shards, and where), [`pin`].

mod cgroup;
pub mod cpus;
pub mod environment;
mod holder;
pub mod listen;
pub mod pin;
pub mod rlimit;
pub mod shortage;
mod unix_file;
mod unpinned;
#[cfg(feature = "uring")]
pub mod uring;
#[cfg(not(feature = "uring"))]
#[path = "without_uring.rs"]
pub mod uring;
