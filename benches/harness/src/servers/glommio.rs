//! glommio's own sockets: what its network module makes of the same kernel.
//!
//! One task per connection on one executor, with one read and one write at a time.

use std::io;
use std::sync::mpsc;

use futures_util::future::select;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, spawn_local};
use ringcall::Idle;
use tokio::sync::oneshot;

use super::{Announce, Caller, Counters, Frames, Peer, Task, is_echo};
use crate::address::Address;
use crate::point::Point;
use crate::servers::process::Transport;
use crate::uring;

/// The echo on glommio.
pub struct Glommio;

impl Peer for Glommio {
    fn name(&self) -> &'static str {
        "glommio"
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        let &Address::Tcp(address) = task.address else {
            return Err(io::Error::other("glommio listens on TCP here"));
        };
        let (listening, bound) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // Not placed: this process is pinned, or may use all CPUs.
        let executor = LocalExecutorBuilder::default()
            .spawn(move || async move {
                let listener = TcpListener::bind(address).map_err(told)?;
                listening
                    .send(listener.local_addr().map_err(told)?)
                    .map_err(io::Error::other)?;
                select(Box::pin(accept(listener)), stopped).await;
                Ok::<_, io::Error>(())
            })
            .map_err(refused)?;
        // An executor that could not listen says why at its end.
        if let Ok(bound) = bound.recv() {
            announce(&Address::Tcp(bound))?;
            rustix::io::read(task.stop, &mut [0; 1])?;
            // It may have ended by itself; then it says why.
            stop.send(()).ok();
        }
        executor.join().map_err(refused)??;
        Ok(Counters::of_echo("glommio"))
    }

    fn caller(&self) -> Caller<'_> {
        Caller::Frames(self)
    }

    fn takes_part(&self, point: &Point) -> bool {
        is_echo(point.work.workload)
            && point.transport == Transport::Tcp
            && point.cell.idle == Idle::Park
    }
}

impl Frames for Glommio {}

async fn accept(listener: TcpListener) {
    loop {
        // An error here is one connection that gave up, or none left to accept.
        if let Ok(stream) = listener.accept().await {
            spawn_local(echo(stream)).detach();
        }
    }
}

/// Returns all bytes until the peer leaves; whatever fails is that peer's end.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true).map_err(told)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            bytes => stream.write_all(&buffer[..bytes]).await?,
        }
    }
}

/// An executor without a ring, and why there is none.
fn refused(error: impl std::fmt::Display) -> io::Error {
    uring::explain(told(error))
}

/// glommio's errors can't go from thread to thread; their texts can.
fn told(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Bytes that one read takes at most: a whole turn of a deep pipeline.
const BUFFER_BYTES: usize = 64 * 1024;
