//! What the machine offers to the process: CPUs, limits, io_uring, and sockets.
//!
//! Nothing here knows of frames, shards or engines. The order at start is [`rlimit`] (raise what
//! may be raised), [`probe`] (is io_uring usable), [`cpus`] (how many shards, and where), [`pin`].

pub mod address;
mod cgroup;
pub mod cpus;
pub mod environment;
mod holder;
pub mod listen;
pub mod options;
pub mod pin;
pub mod probe;
pub mod refusal;
pub mod ring;
pub mod rlimit;
mod selftest;
pub mod shortage;
mod unix_file;
mod unpinned;
