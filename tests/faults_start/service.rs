//! A server whose methods tell where they run, and hold what they run on.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use ringcall::{Context, Engine, Reply, ServeError, Server, ServerBuilder, Status};
use tokio::sync::Semaphore;

use crate::raw::PATIENCE;

#[ringcall::service(name = "place.v1")]
pub trait Place {
    /// The number of the shard.
    async fn shard() -> u64;
    /// Holds the thread of the shard until it is let go.
    async fn hold() -> u64;
    /// Waits until it is let go, and leaves the thread to others.
    async fn wait() -> u64;
}

/// Lets handlers go on, and is told when they run.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    held: (Sender<()>, Mutex<Receiver<()>>),
    arrived: (Sender<()>, Mutex<Receiver<()>>),
    gate: Semaphore,
}

impl Keeper {
    pub fn new() -> Self {
        let (held, arrived) = (channel(), channel());
        Self(Arc::new(Inner {
            held: (held.0, Mutex::new(held.1)),
            arrived: (arrived.0, Mutex::new(arrived.1)),
            gate: Semaphore::new(0),
        }))
    }

    /// Waits until a handler that holds or waits has begun.
    pub fn until_one_runs(&self) {
        let arrived = self.0.arrived.1.lock().expect("not poisoned");
        arrived.recv_timeout(PATIENCE).expect("it arrives");
    }

    /// Lets one that holds its shard, or one that waits, end.
    pub fn let_go(&self) {
        self.0.held.0.send(()).expect("the receiver is beside it");
        self.0.gate.add_permits(1);
    }
}

impl PlaceHandler for Keeper {
    async fn shard(&self, cx: &Context) -> Result<Reply<u64>, Status> {
        Ok((cx.shard().id() as u64).into())
    }

    async fn hold(&self, cx: &Context) -> Result<Reply<u64>, Status> {
        self.0
            .arrived
            .0
            .send(())
            .expect("the receiver is beside it");
        let held = self.0.held.1.lock().expect("not poisoned");
        held.recv_timeout(PATIENCE).expect("let go in time");
        Ok((cx.shard().id() as u64).into())
    }

    async fn wait(&self, cx: &Context) -> Result<Reply<u64>, Status> {
        self.0
            .arrived
            .0
            .send(())
            .expect("the receiver is beside it");
        self.0.gate.acquire().await.expect("never closed").forget();
        Ok((cx.shard().id() as u64).into())
    }
}

pub fn builder(engine: Engine, shards: usize) -> ServerBuilder {
    Server::builder()
        .shards(shards.try_into().expect("not zero"))
        .pinned(false)
        .engine(engine)
}

pub fn serve(builder: ServerBuilder, keeper: &Keeper) -> Result<Server, ServeError> {
    let keeper = keeper.clone();
    builder.serve(move |_| PlaceServer::new(keeper.clone()))
}

/// Makes a call on a connection of its own; returns the number of the shard.
pub fn shard_of_a_call(address: &str) -> u64 {
    let client = PlaceClient::connect_blocking(address).expect("somebody listens");
    client.shard().wait().expect("answered").to_native()
}

/// A path for a unix socket that no other test uses, on a file system that is not in memory where the
/// build directory is on one: such ones give inode numbers out again.
pub fn socket_path(test: &str) -> PathBuf {
    let name = format!("{test}-{}.sock", std::process::id());
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    entries("/proc/self/fd")
}

/// Threads of this process.
pub fn threads() -> usize {
    entries("/proc/self/task")
}

fn entries(path: &str) -> usize {
    std::fs::read_dir(path).expect("Linux has it").count()
}

pub fn engine(name: &str) -> Engine {
    match name {
        "uring" => Engine::Uring,
        "epoll" => Engine::Epoll,
        _ => Engine::Auto,
    }
}
