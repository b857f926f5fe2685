//! Accepting connections by epoll.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;

use super::watched::watch;
use super::{Engine, connection};
use crate::engine::Listener;
use crate::engine::accept::{AcceptBackoff, admit};

/// Accepts until the shard drains.
pub(super) async fn accept_loop(engine: Rc<Engine>, listener: Listener) {
    let Listener { fd, is_tcp } = listener;
    let socket = match watch(fd) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a listener can't be watched; the shard drains");
            engine.shard.mailbox.begin_drain();
            return;
        }
    };
    let mut backoff = AcceptBackoff::new();
    loop {
        let ending = engine.ending.notified();
        if engine.shard.mailbox.must_drain() {
            return;
        }
        let accepted = tokio::select! {
            () = ending => continue,
            accepted = socket.async_io(Interest::READABLE, accept) => accepted,
        };
        match accepted {
            Ok(fd) => {
                backoff.reset();
                engine.turn(|| {
                    if let Some(conn) = admit(&engine.shard, &engine.stream, is_tcp, &fd) {
                        connection::spawn(&engine, conn, fd, false);
                    }
                });
            }
            Err(error) => {
                engine.shard.counters.accept_errors.add(1);
                if let Some(wait_ns) = backoff.failed(&error) {
                    tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
                }
            }
        }
    }
}

fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    // CLOEXEC: programs that the user starts must not inherit connections.
    Ok(accept_with(
        listener,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    )?)
}
