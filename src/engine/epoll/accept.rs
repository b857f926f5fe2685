//! Listening sockets by epoll.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::{SocketFlags, accept_with};

use super::readiness::Readiness;
use super::sockets::Sockets;
use crate::engine::Listener;
use crate::engine::accept::{AcceptBackoff, SharedListener, admit};
use crate::net::options::StreamOptions;
use crate::net::transport::Transport;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;

/// The listeners of a shard.
pub(super) struct Listeners {
    listeners: Vec<State>,
    /// Whether one of them may have to be watched again, or is new.
    is_stale: bool,
}

struct State {
    /// `None` once the shard drains.
    fd: Option<OwnedFd>,
    shared: Option<SharedListener>,
    is_watched: bool,
    /// Not to be watched before this time.
    retry_ns: Option<u64>,
    backoff: AcceptBackoff,
}

impl Listeners {
    pub(super) fn new(listeners: Vec<Listener>, me: usize) -> Self {
        let shared = |sharers| SharedListener::new(sharers, me);
        let listeners = listeners.into_iter().map(|listener| State {
            fd: Some(listener.fd),
            shared: listener.sharers.map(shared),
            is_watched: false,
            retry_ns: None,
            backoff: AcceptBackoff::new(),
        });
        Self {
            listeners: listeners.collect(),
            is_stale: true,
        }
    }

    /// Watches the listeners, and accepts from those that are shared, where that is due; once the
    /// shard drains, closes them.
    pub(super) fn arm(
        &mut self,
        readiness: &Readiness,
        sockets: &mut Sockets,
        shard: &Rc<ShardCore>,
        is_draining: bool,
    ) -> io::Result<()> {
        if is_draining {
            self.close(readiness);
            return Ok(());
        }
        if !std::mem::take(&mut self.is_stale) {
            return Ok(());
        }
        for (index, state) in self.listeners.iter_mut().enumerate() {
            let Some(fd) = &state.fd else {
                continue;
            };
            if let Some(shared) = &mut state.shared {
                if !std::mem::replace(&mut state.is_watched, true) {
                    readiness.add_shared_listener(index as u32, fd)?;
                }
                let options = sockets.options().clone();
                shared.accept_due(
                    shard,
                    || {
                        let accepted = accept_with(fd, FLAGS)?;
                        let conn = admit(shard, &options, Transport::Unix, &accepted);
                        Ok(conn.map(|conn| (conn, accepted)))
                    },
                    |conn, accepted| sockets.add(readiness, conn, accepted, false),
                );
                state.retry_ns = shared.retry_ns();
                self.is_stale |= state.retry_ns.is_some();
                continue;
            }
            if state.is_watched {
                continue;
            }
            if state.retry_ns > Some(shard.now_ns()) {
                self.is_stale = true;
                continue;
            }
            state.retry_ns = None;
            readiness.add_listener(index as u32, fd)?;
            state.is_watched = true;
        }
        Ok(())
    }

    /// Whoever connects from now on is refused, and not left to wait for the end. Other shards may
    /// share the socket, so that it is taken out here and not by the kernel.
    fn close(&mut self, readiness: &Readiness) {
        for state in &mut self.listeners {
            if let Some(fd) = state.fd.take()
                && std::mem::take(&mut state.is_watched)
                && let Err(error) = readiness.remove_listener(fd)
            {
                tracing::debug!(%error, "a listener is still watched");
            }
            state.retry_ns = None;
        }
    }

    /// When a listener that failed must be looked at again.
    pub(super) fn retry_ns(&self) -> Option<u64> {
        self.listeners
            .iter()
            .filter_map(|state| state.retry_ns)
            .min()
    }

    /// Accepts one connection: a connection of the shard with its socket, or nothing. While there are
    /// more, the kernel tells again. From a listener that is shared it is accepted later in the turn.
    pub(super) fn ready(
        &mut self,
        readiness: &Readiness,
        shard: &Rc<ShardCore>,
        options: &StreamOptions,
        index: u32,
    ) -> io::Result<Option<(Rc<Conn>, OwnedFd)>> {
        let state = &mut self.listeners[index as usize];
        let Some(listener) = &state.fd else {
            return Ok(None);
        };
        if let Some(shared) = &mut state.shared {
            shared.told();
            self.is_stale = true;
            return Ok(None);
        }
        match accept_with(listener, FLAGS).map_err(io::Error::from) {
            Ok(fd) => {
                state.backoff.reset();
                Ok(admit(shard, options, Transport::Tcp, &fd).map(|conn| (conn, fd)))
            }
            // The peer has given up.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                shard.counters.accept_errors.add(1);
                if let Some(wait_ns) = state.backoff.failed(&error) {
                    readiness.remove_listener(listener)?;
                    state.is_watched = false;
                    state.retry_ns = Some(shard.now_ns() + wait_ns);
                    self.is_stale = true;
                }
                Ok(None)
            }
        }
    }
}

/// Of what is accepted. CLOEXEC: programs that the user starts must not inherit connections.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
