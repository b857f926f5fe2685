//! Listening sockets on the ring.

use std::io;
use std::rc::Rc;

use super::kernel::Kernel;
use super::operation::Operation;
use super::sockets::Sockets;
use crate::engine::Listener;
use crate::engine::accept::{AcceptBackoff, SharedListener};
use crate::net::options::StreamOptions;
use crate::net::transport::Transport;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;

/// The listeners of a shard. Each has one multishot operation in flight, which is started again when
/// the kernel has ended it: an accept for those that are this shard's alone, a poll for those that
/// it shares. (The kernel hands all connections of a shared socket to the accept that was started
/// first, even while its shard is held.)
pub(super) struct Listeners<K: Kernel> {
    listeners: Vec<State<K::Socket>>,
    /// Whether one of them may have to be started.
    is_stale: bool,
}

struct State<S> {
    /// `None` once the shard drains.
    socket: Option<Rc<S>>,
    shared: Option<SharedListener>,
    key: Option<super::operation::OpKey>,
    /// Not to be started before this time.
    retry_ns: Option<u64>,
    backoff: AcceptBackoff,
    is_cancelled: bool,
}

impl<K: Kernel> Listeners<K> {
    pub(super) fn new(listeners: Vec<Listener<K::Socket>>, me: usize) -> Self {
        let shared = |sharers| SharedListener::new(sharers, me);
        let listeners = listeners.into_iter().map(|listener| State {
            socket: Some(Rc::new(listener.fd)),
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
        ring: &mut K,
        sockets: &mut Sockets<K>,
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
        ring: &mut K,
        sockets: &mut Sockets<K>,
        shard: &Rc<ShardCore>,
        is_draining: bool,
    ) -> io::Result<()> {
        self.is_stale = false;
        for (index, state) in self.listeners.iter_mut().enumerate() {
            if is_draining {
                // With the accept's own hold on it, the socket closes: whoever connects from now on is
                // refused, and not left to wait for the end.
                (state.socket, state.retry_ns) = (None, None);
                if let Some(key) = state.key
                    && !std::mem::replace(&mut state.is_cancelled, true)
                {
                    ring.cancel(key)?;
                }
                continue;
            }
            let Some(socket) = &state.socket else {
                continue;
            };
            if let Some(shared) = &mut state.shared {
                if state.key.is_none() {
                    let poll = Operation::Poll {
                        listener: index as u32,
                    };
                    state.key = Some(ring.start(socket, poll)?);
                }
                let options = sockets.options().clone();
                shared.accept_due(
                    shard,
                    || {
                        let accepted = ring.accept_now(socket)?;
                        let conn = ring.admit(shard, &options, Transport::Unix, &accepted);
                        Ok(conn.map(|conn| (conn, accepted)))
                    },
                    |conn, accepted| sockets.add(conn, accepted),
                );
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
            state.key = Some(ring.start(socket, accept)?);
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
        ring: &mut K,
        shard: &Rc<ShardCore>,
        options: &StreamOptions,
        listener: u32,
        result: io::Result<u32>,
        is_last: bool,
    ) -> Option<(Rc<Conn>, K::Socket)> {
        let state = &mut self.listeners[listener as usize];
        if is_last {
            state.key = None;
            self.is_stale = true;
        }
        match result {
            Ok(accepted) => {
                state.backoff.reset();
                let socket = ring.accepted(accepted);
                let conn = ring.admit(shard, options, Transport::Tcp, &socket)?;
                Some((conn, socket))
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
