//! Making a connection: what clients do alike.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{SockRef, Socket, Type};

use crate::client::core::target::Target;
use crate::net::options::{StreamOptions, set_stream_options};

/// A socket that never blocks, and that is being connected: it is writable once that is done, and
/// then its pending error says how it went.
pub(crate) fn begin(target: &Target) -> io::Result<Socket> {
    let socket = Socket::new(target.address.domain(), Type::STREAM, None)?;
    let options = StreamOptions::default().of_client();
    set_stream_options(&socket, target.transport, &options)?;
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
pub(crate) fn finish(
    socket: &impl AsFd,
    pending_error: io::Result<Option<io::Error>>,
) -> io::Result<()> {
    match pending_error? {
        Some(error) => Err(error),
        None => refuse_itself(socket),
    }
}

/// Refuses a socket that is connected to itself. The kernel does that when it chooses, among the ports
/// for outgoing connections, the one that is connected to and where nobody listens.
///
/// # Errors
/// `ConnectionRefused`. Closing the socket then resets the connection: it leaves nothing behind that
/// would keep a server from its port.
pub(crate) fn refuse_itself(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let (near, far) = (socket.local_addr()?, socket.peer_addr()?);
    // Unix sockets without a name are equal too, and no two of them are the same.
    let Some(address) = near.as_socket().filter(|_| near == far) else {
        return Ok(());
    };
    socket.set_linger(Some(Duration::ZERO))?;
    Err(io::Error::new(
        io::ErrorKind::ConnectionRefused,
        format!(
            "Connection refused: nobody listens at {address} (the kernel had chosen the same port for this side \
             and connected the socket to itself; start the server, or give it a port outside of \
             net.ipv4.ip_local_port_range)"
        ),
    ))
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
    use crate::net::transport::Transport;

    /// A socket that is connected to itself, as by chance, but on purpose.
    fn to_itself() -> Socket {
        let socket = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        socket
            .connect(&socket.local_addr().expect("bound"))
            .expect("TCP allows it");
        socket
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_refused_and_leaves_its_port_free() {
        for _ in 0..20 {
            let socket = to_itself();
            let address = socket.local_addr().expect("bound");
            let refused = finish(&socket, socket.take_error()).expect_err("itself");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            assert!(
                refused
                    .to_string()
                    .contains("connected the socket to itself")
            );
            drop(socket);
            // Without SO_REUSEADDR, which would overlook a port in TIME_WAIT.
            let server = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).expect("a socket");
            server.bind(&address).expect("the port is free");
        }
    }

    #[test]
    fn unix_sockets_without_a_name_are_not_taken_for_one() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        refuse_itself(&near).expect("two sockets");
    }

    #[test]
    fn each_address_has_its_share_of_the_time() {
        let address: std::net::SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let target = Target {
            address: address.into(),
            transport: Transport::Tcp,
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
