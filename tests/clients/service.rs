//! The service that the clients are tested with, and what its handlers tell the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringcall::{Context, Engine, Reply, Request, ServeError, Server, ServerBuilder, Status};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the tests call.
#[ringcall::service(name = "probe.v1")]
pub trait Probe {
    /// Returns what it was given.
    async fn echo(text: String) -> String;
    /// Returns what it was given.
    async fn blob(bytes: Vec<u8>) -> Vec<u8>;
    /// Waits for this many milliseconds, then answers with them.
    async fn later(ms: u64) -> u64;
    /// Never answers.
    async fn hang();
    /// The time that the caller gives it, in microseconds.
    async fn remaining() -> Option<u64>;
    /// NOT_FOUND, with a message and details.
    async fn missing();
}

/// What the handlers tell.
#[derive(Clone)]
pub struct Told {
    events: UnboundedSender<Event>,
    running: Arc<AtomicUsize>,
    /// The most handlers of `later` that ran at once.
    pub running_max: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Began,
    Dropped,
}

pub fn told() -> (Told, UnboundedReceiver<Event>) {
    let (events, receiver) = unbounded_channel();
    let told = Told {
        events,
        running: Arc::default(),
        running_max: Arc::default(),
    };
    (told, receiver)
}

struct Impl {
    told: Told,
}

struct TellsOfItsDrop(UnboundedSender<Event>);

impl Drop for TellsOfItsDrop {
    fn drop(&mut self) {
        // A test that has ended listens no more.
        self.0.send(Event::Dropped).unwrap_or_default();
    }
}

impl ProbeHandler for Impl {
    async fn echo(&self, _cx: &Context, text: Request<String>) -> Result<Reply<String>, Status> {
        Ok(Reply::of(text.as_str()))
    }

    async fn blob(&self, _cx: &Context, bytes: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(Reply::of(bytes.as_slice()))
    }

    async fn later(&self, cx: &Context, ms: Request<u64>) -> Result<Reply<u64>, Status> {
        let running = self.told.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.told.running_max.fetch_max(running, Ordering::SeqCst);
        self.told.events.send(Event::Began).unwrap_or_default();
        cx.sleep(Duration::from_millis(ms.to_native())).await;
        self.told.running.fetch_sub(1, Ordering::SeqCst);
        Ok(ms.to_native().into())
    }

    async fn hang(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        let _guard = TellsOfItsDrop(self.told.events.clone());
        self.told.events.send(Event::Began).unwrap_or_default();
        std::future::pending().await
    }

    async fn remaining(&self, cx: &Context) -> Result<Reply<Option<u64>>, Status> {
        Ok(cx
            .call()
            .remaining()
            .map(|time| time.as_micros() as u64)
            .into())
    }

    async fn missing(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        Err(Status::not_found("no such thing").with_details([1, 2, 3]))
    }
}

pub const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];
const ONE: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN;

/// A server of one shard that may still be configured; see [`start`].
pub fn builder(engine: Engine, listen: &str) -> ServerBuilder {
    Server::builder()
        .listen(listen)
        .shards(ONE)
        .pinned(false)
        .engine(engine)
}

pub fn start(builder: ServerBuilder, told: &Told) -> Server {
    try_start(builder, told).expect("the server starts")
}

pub fn try_start(builder: ServerBuilder, told: &Told) -> Result<Server, ServeError> {
    let told = told.clone();
    builder.serve(move |_| ProbeServer::new(Impl { told: told.clone() }))
}

/// A server on a port of its own whose handlers' news nobody wants.
pub fn server(engine: Engine) -> Server {
    start(builder(engine, "tcp://127.0.0.1:0"), &told().0)
}

/// Only a guard: a test that takes longer hangs.
pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("the test hangs")
}

/// An address that nothing listens on: its port was free a moment ago. Each test has a loopback
/// `host` of its own, so that no other takes the port meanwhile.
pub fn dead_address(host: &str) -> String {
    let listener = std::net::TcpListener::bind((host, 0)).expect("a free port");
    format!("tcp://{}", listener.local_addr().expect("bound"))
}
