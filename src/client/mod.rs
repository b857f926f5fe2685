//! Clients: what all of them share, the one for tokio programs, and the one for scripts.

pub(crate) mod backoff;
mod blocking;
mod cause;
mod connecting;
mod shared;
pub(crate) mod slots;
mod target;

use std::time::Duration;

use crate::proto::limits::TIMEOUT_US_MAX;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::encode::Encode;
use crate::rpc::message::Message;

pub use self::blocking::{BlockingCall, BlockingClient};
pub use self::shared::{Call, Client, ClientBuilder};
pub(crate) use self::target::CallTarget;

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
