//! What this workspace's benches and fuzz targets use of the internals; not part of the API.

use std::task::Waker;

use rkyv::Archived;

use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::{self, Message};
use crate::shard::timers::{Due, TimerKey, Timers};
use crate::wire::status::Status;

/// Appends the payload of `value` to `out`.
///
/// # Errors
/// When it is longer than 2 GiB, or nests too deep.
#[inline]
pub fn encode<T: Message>(value: &impl Encode<T>, out: &mut Vec<u8>) -> Result<(), String> {
    encode_payload(value, i32::MAX as u32, out).map_err(|error| error.to_string())
}

/// Checks a payload, which must be 16-aligned, and reads it in place.
#[inline]
pub fn access<T: Message>(payload: &[u8]) -> Option<&Archived<T>> {
    message::access::<T>(payload)
}

/// Reads the payload of an ERROR frame; `None` when it can't be one.
pub fn decode_status(code: u16, payload: &[u8]) -> Option<Status> {
    Status::decode_payload(code, payload)
}

/// The timer wheel of a shard, with timers that wake.
#[derive(Debug)]
pub struct TimerWheel(Timers);

/// Names a timer of a [`TimerWheel`].
#[derive(Clone, Copy, Debug)]
pub struct TimerName(TimerKey);

impl TimerWheel {
    /// An empty wheel whose time begins at zero.
    #[expect(clippy::new_without_default, reason = "one way to make one is enough")]
    pub fn new() -> Self {
        Self(Timers::new())
    }

    /// Adds a timer.
    #[inline]
    pub fn add(&mut self, deadline_ns: u64, waker: Waker) -> TimerName {
        TimerName(self.0.add(deadline_ns, Due::Wake(waker)))
    }

    /// Cancels a timer; does nothing when it has fired.
    #[inline]
    pub fn cancel(&mut self, name: TimerName) {
        self.0.cancel(name.0);
    }

    /// Moves the time on and says how many timers have fired.
    #[inline]
    pub fn expire(&mut self, now_ns: u64) -> usize {
        let mut fired = 0;
        self.0.expire(now_ns, |_| fired += 1);
        fired
    }
}
