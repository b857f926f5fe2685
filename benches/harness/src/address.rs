//! Where a server listens: `tcp://127.0.0.1:0` or `unix:@name`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// A listening address, written as the library's own users write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix stream socket in the abstract name space, its name without the `@`: however the server
    /// ends, no file is left behind.
    Unix(String),
}

impl Address {
    /// A listening socket, and the address that clients connect to (the port is known now).
    pub fn listen(&self) -> io::Result<(Socket, Self)> {
        let listener = self.socket()?;
        listener.bind(&self.to_sock_addr()?)?;
        listener.listen(BACKLOG)?;
        let bound = match self {
            Self::Tcp(_) => Self::Tcp(
                listener
                    .local_addr()?
                    .as_socket()
                    .ok_or_else(|| io::Error::other("a TCP listener without an IP address"))?,
            ),
            Self::Unix(name) => Self::Unix(name.clone()),
        };
        Ok((listener, bound))
    }

    /// A connected socket that neither delays small writes nor waits for ever.
    pub fn connect(&self) -> io::Result<Socket> {
        let socket = self.socket()?;
        socket.connect(&self.to_sock_addr()?)?;
        // For the handshake, which blocks; io_uring ignores both.
        socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        socket.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
        Ok(socket)
    }

    fn socket(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                // TCP_NODELAY: a small write goes out at once instead of waiting for the peer's
                // acknowledgement. Set on a listener, every socket that it accepts inherits it.
                socket.set_tcp_nodelay(true)?;
                Ok(socket)
            }
            Self::Unix(_) => Socket::new(Domain::UNIX, Type::STREAM, None),
        }
    }

    fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(address) => Ok(SockAddr::from(*address)),
            Self::Unix(name) => SockAddr::unix(abstract_path(name)),
        }
    }
}

/// What stands for the abstract socket of this name where a path is asked for.
pub fn abstract_path(name: &str) -> String {
    format!("\0{name}")
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(address) = text.strip_prefix("tcp://") {
            address
                .parse()
                .map(Self::Tcp)
                .map_err(|error| format!("`{text}`: {error}"))
        } else if let Some(name) = text.strip_prefix("unix:@") {
            Ok(Self::Unix(name.into()))
        } else {
            Err(format!("`{text}` is neither tcp://IP:PORT nor unix:@NAME"))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// Connections that may wait to be accepted: more than any cell opens at once.
const BACKLOG: i32 = 4096;
/// Time that one answer of a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in ["tcp://127.0.0.1:7411", "tcp://[::1]:0", "unix:@bench"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("127.0.0.1:1".parse::<Address>().is_err());
    }

    #[test]
    fn port_zero_becomes_a_port_that_accepts() {
        let any: Address = "tcp://127.0.0.1:0".parse().unwrap();
        let (listener, bound) = any.listen().unwrap();
        assert_ne!(bound, any);
        let client = bound.connect().unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(client.tcp_nodelay().unwrap() && accepted.tcp_nodelay().unwrap());
    }
}
