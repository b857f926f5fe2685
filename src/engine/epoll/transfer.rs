//! The two calls that move bytes. Neither ever waits.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::connection::outgoing::{Outgoing, PARTS_MAX};

/// Receives into `memory`; zero bytes are the peer's end.
pub(super) fn receive(socket: impl AsFd, memory: &mut [u8]) -> io::Result<usize> {
    retry(|| rustix::net::recv(&socket, &mut *memory, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes))
}

/// Sends what is left of a message, or the first part of it.
pub(super) fn send(socket: impl AsFd, message: &Outgoing) -> io::Result<usize> {
    // NOSIGNAL: a closed peer is an error, not a SIGPIPE.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if message.part_count() == 1 {
        let bytes = message.unsent().next().unwrap_or_default();
        return retry(|| rustix::net::send(&socket, bytes, flags));
    }
    let mut slices = [IoSlice::new(&[]); PARTS_MAX];
    let mut count = 0;
    for (slice, bytes) in slices.iter_mut().zip(message.unsent()) {
        *slice = IoSlice::new(bytes);
        count += 1;
    }
    let slices = &slices[..count];
    retry(|| rustix::net::sendmsg(&socket, slices, &mut SendAncillaryBuffer::default(), flags))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => (),
            other => return Ok(other?),
        }
    }
}
