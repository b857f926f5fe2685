//! Clients: what all of them share.

pub(crate) mod backoff;

use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::platform::address::Address;
use crate::proto::limits::TIMEOUT_US_MAX;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::encode::Encode;
use crate::rpc::message::Message;
use crate::shard::local_client::Target;

/// Something that calls can be made on: a [`Client`](crate::Client), a
/// [`LocalClient`](crate::LocalClient) or a [`BlockingClient`](crate::BlockingClient).
/// `#[ringcall::service]` makes its `…Client` type generic over it.
pub trait Caller {
    /// A call that was prepared; it may get a deadline, and is sent when it is awaited.
    type Call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a>
    where
        Self: 'a;

    /// Prepares a call of the method at this place of the descriptor.
    fn call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a>(
        &'a self,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> Self::Call<'a, Req, Resp, E>;
}

/// A time-out as it travels. Longer ones than 71 minutes are clamped.
pub(crate) fn timeout_us(timeout: Duration) -> Result<u32, Status> {
    match timeout.as_micros() {
        0 => Err(Status::deadline_exceeded(
            "the deadline had passed before the call was sent",
        )),
        us => Ok(us.min(u128::from(TIMEOUT_US_MAX)) as u32),
    }
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

    /// Looks a host name up, which blocks.
    pub(crate) fn resolve(&self) -> Result<Target, Status> {
        let unavailable = |error: std::io::Error| {
            Status::unavailable(format!("can't resolve {}: {error}", self.address))
        };
        match &self.address {
            Address::Tcp(host, port) => {
                let resolved = (host.as_str(), *port)
                    .to_socket_addrs()
                    .map_err(unavailable)?;
                let address = resolved.into_iter().next().ok_or_else(|| {
                    Status::unavailable(format!("{} has no address", self.address))
                })?;
                Ok(Target {
                    address: address.into(),
                    is_tcp: true,
                })
            }
            Address::Unix(path) => {
                let address = socket2::SockAddr::unix(path).map_err(unavailable)?;
                Ok(Target {
                    address,
                    is_tcp: false,
                })
            }
        }
    }
}

impl std::fmt::Display for CallTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}
