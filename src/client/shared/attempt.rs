//! One attempt to connect and, if it succeeds, the life of the connection. This is its task.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};

use super::channel::Channel;
use super::driver::Driver;
use crate::client::CallTarget;
use crate::client::connecting::{Candidates, begin, finish, no_answer};
use crate::client::core::cause::Cause;
use crate::client::core::target::Target;
use crate::net::transport::Transport;
use crate::wire::status::Status;

/// Connects after a pause, and drives the connection until it ends.
pub(super) async fn run(mut attempt: Attempt, pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let channel = Arc::clone(&attempt.channel);
    let stream = match connect(&channel.target, channel.config.connect_timeout).await {
        Ok(stream) => stream,
        Err(status) => {
            attempt.end = End::NoConnection(status);
            return;
        }
    };
    let limits = Arc::clone(&channel.config.limits);
    let now_ns = channel.now_ns();
    let link = channel.with(|state| state.add_link(limits, now_ns));
    attempt.end = End::Link(link, Cause::TaskEnded);
    let cause = match stream {
        Stream::Tcp(stream) => Driver::new(channel, link, stream).run().await,
        Stream::Unix(stream) => Driver::new(channel, link, stream).run().await,
    };
    attempt.end = End::Link(link, cause);
}

/// Its drop says what has become of the attempt, also when the runtime never runs its task, drops
/// it, or it panics: so every call ends.
pub(super) struct Attempt {
    channel: Arc<Channel>,
    end: End,
}

enum End {
    /// Its task was dropped before there was a connection.
    Dropped,
    NoConnection(Status),
    Link(u64, Cause),
}

impl Attempt {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self {
            channel,
            end: End::Dropped,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let target = &self.channel.target;
        let now_ns = self.channel.now_ns();
        self.channel.with(|state| match &self.end {
            End::Dropped => {
                // Another runtime may be there by now; if not, this one can't be asked for ever.
                let status = target.cannot_connect(&Cause::TaskEnded);
                state.attempt_failed(true, status, now_ns);
            }
            End::NoConnection(status) => state.attempt_failed(false, status.clone(), now_ns),
            End::Link(id, cause) => state.remove_link(*id, cause, target, now_ns),
        });
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A longer time is as good as none, and may be more than a clock can hold.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Connects to the first address of the target that answers.
async fn connect(target: &CallTarget, timeout: Duration) -> Result<Stream, Status> {
    let deadline = Instant::now() + timeout.min(TIMEOUT_MAX);
    let found = tokio::time::timeout_at(deadline.into(), look_up(target)).await;
    let addresses = found.map_err(|_| target.cannot_connect(&no_answer(timeout)))??;
    let mut candidates = Candidates::new(addresses, deadline);
    while let Some((address, time)) = candidates.next() {
        match tokio::time::timeout(time, connect_to(&address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => candidates.failed(&error),
            Err(_) => candidates.failed(&no_answer(time)),
        }
    }
    Err(target.cannot_connect(&candidates.failures()))
}

/// All addresses of a host; a name is looked up on a thread that may block.
async fn look_up(target: &CallTarget) -> Result<Vec<Target>, Status> {
    if !target.is_name() {
        return target.resolve_all();
    }
    let wanted = target.clone();
    tokio::task::spawn_blocking(move || wanted.resolve_all())
        .await
        .map_err(|error| Status::unavailable(format!("can't resolve {target}: {error}")))?
}

async fn connect_to(address: &Target) -> io::Result<Stream> {
    let socket = OwnedFd::from(begin(address)?);
    if address.transport == Transport::Tcp {
        let stream = TcpStream::from_std(socket.into())?;
        stream.writable().await?;
        finish(&stream, stream.take_error())?;
        Ok(Stream::Tcp(stream))
    } else {
        // A unix socket is connected at once or not at all.
        UnixStream::from_std(socket.into()).map(Stream::Unix)
    }
}
