//! What the machine offers to the process: CPUs, limits, io_uring, and sockets.
//!
//! Nothing here knows of frames, shards or engines. The order at start is [`rlimit`] (raise what
//! may be raised), [`uring::probe`] (is io_uring usable), [`cpus`] (how many shards, and where), [`pin`].

mod cgroup;
pub(crate) mod cpus;
pub(crate) mod environment;
mod holder;
pub(crate) mod listen;
pub(crate) mod pin;
pub(crate) mod rlimit;
pub(crate) mod shortage;
mod unix_file;
mod unpinned;
#[cfg(feature = "uring")]
pub(crate) mod uring;
#[cfg(not(feature = "uring"))]
#[path = "without_uring.rs"]
pub(crate) mod uring;
