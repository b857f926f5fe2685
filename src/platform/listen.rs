//! Listening sockets, one set per shard.

use super::holder::is_live;
use super::shortage;
use super::unix_file::{self, SocketFile};
use crate::net::address::{Address, resolve};
use crate::net::options::{StreamOptions, set_stream_options};
use crate::net::transport::Transport;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// How to listen. Plain data; see each field's default.
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    /// Connections that may wait to be accepted, on each shard's socket (in all, for a unix
    /// address). The kernel caps it at `net.core.somaxconn`, 4096 by default. Default 4096.
    pub backlog: u32,
    /// Whether listening sockets of TCP are nonblocking, as epoll needs them. Default false. A unix
    /// socket always is, since several shards try to accept what one of them gets.
    pub nonblocking: bool,
    /// How long to try again when the address is in use: the kernel frees the sockets of a process
    /// that used io_uring some time after it has ended, even by a signal. Default 1 s.
    pub release_patience: Duration,
    /// Options for what is accepted; see [`set_stream_options`] on which are inherited.
    pub stream: StreamOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            nonblocking: false,
            release_patience: Duration::from_secs(1),
            stream: StreamOptions::default(),
        }
    }
}

/// What listens at one address. Dropping it frees the address, and removes the socket file.
#[derive(Debug)]
pub(crate) struct Listening {
    /// The sockets of each shard: one per resolved address, so usually one. Give them away with
    /// `take` and keep the rest of this until the end.
    pub shards: Vec<Vec<Socket>>,
    address: Address,
    /// Held for its `Drop`.
    _file: Option<SocketFile>,
}

impl Listening {
    /// The address with the port that was really bound, where 0 was asked for.
    pub(crate) fn bound_address(&self) -> &Address {
        &self.address
    }
}

/// Listens on `address` for `shards` shards.
///
/// On TCP each shard has a socket of its own, and the kernel spreads connections over them by a
/// hash of the addresses (`SO_REUSEPORT`); port 0 is chosen once for all. A host name listens on
/// all of its addresses, except those that this machine does not have. On a unix socket all shards
/// share one socket; a file that a dead server left is replaced.
///
/// An address at which something listens already is refused. `SO_REUSEPORT` alone would let a
/// second server of the same user take half of the connections without a word; so the first socket
/// binds and listens without it, which the kernel grants to one program only, and opens the port
/// to the other shards afterwards. No moment is left in which two servers could slip in. (A
/// program that insists on `SO_REUSEPORT` can still join later, if it runs as the same user.)
///
/// # Errors
/// See [`ListenError`]: the address can't be resolved, is in use (after
/// [`ListenOptions::release_patience`]), not permitted, or not of this machine.
///
/// # Panics
/// When `shards` is 0.
pub(crate) fn listen(
    address: &Address,
    shards: usize,
    options: &ListenOptions,
) -> Result<Listening, ListenError> {
    assert!(shards > 0, "a server has at least one shard");
    let until = Instant::now() + options.release_patience;
    let mut pause = RELEASE_PAUSE_MIN;
    loop {
        let result = match address {
            Address::Tcp(host, _) => listen_tcp(address, host, shards, options),
            Address::Unix(_) | Address::UnixAbstract(_) => listen_unix(address, shards, options),
        };
        match result {
            Err(error) if error.is_in_use() => {
                if Instant::now() >= until {
                    return Err(error.with_holder());
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(RELEASE_PAUSE_MAX);
            }
            other => return other,
        }
    }
}

/// Pauses between tries of an address in use. Sockets of a killed process were there for 10 to 100 ms.
const RELEASE_PAUSE_MIN: Duration = Duration::from_millis(5);
const RELEASE_PAUSE_MAX: Duration = Duration::from_millis(100);

fn listen_tcp(
    address: &Address,
    host: &str,
    shards: usize,
    options: &ListenOptions,
) -> Result<Listening, ListenError> {
    let candidates = resolve(address).map_err(ListenError::of(address, "resolve"))?;
    let mut per_shard: Vec<Vec<Socket>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound_port = None;
    let mut unavailable = None;
    for mut candidate in candidates {
        if let (Some(port), Some(mut chosen)) = (bound_port, candidate.as_socket()) {
            chosen.set_port(port);
            candidate = chosen.into();
        }
        let first = match listen_alone(&candidate, options) {
            Ok(first) => first,
            Err(error) if is_unavailable(&error) => {
                unavailable = Some(error);
                continue;
            }
            Err(error) => return Err(ListenError::of(address, "bind")(error)),
        };
        let others = first
            .local_addr()
            .and_then(|bound| {
                bound_port = bound.as_socket().map(|bound| bound.port());
                first.set_reuse_port(true)?;
                (1..shards)
                    .map(|_| listen_with_others(&bound, options))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(ListenError::of(address, "bind for the other shards"))?;
        for (shard, socket) in per_shard
            .iter_mut()
            .zip(std::iter::once(first).chain(others))
        {
            shard.push(socket);
        }
    }
    match (bound_port, unavailable) {
        (Some(port), _) => Ok(Listening {
            shards: per_shard,
            address: Address::Tcp(host.into(), port),
            _file: None,
        }),
        (None, error) => Err(ListenError::of(address, "bind")(
            error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()),
        )),
    }
}

/// Listens if nobody else does: without `SO_REUSEPORT`, another listener is always a conflict.
fn listen_alone(at: &SockAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = prepare(at, options)?;
    socket.bind(at)?;
    start(&socket, options)?;
    Ok(socket)
}

fn listen_with_others(at: &SockAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = prepare(at, options)?;
    socket.set_reuse_port(true)?;
    socket.bind(at)?;
    start(&socket, options)?;
    Ok(socket)
}

fn prepare(at: &SockAddr, options: &ListenOptions) -> io::Result<Socket> {
    // `Socket::new` sets CLOEXEC.
    let socket = Socket::new(at.domain(), Type::STREAM, None)?;
    // Connections of the previous run that linger in TIME_WAIT do not keep a restart waiting.
    socket.set_reuse_address(true)?;
    if at.domain() == Domain::IPV6 {
        // [::] serves IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    set_stream_options(&socket, Transport::Tcp, &options.stream)?;
    socket.set_nonblocking(options.nonblocking)?;
    Ok(socket)
}

fn start(socket: &Socket, options: &ListenOptions) -> io::Result<()> {
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))
}

/// Whether the error means that this machine has no such address, or no IPv6 at all.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

fn listen_unix(
    address: &Address,
    shards: usize,
    options: &ListenOptions,
) -> Result<Listening, ListenError> {
    let bind = |address: &Address| -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&resolve(address)?[0])?;
        start(&socket, options)?;
        Ok(socket)
    };
    let mut file = None;
    let socket = match address {
        Address::Unix(path) => unix_file::claim(path, || bind(address)).map(|(socket, claimed)| {
            file = Some(claimed);
            socket
        }),
        Address::Tcp(..) | Address::UnixAbstract(_) => bind(address),
    }
    .map_err(ListenError::of(address, "bind"))?;
    let mut per_shard = (1..shards)
        .map(|_| socket.try_clone().map(|socket| vec![socket]))
        .collect::<io::Result<Vec<_>>>()
        .map_err(ListenError::of(address, "share among shards"))?;
    per_shard.push(vec![socket]);
    Ok(Listening {
        shards: per_shard,
        address: address.clone(),
        _file: file,
    })
}

