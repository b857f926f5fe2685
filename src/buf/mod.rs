//! Memory for received bytes: who owns it, how it is aligned, when it comes back.

mod aligned;
mod pool;

pub use aligned::AlignedBuf;
pub use pool::{Chunk, RecvPool};
