//! Descriptors that the runtime watches.
#![allow(
    unsafe_code,
    reason = "tokio asks for a promise about the descriptor that types can't make"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets the runtime watch a descriptor, which closes with the result.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open as long as it exists, always has the same number, and is moved
    // in here, so nobody else can close it.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
