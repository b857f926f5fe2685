//! Memory for received and queued bytes: who owns it, how it is aligned, when it comes back.

mod account;
mod aligned;
mod chunk;
mod pages;
mod pool;
mod send_queue;

pub use account::Account;
pub use aligned::AlignedBuf;
pub use chunk::Chunk;
pub use pool::{RecvPool, TakenBuffer};
pub use send_queue::{Body, Part, QueueEnd, SendQueue};
