//! What both engines do when they accept, and when that fails.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use socket2::SockRef;

use super::sharing::{Sharer, Sharing};

use crate::net::options::{StreamOptions, set_stream_options};
use crate::net::transport::Transport;
use crate::platform::shortage::NOFILE_REMEDY;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;
use crate::wire::frame_writer::append_goaway;
use crate::wire::goaway::Goaway;
use crate::wire::violation::Violation;

/// What to do after a failed accept. The loop never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterAccept {
    /// The one connection failed, such as by ECONNABORTED; the next may be fine.
    Again,
    /// Descriptors or memory are short: wait a little.
    Later,
}

impl AfterAccept {
    fn of(error: &io::Error) -> Self {
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
    failures: u64,
}

const FIRST_NS: u64 = 10_000_000;
const LONGEST_NS: u64 = 100_000_000;
/// Of this many failures one is logged: about one in ten seconds while descriptors are short.
const FAILURES_PER_LINE: u64 = 100;

impl AcceptBackoff {
    pub(super) fn new() -> Self {
        Self {
            wait_ns: FIRST_NS,
            failures: 0,
        }
    }

    /// An accept failed. Logs it, unless it was logged of late, and gives the time to wait before
    /// the next try in nanoseconds, if there is one.
    pub(super) fn failed(&mut self, error: &io::Error) -> Option<u64> {
        if self.is_said() {
            let failures = self.failures;
            let advice = advice(error);
            tracing::warn!(%error, failures, "accept failed{advice}");
        }
        (AfterAccept::of(error) == AfterAccept::Later).then(|| self.next_ns())
    }

    /// Counts a failure, and tells whether it is one to be logged. Success does not begin the count
    /// anew: while descriptors are short, each connection that ends lets one accept succeed.
    fn is_said(&mut self) -> bool {
        self.failures += 1;
        self.failures % FAILURES_PER_LINE == 1
    }

    fn next_ns(&mut self) -> u64 {
        let wait_ns = self.wait_ns;
        self.wait_ns = (wait_ns * 2).min(LONGEST_NS);
        wait_ns
    }

    /// An accept succeeded.
    pub(super) fn reset(&mut self) {
        self.wait_ns = FIRST_NS;
    }
}

/// A listener that all shards share, each of which is told of every connection.
pub(super) struct SharedListener {
    sharing: Sharing,
    /// Whether there may be connections to accept.
    is_pending: bool,
    /// When to look again, if that is known.
    retry_ns: Option<u64>,
    /// Whether that is because an accept failed.
    is_backing_off: bool,
    backoff: AcceptBackoff,
}

/// Connections that are accepted in one turn; those that are open already get their turn in between.
const ACCEPTS_PER_TURN: usize = 16;

impl SharedListener {
    pub(super) fn new(sharers: Arc<[Sharer]>, me: usize) -> Self {
        Self {
            sharing: Sharing::new(sharers, me),
            // What came before it was watched is not told.
            is_pending: true,
            retry_ns: None,
            is_backing_off: false,
            backoff: AcceptBackoff::new(),
        }
    }

    /// The kernel has told of a connection.
    pub(super) fn told(&mut self) {
        self.is_pending = true;
    }

    /// When to look again although the kernel tells nothing.
    pub(super) fn retry_ns(&self) -> Option<u64> {
        self.retry_ns
    }

    /// Accepts what is this shard's to accept now. `accept` gives the next connection with its socket,
    /// without one if there is no room for it; each is given to `add`.
    pub(super) fn accept_due<S>(
        &mut self,
        shard: &Rc<ShardCore>,
        mut accept: impl FnMut() -> io::Result<Option<(Rc<Conn>, S)>>,
        mut add: impl FnMut(&Rc<Conn>, S),
    ) {
        let now_ns = shard.now_ns();
        if !self.is_pending || (self.is_backing_off && self.retry_ns > Some(now_ns)) {
            return;
        }
        (self.retry_ns, self.is_backing_off) = (None, false);
        for _ in 0..ACCEPTS_PER_TURN {
            if let Err(until_ns) = self.sharing.may_accept(now_ns) {
                self.retry_ns = Some(until_ns);
                return;
            }
            match accept() {
                Ok(accepted) => {
                    self.backoff.reset();
                    if let Some((conn, socket)) = accepted {
                        add(&conn, socket);
                    }
                    self.sharing.accepted();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_pending = false;
                    self.sharing.found_none();
                    return;
                }
                Err(error) => {
                    shard.counters.accept_errors.add(1);
                    if let Some(wait_ns) = self.backoff.failed(&error) {
                        (self.retry_ns, self.is_backing_off) = (Some(now_ns + wait_ns), true);
                        return;
                    }
                }
            }
        }
        self.retry_ns = Some(now_ns);
    }
}

/// What to do about an accept that failed, to follow the sentence that says so.
fn advice(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            format!(": the process has used up RLIMIT_NOFILE; remedy: {NOFILE_REMEDY}")
        }
        _ => String::new(),
    }
}

/// Prepares a fresh socket and enters it as a connection, unless there are too many.
pub(super) fn admit(
    shard: &Rc<ShardCore>,
    options: &StreamOptions,
    transport: Transport,
    socket: &impl AsFd,
) -> Option<Rc<Conn>> {
    // What a TCP listener accepts inherits its options.
    if transport != Transport::Tcp
        && let Err(error) = set_stream_options(socket, transport, options)
    {
        // Seen when the peer has gone already; the connection will say so itself.
        tracing::debug!(%error, "socket options not set");
    }
    let conn = shard.accept(peer_name(socket).into(), transport);
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
    fn the_first_failure_is_logged_and_then_one_in_a_hundred() {
        let mut backoff = AcceptBackoff::new();
        let said: Vec<u64> = (1..=250)
            .filter(|_| {
                backoff.reset();
                backoff.is_said()
            })
            .collect();
        assert_eq!(said, [1, 101, 201]);
    }

    #[test]
    fn a_lack_of_descriptors_comes_with_its_remedy() {
        let of = |errno| advice(&io::Error::from_raw_os_error(errno));
        assert!(of(libc::EMFILE).contains("LimitNOFILE="));
        assert_eq!(of(libc::ECONNABORTED), "");
    }

    #[test]
    fn the_wait_stays_between_10_and_100_ms() {
        let mut backoff = AcceptBackoff::new();
        let waits: Vec<u64> = (0..6).map(|_| backoff.next_ns() / 1_000_000).collect();
        assert_eq!(waits, [10, 20, 40, 80, 100, 100]);
    }
}
