//! Clients: what all of them share, the one for tokio programs, and the one for scripts.

mod blocking;
mod call;
pub(crate) mod connecting;
pub(crate) mod core;
mod shared;
pub(crate) mod unread;

use std::fmt;
use std::time::Duration;

use crate::rpc::encode::Encode;
use crate::rpc::message::Message;
use crate::wire::limits::TIMEOUT_US_MAX;
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

pub use self::blocking::BlockingClient;
pub use self::call::Call;
pub use self::core::hook::ClientHook;
pub use self::core::options::CallOptions;
pub(crate) use self::core::target::CallTarget;
pub use self::shared::{Client, ClientBuilder};

/// Something that calls can be made on: a [`Client`](crate::Client), a
/// [`LocalClient`](crate::LocalClient) or a [`BlockingClient`](crate::BlockingClient).
/// `#[ringcall::service]` makes its `…Client` type generic over it. There are no others: what a call takes may
/// become more.
pub trait Caller: Sealed + Sized {
    /// Prepares a call of the method at this place of the descriptor.
    fn call<Req: Message, Resp: Message, E: Encode<Req>>(
        &self,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> Call<'_, Self, Req, Resp, E> {
        Call::new(self, service, method, request)
    }
}

impl<C: Sealed> Caller for C {}

/// What a client does of a call. It keeps [`Caller`] to the clients of this crate.
///
/// ```compile_fail,E0277
/// fn calls<C: ringcall::Caller>(_: C) {}
///
/// struct Recorder;
///
/// calls(Recorder);
/// ```
#[expect(
    unnameable_types,
    reason = "that is what keeps others from implementing it"
)]
pub trait Sealed {
    /// What it keeps of a call. Its drop gives the call up.
    type CallState<'a>: fmt::Debug
    where
        Self: 'a;

    /// Of a call that was prepared.
    fn call_state(&self) -> Self::CallState<'_>;

    /// What calls are made with that say nothing else.
    fn defaults(&self) -> &CallOptions;

    /// Who looks at all calls.
    fn hook(&self) -> Option<&dyn ClientHook>;

    /// The time, on a clock of this client's.
    fn now_ns(&self) -> u64;
}

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
