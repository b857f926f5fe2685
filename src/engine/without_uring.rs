//! Stands in the place of `uring` where ringcall is built without its Cargo feature of that name.

use std::io;

use super::ShardStart;
use crate::platform::uring::Refusal;

/// Locked memory of a shard's ring, which it does not have.
pub(crate) fn locked_bytes() -> u64 {
    0
}

/// Refuses, as the probe has done before.
///
/// # Errors
/// Always.
pub(crate) fn run(_start: ShardStart) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, Refusal))
}
