//! What both engines do when an accept fails.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use socket2::SockRef;

use crate::platform::listen::{StreamOptions, set_stream_options};
use crate::proto::frames::append_goaway;
use crate::proto::goaway::Goaway;
use crate::proto::violation::Violation;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;

/// What to do after a failed accept. The loop never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterAccept {
    /// The one connection failed, such as by ECONNABORTED; the next may be fine.
    Again,
    /// Descriptors or memory are short: wait a little.
    Later,
}

impl AfterAccept {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => Self::Later,
            _ => Self::Again,
        }
    }
}

/// Grows from 10 to 100 ms while accepts keep failing.
#[derive(Debug)]
pub(super) struct AcceptBackoff {
    wait_ns: u64,
}

const FIRST_NS: u64 = 10_000_000;
const LONGEST_NS: u64 = 100_000_000;

impl AcceptBackoff {
    pub(super) fn new() -> Self {
        Self { wait_ns: FIRST_NS }
    }

    /// Time to wait before the next try, in nanoseconds.
    pub(super) fn next_ns(&mut self) -> u64 {
        let wait_ns = self.wait_ns;
        self.wait_ns = (wait_ns * 2).min(LONGEST_NS);
        wait_ns
    }

    /// An accept succeeded.
    pub(super) fn reset(&mut self) {
        self.wait_ns = FIRST_NS;
    }
}

/// Prepares a fresh socket and enters it as a connection, unless there are too many.
pub(super) fn admit(
    shard: &Rc<ShardCore>,
    options: &StreamOptions,
    is_tcp: bool,
    socket: &impl AsFd,
) -> Option<Rc<Conn>> {
    if let Err(error) = set_stream_options(socket, is_tcp, options) {
        // Seen when the peer has gone already; the connection will say so itself.
        tracing::debug!(%error, "socket options not set");
    }
    let conn = shard.accept(peer_name(socket).into());
    if conn.is_none() {
        turn_away(socket);
    }
    conn
}

/// The peer's address, for logs and handlers.
fn peer_name(socket: &impl AsFd) -> String {
    SockRef::from(socket)
        .peer_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .map_or_else(|| "unix".to_owned(), |address| address.to_string())
}

/// Tells a peer for which there is no room why it is turned away. Best effort: a fresh socket has
/// room for one small frame, and is closed at once.
fn turn_away(socket: &impl AsFd) {
    let violation = Violation::TooManyConnections;
    let mut frame = Vec::new();
    let message = violation.to_string();
    append_goaway(
        &mut frame,
        &Goaway {
            reason: violation.reason(),
            last_call_id: 0,
            message,
        },
    );
    // NOSIGNAL: no SIGPIPE when the peer has gone. DONTWAIT: the shard never waits for a peer.
    let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
    if let Err(error) = rustix::net::send(socket, &frame, flags) {
        tracing::debug!(%error, "a peer was turned away without a word");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_wait_and_broken_connections_do_not() {
        let of = |errno| AfterAccept::of(&io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS] {
            assert_eq!(of(errno), AfterAccept::Later);
        }
        for errno in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM] {
            assert_eq!(of(errno), AfterAccept::Again);
        }
    }

    #[test]
    fn the_wait_stays_between_10_and_100_ms() {
        let mut backoff = AcceptBackoff::new();
        let waits: Vec<u64> = (0..6).map(|_| backoff.next_ns() / 1_000_000).collect();
        assert_eq!(waits, [10, 20, 40, 80, 100, 100]);
    }
}
