//! Whether an address that is in use is held by a listener, or by something that will go by itself.

use std::fs::read_to_string;
use std::io::ErrorKind;
use std::time::Duration;

use socket2::{SockAddr, Socket, Type};

use super::unix_file;
use crate::net::address::{Address, resolve};

/// Whether somebody listens at an address, or where it overlaps.
pub(super) fn is_live(address: &Address) -> bool {
    let Ok(candidates) = resolve(address) else {
        return false;
    };
    candidates.iter().any(|at| match at.as_socket() {
        Some(socket) if socket.ip().is_unspecified() => has_listener(socket.port()),
        Some(_) => answers(at),
        None => unix_file::is_live(at).unwrap_or(false),
    })
}

/// Whether a connect succeeds. One that does not answer for long, since its backlog is full, is live.
fn answers(at: &SockAddr) -> bool {
    let connected = Socket::new(at.domain(), Type::STREAM, None)
        .and_then(|socket| socket.connect_timeout(at, CONNECT_PATIENCE));
    match connected {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::TimedOut,
    }
}

/// Whether somebody listens on a port at any address of this machine.
fn has_listener(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = read_to_string(table).unwrap_or_default();
        table.lines().any(|line| listens_on(line, port))
    })
}

/// Reads a line of the kernel's table of TCP sockets: `0: 0100007F:1CF3 00000000:0000 0A …`.
fn listens_on(line: &str, port: u16) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next(), fields.nth(1));
    let local_port = local
        .and_then(|local| local.rsplit_once(':'))
        .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    local_port == Some(port) && state == Some(LISTEN)
}

/// The state of a socket that listens, in that table.
const LISTEN: &str = "0A";
/// Time for a connect to this machine, which needs microseconds.
const CONNECT_PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections() {
        let line = |state| format!("   0: 0100007F:1CF3 00000000:0000 {state} 00000000:00000000");
        assert!(listens_on(&line("0A"), 7411));
        assert!(!listens_on(&line("0A"), 7412));
        assert!(!listens_on(&line("06"), 7411), "TIME_WAIT");
        assert!(!listens_on("  sl  local_address rem_address   st", 7411));
    }
}
