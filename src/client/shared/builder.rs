//! How a client is set up.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::channel::Channel;
use crate::client::CallTarget;
use crate::client::core::hook::{ClientHook, Installed, SharedHook};
use crate::client::core::options::CallOptions;
use crate::client::core::spread::CONNECTIONS_MAX;
use crate::wire::limits::Limits;
use crate::wire::limits_error::LimitsError;
use crate::wire::status::Status;

/// A client to be; see [`Client::builder`]. Every setting has a default.
///
/// ```no_run
/// # async fn example() -> Result<(), ringcall::Status> {
/// use std::time::Duration;
///
/// let client = ringcall::Client::builder()
///     .default_deadline(Some(Duration::from_millis(100)))
///     .connect_timeout(Duration::from_secs(2))
///     .connect("tcp://10.0.0.7:7411")
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is connected before `connect` or `connect_lazy`"]
pub struct ClientBuilder {
    limits: Limits,
    defaults: CallOptions,
    hook: Option<SharedHook>,
    connect_timeout: Duration,
    waits_for_ready: bool,
    connections_max: usize,
}

/// The settings of a client.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) limits: Arc<Limits>,
    pub(super) defaults: CallOptions,
    pub(super) hook: Option<SharedHook>,
    pub(super) connect_timeout: Duration,
    pub(super) waits_for_ready: bool,
    pub(super) connections_max: usize,
}

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            limits: Limits::default(),
            defaults: CallOptions::default(),
            hook: None,
            connect_timeout: Duration::from_secs(5),
            waits_for_ready: false,
            connections_max: CONNECTIONS_MAX,
        }
    }

    /// What is accepted from the server, and how much is queued for it; see each field of
    /// [`Limits`]. Calls beyond [`Limits::calls_in_flight_max`] (or the server's, if that is
    /// lower), or beyond [`Limits::write_queue_bytes_high`] of queued requests, wait for their
    /// turn. Both are those of one connection: with several connections, of each.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The deadline of calls that set none of their own. Default `None`: they wait for as long as
    /// the connection lives.
    pub fn default_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.defaults.set_deadline(deadline);
        self
    }

    /// Has each call looked at by a hook, before it is made and when it has ended; see [`ClientHook`].
    /// Default: none. A second one takes the place of the first.
    pub fn hook(mut self, hook: impl ClientHook + Send + Sync) -> Self {
        self.hook = Some(Installed(Arc::new(hook)));
        self
    }

    /// Time for looking the name up and connecting, over all addresses of the name. The handshake
    /// has [`Limits::handshake_timeout`] after that. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Whether calls wait while the server can't be reached, until it can or their deadline has
    /// passed. Default: no, they fail at once with UNAVAILABLE, which says why and when the next
    /// attempt is.
    pub fn wait_for_ready(mut self, waits: bool) -> Self {
        self.waits_for_ready = waits;
        self
    }

    /// The most connections that the client keeps for calls: at least 1, default 32, and never more than
    /// the server has shards.
    ///
    /// A server serves a connection on one of its shards, which is one CPU. The client begins with one
    /// connection; while eight calls or more are in flight on each, or calls wait for room, it makes
    /// another, one after the other. Each goes to another shard, and each call goes to the connection
    /// with the fewest calls in flight. They stay until the client is dropped or they are lost. While one
    /// is made there may be one more for a moment.
    ///
    /// With 1 all calls go over one connection, are begun in the order in which they were sent, and are
    /// served by one shard: choose it where a service keeps something on its shard that later calls of
    /// the same client must find.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Connects to `target`, `tcp://host:port`, `unix:/path` or `unix:@name`, and waits until the
    /// handshake is done.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when `target` is no address or a setting is out of its range;
    /// FAILED_PRECONDITION outside a tokio runtime; UNAVAILABLE, with the address and the cause,
    /// when this one attempt fails.
    pub fn connect(self, target: &str) -> impl Future<Output = Result<Client, Status>> + Send {
        let client = self.connect_lazy(target);
        async move {
            let client = client?;
            client.connected().await?;
            Ok(client)
        }
    }

    /// Makes a client that connects at its first call. Returns at once.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when `target` is no address or a setting is out of its range.
    pub fn connect_lazy(self, target: &str) -> Result<Client, Status> {
        let wrong = |error: LimitsError| Status::invalid_argument(error.to_string());
        self.limits.check().map_err(wrong)?;
        if self.connections_max == 0 {
            return Err(Status::invalid_argument(
                "ClientBuilder::connections_max is 0, so that no call could be made; use at least 1",
            ));
        }
        let target = CallTarget::parse(target)?;
        let config = Config {
            limits: Arc::new(self.limits),
            defaults: self.defaults,
            hook: self.hook,
            connect_timeout: self.connect_timeout,
            waits_for_ready: self.waits_for_ready,
            connections_max: self.connections_max,
        };
        Ok(Client::new(Channel::new(target, config)))
    }
}
