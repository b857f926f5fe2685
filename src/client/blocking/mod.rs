//! The client for scripts and tests: no runtime, one call at a time.

mod call;
mod kept;
mod lookup;
mod turn;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::kept::Kept;
use self::turn::Turns;
use self::wire::Wire;
use super::core::hook::{Installed, SharedHook};
use super::{CallOptions, CallTarget, ClientHook, Sealed};
use crate::connection::link::nanos;
use crate::wire::limits::Limits;
use crate::wire::status::Status;

/// A client without a runtime, for scripts and tests. One call at a time: calls from several
/// threads queue up, first come, first served. So one connection is enough, and one shard of the server
/// serves it. Where many calls are under way at once, use a [`Client`](crate::Client).
///
/// A call without a deadline of its own has [`BlockingClient::default_deadline`]. When the
/// connection was lost, the next call makes a new one. While that fails, or the server sends each
/// connection away without answering a call, calls wait before the next attempt, longer each time
/// (25 ms to 5 s).
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
    defaults: CallOptions,
    hook: Option<SharedHook>,
    /// When it was made: its clock begins.
    start: Instant,
    turns: Turns<Kept>,
}

/// Time for connecting, unless the call has less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl BlockingClient {
    /// Connects to `target`, `tcp://host:port`, `unix:/path` or `unix:@name`, within 5 s, and
    /// waits until the handshake is done, at most another 5 s.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when `target` is no address; UNAVAILABLE, with the address and the cause,
    /// when it can't be reached.
    pub fn connect(target: &str) -> Result<Self, Status> {
        let target = CallTarget::parse(target)?;
        let limits = Arc::new(Limits::default());
        let wire = Wire::open(&target, &limits, moment_in(None))?;
        Ok(Self {
            target,
            limits,
            defaults: CallOptions::default(),
            hook: None,
            start: Instant::now(),
            turns: Turns::new(Kept::new(wire, fastrand::Rng::new())),
        })
    }

    /// The deadline of calls that set none of their own. Default `None`: they wait for as long as the
    /// connection lives.
    #[must_use]
    pub fn default_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.defaults.set_deadline(deadline);
        self
    }

    /// Has each call looked at by a hook, before it is made and when it has ended; see [`ClientHook`].
    /// Default: none. A second one takes the place of the first.
    #[must_use]
    pub fn hook(mut self, hook: impl ClientHook + Send + Sync) -> Self {
        self.hook = Some(Installed(Arc::new(hook)));
        self
    }
}

/// The moment after such a time, or as far from now as no program runs.
fn moment_in(time: Option<Duration>) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    let at = time.and_then(|time| now.checked_add(time));
    at.unwrap_or(now + CENTURY)
}

impl Sealed for BlockingClient {
    /// It is made at once.
    type CallState<'a> = ();

    fn call_state(&self) {}

    fn defaults(&self) -> &CallOptions {
        &self.defaults
    }

    fn hook(&self) -> Option<&dyn ClientHook> {
        let hook = self.hook.as_ref()?;
        Some(&*hook.0)
    }

    fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
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
