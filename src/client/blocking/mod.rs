//! The client for scripts and tests: no runtime, one call at a time.

mod call;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use self::call::BlockingCall;
use self::wire::Wire;
use super::{CallTarget, Caller};
use crate::proto::limits::Limits;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::encode::Encode;
use crate::rpc::message::Message;

/// A client without a runtime, for scripts and tests. One call at a time: calls from several
/// threads queue up. Where many calls are under way at once, use a [`Client`](crate::Client).
///
/// Everything that it does ends: a call without a deadline of its own has 30 s. When the
/// connection was lost, the next call makes a new one.
///
/// ```no_run
/// # #[ringcall::service(name = "kv.v1")]
/// # trait Kv { async fn get(key: String) -> Option<Vec<u8>>; }
/// # fn example() -> Result<(), ringcall::Status> {
/// let kv = KvClient::connect_blocking("unix:/run/kv.sock")?;
/// println!("{:?}", kv.get("user:1").wait()?.to_owned());
/// # Ok(()) }
/// ```
pub struct BlockingClient {
    target: CallTarget,
    limits: Arc<Limits>,
    /// `None` after a loss.
    wire: Mutex<Option<Wire>>,
}

/// Time for a call that sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for connecting, unless the call has less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl BlockingClient {
    /// Connects to `target`, `tcp://host:port`, `unix:/path` or `unix:@name`, within 5 s, and
    /// waits until the handshake is done, at most another 5 s. Looking up a host name takes what
    /// the system's resolver takes.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when `target` is no address; UNAVAILABLE, with the address and the cause,
    /// when it can't be reached.
    pub fn connect(target: &str) -> Result<Self, Status> {
        let target = CallTarget::parse(target)?;
        let limits = Arc::new(Limits::default());
        let wire = Wire::open(&target, &limits, Instant::now() + DEFAULT_TIMEOUT)?;
        Ok(Self {
            target,
            limits,
            wire: Mutex::new(Some(wire)),
        })
    }

    /// Does something with a connection that works, as far as one can know before writing to it;
    /// it is kept if it is in order afterwards.
    fn with_wire<R>(
        &self,
        deadline: Instant,
        act: impl FnOnce(&mut Wire) -> Result<R, Status>,
    ) -> Result<R, Status> {
        let mut kept = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out, so that what a panic in `act` leaves behind is dropped.
        let mut wire = kept.take();
        if let Some(found) = &mut wire
            && !found.refresh()
        {
            wire = None;
        }
        let mut wire = match wire {
            Some(wire) => wire,
            None => Wire::open(&self.target, &self.limits, deadline)?,
        };
        let result = act(&mut wire);
        *kept = Some(wire).filter(Wire::is_usable);
        result
    }
}

impl Caller for BlockingClient {
    type Call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a> =
        BlockingCall<'a, Req, Resp, E>;

    fn call<'a, Req: Message, Resp: Message, E: Encode<Req> + 'a>(
        &'a self,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> BlockingCall<'a, Req, Resp, E> {
        BlockingCall::new(self, service, method, request)
    }
}

/// The connection is left out: it holds whole buffers.
impl fmt::Debug for BlockingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingClient")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
