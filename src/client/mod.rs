//! Clients: what all of them share, the one for tokio programs, and the one for scripts.

mod blocking;
pub(crate) mod connecting;
pub(crate) mod core;
mod shared;
pub(crate) mod unread;

use std::time::Duration;

use crate::rpc::encode::Encode;
use crate::rpc::message::Message;
use crate::wire::limits::TIMEOUT_US_MAX;
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

pub use self::blocking::{BlockingCall, BlockingClient};
pub(crate) use self::core::target::CallTarget;
pub use self::shared::{Call, Client, ClientBuilder};

/// Something that calls can be made on: a [`Client`](crate::Client), a
/// [`LocalClient`](crate::LocalClient) or a [`BlockingClient`](crate::BlockingClient).
/// `#[ringcall::service]` makes its `…Client` type generic over it. There are no others: what a call takes may
/// become more.
pub trait Caller: Sealed {
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

/// Keeps [`Caller`] to the clients of this crate.
///
/// ```compile_fail,E0277
/// use ringcall::{Caller, Encode, Message, ServiceDescriptor};
///
/// struct Recorder;
///
/// impl Caller for Recorder {
///     type Call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a> = ();
///
///     fn call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a>(
///         &'a self,
///         _: &'static ServiceDescriptor,
///         _: u16,
///         _: E,
///     ) {
///     }
/// }
/// ```
#[expect(
    unnameable_types,
    reason = "that is what keeps others from implementing it"
)]
pub trait Sealed {}

/// A time-out as it travels. One that is longer than 71.6 minutes has no room there: the server is told
/// of none, and this side keeps the time alone.
pub(crate) fn timeout_us(timeout: Duration) -> Result<u32, Status> {
    match timeout.as_micros() {
        0 => Err(Status::deadline_exceeded(
            "the deadline had passed before the call was sent",
        )),
        us if us > u128::from(TIMEOUT_US_MAX) => Ok(NO_TIMEOUT),
        us => Ok(us as u32),
    }
}

/// What travels when the server need not keep the time.
const NO_TIMEOUT: u32 = 0;

/// The status of a call that was sent on a connection that has ended.
pub(crate) fn perhaps_executed(why: &Status) -> Status {
    Status::unavailable(format!(
        "{}; whether the call was executed is not known",
        why.message()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_does_not_fit_travels_as_none_and_never_as_less() {
        let longest = Duration::from_micros(u64::from(u32::MAX));
        let travels = |time| timeout_us(time).ok();
        assert_eq!(travels(longest), Some(u32::MAX));
        assert_eq!(travels(longest + Duration::from_micros(1)), Some(0));
        assert_eq!(travels(Duration::MAX), Some(0));
        assert_eq!(travels(Duration::from_micros(1)), Some(1));
        assert_eq!(travels(Duration::from_nanos(999)), None);
    }
}
