//! Options of connected sockets.

use socket2::SockRef;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::transport::Transport;

/// Options of connected sockets. Plain data; see each field's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// Size asked for the kernel's receive buffer of a TCP connection, in bytes; `None` leaves it to
    /// the kernel's tuning, which may grow to `net.ipv4.tcp_rmem` (6 MiB by default) each. The kernel
    /// doubles it for its bookkeeping and caps it at `net.core.rmem_max` (208 KiB by default).
    ///
    /// Default 256 KiB: it bounds what ten thousand connections may pin outside of this process's
    /// memory, and carries 256 MiB/s over a round trip of 1 ms. Raise it for large bodies over
    /// long distances.
    pub recv_buffer_bytes: Option<usize>,
    /// Size asked for the send buffer, in bytes, likewise (`net.ipv4.tcp_wmem`,
    /// `net.core.wmem_max`). On a unix socket it is the only buffer there is. Default 256 KiB.
    pub send_buffer_bytes: Option<usize>,
    /// Time after which TCP gives up a connection whose peer acknowledges nothing, in place of
    /// some fifteen minutes; `None` keeps those. Default 30 s, as
    /// long as a connection's queued output may make no progress.
    pub user_timeout: Option<Duration>,
}

impl StreamOptions {
    /// The same for a socket that calls are made on. A server that has enough requests stops reading
    /// for as long as its handlers hold them, and TCP's time-out would take that for its end: it runs
    /// also while the peer acknowledges but has no room. A client asks with PINGs instead.
    pub(crate) fn of_client(&self) -> Self {
        Self {
            user_timeout: None,
            ..self.clone()
        }
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            recv_buffer_bytes: Some(256 << 10),
            send_buffer_bytes: Some(256 << 10),
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// Sets `options` on a connected or still unconnected `socket`.
///
/// What a TCP listener accepts inherits all of them, so that `listen` sets them
/// once. What a unix listener accepts does not: set them again there. A connecting
/// socket takes them before `connect`, since the receive buffer decides on TCP's window scale.
///
/// # Errors
/// `EBADF` and the like; the kernel refuses no value of these options.
pub(crate) fn set_stream_options(
    socket: &impl AsFd,
    transport: Transport,
    options: &StreamOptions,
) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if transport != Transport::Tcp {
        return Ok(());
    }
    if let Some(bytes) = options.recv_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    // Frames are coalesced here, once per turn; Nagle's algorithm would hold back their tail until
    // the peer acknowledges, which delayed acknowledgements stretch to 40 ms.
    socket.set_tcp_nodelay(true)?;
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_unix_socket_takes_the_send_buffer_alone() {
        let (near, _far) = UnixStream::pair().unwrap();
        let options = StreamOptions {
            send_buffer_bytes: Some(50_000),
            ..StreamOptions::default()
        };
        set_stream_options(&near, Transport::Unix, &options).unwrap();
        assert_eq!(SockRef::from(&near).send_buffer_size().unwrap(), 100_000);
    }
}