/// Why a server can't listen at an address. Its `Display` is one line with what to do; whoever
/// shows it says which address it was.
#[derive(Debug)]
pub(crate) struct ListenError {
    /// The address.
    pub address: Address,
    /// What failed: `resolve`, `bind`, …
    pub step: &'static str,
    /// The error of the system.
    pub error: io::Error,
    /// Whether somebody listens at an address in use; `None` where that was not looked for.
    is_live: Option<bool>,
}

impl ListenError {
    fn of<'a>(address: &'a Address, step: &'static str) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self {
            address: address.clone(),
            step,
            error,
            is_live: None,
        }
    }

    fn is_in_use(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }

    /// Looks whether somebody listens there.
    fn with_holder(mut self) -> Self {
        self.is_live = Some(is_live(&self.address));
        self
    }

    /// What to do.
    pub(crate) fn advice(&self) -> String {
        shortage::explained(&self.error).unwrap_or_else(|| self.advice_on_address().into())
    }

    fn advice_on_address(&self) -> &'static str {
        match (self.error.kind(), self.address.is_tcp()) {
            (io::ErrorKind::AddrInUse, true) if self.is_live == Some(false) => {
                "nobody listens there, but a socket still holds it: the kernel has not yet freed those of a server that \
                 has just ended, or a connection has that port at its own end (`ss -tanp` shows it): start again a little \
                 later, or choose a port outside of sysctl net.ipv4.ip_local_port_range"
            }
            (io::ErrorKind::AddrInUse, false) if self.is_live == Some(false) => {
                "nobody listens there, but a socket still holds it: the kernel has not yet freed that of a server that has \
                 just ended (`ss -lxp` shows it): start again a little later"
            }
            (io::ErrorKind::AddrInUse, true) => {
                "another program (or a second copy of this one) listens there: stop it (`ss -ltnp` shows it) or choose \
                 another port"
            }
            (io::ErrorKind::AddrInUse, false) => {
                "another program (or a second copy of this one) listens there: stop it (`ss -lxp` shows it) or choose \
                 another name"
            }
            (io::ErrorKind::PermissionDenied, true) => {
                "ports below sysctl net.ipv4.ip_unprivileged_port_start, 1024 by default, need CAP_NET_BIND_SERVICE \
                 (AmbientCapabilities= of a systemd unit): grant it or choose a higher port"
            }
            (io::ErrorKind::PermissionDenied, false) => {
                "this user may not write to the directory, or not connect to the socket that is there: change the \
                 permissions or the path"
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                "this machine has no such address: use one that `ip address` shows, or 0.0.0.0 for all"
            }
            (io::ErrorKind::NotFound, false) => "the directory does not exist: create it",
            (io::ErrorKind::AlreadyExists, false) => {
                "something that is not a socket has that path: remove it or choose another path"
            }
            _ if self.step == "resolve" => "check the name, or give the IP address",
            _ => "see the error",
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.step, self.error, self.advice())
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests;
