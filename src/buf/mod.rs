//! Memory for received and queued bytes: who owns it, how it is aligned, when it comes back.

mod aligned;
mod pool;
mod send_queue;

pub use aligned::AlignedBuf;
pub use pool::{Chunk, RecvPool};
pub use send_queue::{Part, SendQueue};
