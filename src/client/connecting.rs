//! Making a connection: what clients do alike.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Socket, Type};

use crate::platform::options::{StreamOptions, set_stream_options};
use crate::shard::local_client::Target;

/// A socket that never blocks, and that is being connected: it is writable once that is done, and
/// then its pending error says how it went.
pub(crate) fn begin(target: &Target) -> io::Result<Socket> {
    let socket = Socket::new(target.address.domain(), Type::STREAM, None)?;
    set_stream_options(&socket, target.is_tcp, &StreamOptions::default())?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.address) {
        Err(error) if is(&error, Errno::INPROGRESS) => Ok(socket),
        // So a unix socket says it; TCP would drop the request and try again later.
        Err(error) if is(&error, Errno::AGAIN) => Err(io::Error::new(
            error.kind(),
            format!("the server's backlog is full: {error}"),
        )),
        Err(error) => Err(error),
        Ok(()) => Ok(socket),
    }
}

/// How connecting went, when the socket is writable.
pub(crate) fn finish(pending_error: io::Result<Option<io::Error>>) -> io::Result<()> {
    match pending_error? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// The addresses of a name, tried one after the other. One that does not answer leaves time for
/// those after it.
#[derive(Debug)]
pub(crate) struct Candidates {
    addresses: std::vec::IntoIter<Target>,
    deadline: Instant,
    failures: String,
}

impl Candidates {
    pub(crate) fn new(addresses: Vec<Target>, deadline: Instant) -> Self {
        Self {
            addresses: addresses.into_iter(),
            deadline,
            failures: String::new(),
        }
    }

    /// The next address, and the time that it has.
    pub(crate) fn next(&mut self) -> Option<(Target, Duration)> {
        let left = self.addresses.len() as u32;
        let address = self.addresses.next()?;
        let time = self.deadline.saturating_duration_since(Instant::now());
        Some((address, time / left))
    }

    /// Notes why an address was none.
    pub(crate) fn failed(&mut self, cause: &dyn fmt::Display) {
        let separator = if self.failures.is_empty() { "" } else { "; " };
        self.failures += &format!("{separator}{cause}");
    }

    /// What went wrong with all of them.
    pub(crate) fn failures(&self) -> &str {
        &self.failures
    }
}

/// The text for an address that did not answer.
pub(crate) fn no_answer(time: Duration) -> String {
    format!("no answer within {time:.1?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share_of_the_time() {
        let address: std::net::SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let target = Target {
            address: address.into(),
            is_tcp: true,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut candidates = Candidates::new(vec![target.clone(), target], deadline);
        let (_, first) = candidates.next().expect("two");
        assert!(first <= Duration::from_secs(30) && first > Duration::from_secs(20));
        candidates.failed(&"one");
        let (_, second) = candidates.next().expect("one more");
        assert!(second > Duration::from_secs(50));
        candidates.failed(&"two");
        assert!(candidates.next().is_none());
        assert_eq!(candidates.failures(), "one; two");
    }
}
