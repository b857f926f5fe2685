//! The address of a server: reading it, and finding what it stands for.

use std::fmt;
use std::net::IpAddr;

use crate::net::address::{Address, resolve};
use crate::net::transport::Transport;
use crate::wire::status::Status;

/// One address of a server: what a socket connects to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: socket2::SockAddr,
    pub(crate) transport: Transport,
}

/// The address of a server, as a client is given it.
#[derive(Clone, Debug)]
pub(crate) struct CallTarget {
    address: Address,
}

impl CallTarget {
    /// Reads an address.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        text.parse()
            .map(|address| Self { address })
            .map_err(|error| Status::invalid_argument(format!("{error}")))
    }

    /// All addresses of a host, at least one; looking it up blocks.
    pub(crate) fn resolve_all(&self) -> Result<Vec<Target>, Status> {
        let found = resolve(&self.address)
            .map_err(|error| Status::unavailable(format!("can't resolve {self}: {error}")))?;
        if found.is_empty() {
            return Err(Status::unavailable(format!("{self} has no address")));
        }
        let transport = self.address.transport();
        let target = |address| Target { address, transport };
        Ok(found.into_iter().map(target).collect())
    }

    /// Whether the host is a name, which must be looked up.
    pub(crate) fn is_name(&self) -> bool {
        matches!(&self.address, Address::Tcp(host, _) if host.parse::<IpAddr>().is_err())
    }

    /// The status of a connection that could not be made.
    pub(crate) fn cannot_connect(&self, error: &dyn fmt::Display) -> Status {
        Status::unavailable(format!("can't connect to {self}: {error}"))
    }

    /// The status of the calls on a connection that has ended, and why.
    pub(crate) fn lost(&self, cause: &dyn fmt::Display) -> Status {
        Status::unavailable(format!("the connection to {self} is lost: {cause}"))
    }
}

impl fmt::Display for CallTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::Code;

    #[test]
    fn a_wrong_address_is_the_callers_mistake() {
        let refused = CallTarget::parse("localhost:80").unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    #[test]
    fn a_unix_path_and_a_literal_need_no_lookup() {
        for (text, transport) in [
            ("unix:/run/a.sock", Transport::Unix),
            ("tcp://127.0.0.1:80", Transport::Tcp),
        ] {
            let found = CallTarget::parse(text)
                .unwrap()
                .resolve_all()
                .unwrap()
                .swap_remove(0);
            assert_eq!(found.transport, transport);
        }
    }
}
