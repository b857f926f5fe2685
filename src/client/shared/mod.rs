//! The client for tokio programs.
//!
//! All clones share one lock over one [`State`](state::State): where calls go, the protocol state
//! and send buffer of each connection, and a place for each call's outcome. A call serialises
//! straight into the send buffer and wakes the connection's [`Driver`](driver::Driver) if that
//! sleeps; the driver, a tokio task that alone touches the socket, writes all that has gathered at
//! once, cuts what it reads into frames, leaves each response in its call's place and wakes the
//! caller, who validates it and reads it where it was received.

mod attempt;
mod builder;
mod call;
mod channel;
mod driver;
mod driving;
mod link;
mod reader;
mod state;
mod ticket;
mod wakers;

use std::sync::Arc;
use std::task::Poll;

pub use self::builder::ClientBuilder;
use self::call::CallState;
use self::channel::Channel;
use self::ticket::poll_admitted;
use super::{CallOptions, ClientHook, Sealed};
use crate::wire::status::Status;

/// A client for tokio programs: connections that all clones share, on which any number of calls are
/// under way at once. Cheap to clone, and may be used from any thread.
///
/// It begins with one connection, which is one shard of the server. As calls ask for more, it makes
/// more of them, up to one for each shard; see [`ClientBuilder::connections_max`]. A call goes to the
/// connection with the fewest calls in flight, so that calls which are under way at once are served in
/// any order, and by services of different shards.
///
/// It connects again by itself: after the connection was lost or the server has said that it shuts
/// down, the next call makes a new one. Calls that were in flight on a lost connection end with
/// UNAVAILABLE and are never sent twice; those of which nothing was sent yet go to another
/// connection. Where there are several, the loss of one concerns no call on the others. While
/// connecting fails, or the server sends each connection away without answering a call, new attempts
/// keep a growing, jittered distance (25 ms to 5 s), and calls in between fail at once, with the cause,
/// unless [`ClientBuilder::wait_for_ready`] says that they wait.
///
/// It may outlive the runtime that it was made on: the next call connects from the runtime that it is
/// polled on.
///
/// The generated clients wrap it:
///
/// ```no_run
/// # #[ringcall::service(name = "kv.v1")]
/// # trait Kv { async fn get(key: String) -> Option<Vec<u8>>; }
/// # async fn example() -> Result<(), ringcall::Status> {
/// use std::time::Duration;
///
/// let kv = KvClient::connect("tcp://10.0.0.7:7411").await?;
/// let value = kv.get("user:1").deadline(Duration::from_millis(5)).await?;
/// println!("{:?}", value.to_owned());
/// # Ok(()) }
/// ```
///
/// Its connections end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<ClientHandle>,
}

/// Its drop is that of the last clone.
#[derive(Debug)]
struct ClientHandle {
    channel: Arc<Channel>,
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.channel.close();
    }
}

impl Client {
    /// Connects to `target` with default settings; see [`ClientBuilder::connect`].
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn connect(target: &str) -> impl Future<Output = Result<Self, Status>> + Send {
        Self::builder().connect(target)
    }

    /// Sets a client up.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    fn new(channel: Channel) -> Self {
        let channel = Arc::new(channel);
        Self {
            handle: Arc::new(ClientHandle { channel }),
        }
    }

    /// Makes a connection if there is none. Fails if the attempt does.
    async fn connected(&self) -> Result<(), Status> {
        let channel = &self.handle.channel;
        let mut ticket = None;
        std::future::poll_fn(|cx| match channel.with(|state| state.failure()) {
            Some(failure) => Poll::Ready(Err(failure)),
            None => poll_admitted(channel, &mut ticket, cx, |_, _| ()),
        })
        .await
    }
}

impl Sealed for Client {
    type CallState<'a> = CallState<'a>;

    #[inline]
    fn call_state(&self) -> CallState<'_> {
        CallState::new(&self.handle.channel)
    }

    #[inline]
    fn defaults(&self) -> &CallOptions {
        &self.handle.channel.config.defaults
    }

    #[inline]
    fn hook(&self) -> Option<&dyn ClientHook> {
        let hook = self.handle.channel.config.hook.as_ref()?;
        Some(&*hook.0)
    }

    fn now_ns(&self) -> u64 {
        self.handle.channel.now_ns()
    }
}
