//! Listening sockets on the ring.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use rustix::net::SocketFlags;

use super::operation::Operation;
use super::ring::Ring;
use super::sockets::Sockets;
use crate::engine::Listener;
use crate::engine::accept::{AcceptBackoff, SharedListener, admit};
use crate::platform::options::StreamOptions;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;

/// The listeners of a shard. Each has one multishot operation in flight, which is started again when
/// the kernel has ended it: an accept for those that are this shard's alone, a poll for those that
/// it shares. (The kernel hands all connections of a shared socket to the accept that was started
/// first, even while its shard is held.)
pub(super) struct Listeners {
    listeners: Vec<State>,
    /// Whether one of them may have to be started.
    is_stale: bool,
}

struct State {
    /// `None` once the shard drains.
    fd: Option<Rc<OwnedFd>>,
    shared: Option<SharedListener>,
    key: Option<super::operation::OpKey>,
    /// Not to be started before this time.
    retry_ns: Option<u64>,
    backoff: AcceptBackoff,
    is_cancelled: bool,
}

impl Listeners {
    pub(super) fn new(listeners: Vec<Listener>, me: usize) -> Self {
        let shared = |sharers| SharedListener::new(sharers, me, SocketFlags::CLOEXEC);
        let listeners = listeners.into_iter().map(|listener| State {
            fd: Some(Rc::new(listener.fd)),
            shared: listener.sharers.map(shared),
            key: None,
            retry_ns: None,
            backoff: AcceptBackoff::new(),
            is_cancelled: false,
        });
        Self {
            listeners: listeners.collect(),
            is_stale: true,
        }
    }

    /// Accepts where that is due; once the shard drains, stops.
    #[inline]
    pub(super) fn arm(
        &mut self,
        ring: &mut Ring,
        sockets: &mut Sockets,
        shard: &Rc<ShardCore>,
        is_draining: bool,
    ) -> io::Result<()> {
        if !self.is_stale && !is_draining {
            return Ok(());
        }
        self.arm_stale(ring, sockets, shard, is_draining)
    }

    #[cold]
    fn arm_stale(
        &mut self,
        ring: &mut Ring,
        sockets: &mut Sockets,
        shard: &Rc<ShardCore>,
        is_draining: bool,
    ) -> io::Result<()> {
        self.is_stale = false;
        for (index, state) in self.listeners.iter_mut().enumerate() {
            if is_draining {
                // With the accept's own hold on it, the socket closes: whoever connects from now on is
                // refused, and not left to wait for the end.
                (state.fd, state.retry_ns) = (None, None);
                if let Some(key) = state.key
                    && !std::mem::replace(&mut state.is_cancelled, true)
                {
                    ring.cancel(key)?;
                }
                continue;
            }
            let Some(fd) = &state.fd else {
                continue;
            };
            if let Some(shared) = &mut state.shared {
                if state.key.is_none() {
                    let poll = Operation::Poll {
                        listener: index as u32,
                    };
                    state.key = Some(ring.start(fd, poll)?);
                }
                let options = sockets.options().clone();
                shared.accept_due(fd, shard, &options, |conn, fd| sockets.add(conn, fd));
                state.retry_ns = shared.retry_ns();
                self.is_stale |= state.retry_ns.is_some();
                continue;
            }
            if state.key.is_some() {
                continue;
            }
            if state.retry_ns > Some(shard.now_ns()) {
                self.is_stale = true;
                continue;
            }
            state.retry_ns = None;
            let accept = Operation::Accept {
                listener: index as u32,
            };
            state.key = Some(ring.start(fd, accept)?);
        }
        Ok(())
    }

    /// When a listener that failed must be looked at again.
    pub(super) fn retry_ns(&self) -> Option<u64> {
        self.listeners
            .iter()
            .filter_map(|state| state.retry_ns)
            .min()
    }

    /// Takes the result of a poll.
    pub(super) fn told(&mut self, listener: u32, result: io::Result<u32>, is_last: bool) {
        let state = &mut self.listeners[listener as usize];
        if let Err(error) = result {
            tracing::debug!(%error, "watching a listener has ended");
        }
        if is_last {
            state.key = None;
        }
        if let Some(shared) = &mut state.shared {
            shared.told();
        }
        self.is_stale = true;
    }

    /// Takes the result of an accept: a connection of the shard with its socket, or nothing.
    pub(super) fn accepted(
        &mut self,
        shard: &Rc<ShardCore>,
        options: &StreamOptions,
        listener: u32,
        result: io::Result<u32>,
        is_last: bool,
    ) -> Option<(Rc<Conn>, OwnedFd)> {
        let state = &mut self.listeners[listener as usize];
        if is_last {
            state.key = None;
            self.is_stale = true;
        }
        match result {
            Ok(fd) => {
                state.backoff.reset();
                let fd = owned(fd);
                admit(shard, options, true, &fd).map(|conn| (conn, fd))
            }
            Err(error) if state.is_cancelled => {
                tracing::trace!(%error, "accepting has ended");
                None
            }
            Err(error) => {
                shard.counters.accept_errors.add(1);
                if let Some(wait_ns) = state.backoff.failed(&error) {
                    state.retry_ns = Some(shard.now_ns() + wait_ns);
                }
                None
            }
        }
    }
}

/// The connection that an accept has completed with.
#[expect(
    unsafe_code,
    reason = "the kernel hands over a new descriptor as a number"
)]
pub(super) fn owned(fd: u32) -> OwnedFd {
    // SAFETY: the number is the result of an accept, a descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
