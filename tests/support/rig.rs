//! A server whose handlers tell the test what becomes of them, and peers that know its methods.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use ringcall::{Context, Engine, Limits, Metrics, Reply, Request, Server, ServerBuilder, Status};
use tokio::sync::Semaphore;

use crate::raw::{ERROR, Frame, PATIENCE, RESPONSE, RawPeer};

#[path = "engines.rs"]
mod engines;
#[allow(unused_imports, reason = "see above")]
pub(crate) use engines::on_both_engines;

/// A message with a part of every kind that can be damaged.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub id: u64,
    pub name: String,
    pub tags: Vec<String>,
    pub points: Vec<(u32, u32)>,
    pub colour: Colour,
    pub solid: bool,
    pub initial: char,
    pub inner: Option<Box<Shape>>,
}

#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub enum Colour {
    Plain,
    Named(String),
    Mixed { parts: Vec<u8> },
}

/// A message that nests without end.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub children: Vec<Node>,
}

#[ringcall::service(name = "threat.v1")]
pub trait Threat {
    /// Returns what it was given.
    async fn echo(body: Vec<u8>) -> Vec<u8>;
    /// Waits until the test lets it end, then returns its label.
    async fn wait(label: u64) -> u64;
    /// Returns that many bytes.
    async fn big(bytes: u64) -> Vec<u8>;
    /// Waits until the test lets it end, then returns that many bytes.
    async fn big_later(bytes: u64) -> Vec<u8>;
    /// Returns the id.
    async fn inspect(shape: Shape) -> u64;
    /// Returns the number of children.
    async fn tree(root: Node) -> u64;
    /// Holds the shard's thread until the test lets it go.
    async fn block() -> u64;
    /// Panics, in one of the ways below.
    async fn fail(how: u64) -> u64;
    /// Keeps what it was given until the test lets it end, then returns its length.
    async fn keep(body: Vec<u8>) -> u64;
}

/// Indices of the methods, once resolved.
pub const ECHO: u16 = 0;
pub const WAIT: u16 = 1;
pub const BIG: u16 = 2;
pub const BIG_LATER: u16 = 3;
pub const INSPECT: u16 = 4;
pub const TREE: u16 = 5;
pub const BLOCK: u16 = 6;
pub const FAIL: u16 = 7;
pub const KEEP: u16 = 8;

/// Ways to panic.
pub const AT_ONCE: u64 = 0;
pub const AFTER_WAITING: u64 = 1;
pub const WHEN_DROPPED: u64 = 2;
pub const AT_THE_END: u64 = 3;

/// What the handlers tell and are told.
#[derive(Debug)]
pub struct Probe {
    /// Handlers that have started.
    pub started: AtomicU64,
    /// Those of `wait` among them.
    pub waits: AtomicU64,
    /// Each permit lets one waiting handler end.
    gate: Semaphore,
    /// Each message lets one `block` handler go on.
    unblock: (Sender<()>, Mutex<Receiver<()>>),
    /// Labels of the `wait` handlers that are gone, whether they have ended or were dropped.
    gone: (Sender<u64>, Mutex<Receiver<u64>>),
}

impl Probe {
    /// Lets so many waiting handlers end.
    pub fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// The label of the next `wait` handler that is gone.
    pub fn next_gone(&self) -> u64 {
        let gone = self.gone.1.lock().expect("not poisoned");
        gone.recv_timeout(PATIENCE).expect("a handler ends in time")
    }

    /// Lets one `block` handler go on.
    pub fn unblock(&self) {
        self.unblock.0.send(()).expect("the receiver is beside it");
    }

    pub fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Handler(Arc<Probe>);

struct TellsGone {
    label: u64,
    to: Sender<u64>,
}

impl Drop for TellsGone {
    fn drop(&mut self) {
        self.to.send(self.label).unwrap_or_default();
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a handler's variable panics when it is dropped");
    }
}

impl Handler {
    fn start(&self) {
        self.0.started.fetch_add(1, Ordering::SeqCst);
    }

    async fn pass_gate(&self) {
        self.0.gate.acquire().await.expect("never closed").forget();
    }
}

impl ThreatHandler for Handler {
    async fn echo(&self, _cx: &Context, body: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        self.start();
        Ok(Reply::of(body.as_slice()))
    }

    async fn wait(&self, _cx: &Context, label: Request<u64>) -> Result<Reply<u64>, Status> {
        self.start();
        self.0.waits.fetch_add(1, Ordering::SeqCst);
        let (label, to) = (label.to_native(), self.0.gone.0.clone());
        let _guard = TellsGone { label, to };
        self.pass_gate().await;
        Ok(label.into())
    }

    async fn big(&self, _cx: &Context, bytes: Request<u64>) -> Result<Reply<Vec<u8>>, Status> {
        self.start();
        Ok(vec![7; bytes.to_native() as usize].into())
    }

    async fn big_later(
        &self,
        _cx: &Context,
        bytes: Request<u64>,
    ) -> Result<Reply<Vec<u8>>, Status> {
        self.start();
        self.pass_gate().await;
        Ok(vec![7; bytes.to_native() as usize].into())
    }

    async fn inspect(&self, _cx: &Context, shape: Request<Shape>) -> Result<Reply<u64>, Status> {
        self.start();
        Ok(shape.id.to_native().into())
    }

    async fn tree(&self, _cx: &Context, root: Request<Node>) -> Result<Reply<u64>, Status> {
        self.start();
        Ok((root.children.len() as u64).into())
    }

    async fn block(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        self.start();
        let unblock = self.0.unblock.1.lock().expect("not poisoned");
        unblock.recv_timeout(PATIENCE).expect("let go in time");
        Ok(0.into())
    }

    async fn keep(&self, _cx: &Context, body: Request<Vec<u8>>) -> Result<Reply<u64>, Status> {
        self.start();
        self.pass_gate().await;
        Ok((body.len() as u64).into())
    }

    async fn fail(&self, cx: &Context, how: Request<u64>) -> Result<Reply<u64>, Status> {
        self.start();
        match how.to_native() {
            AT_ONCE => panic!("at once"),
            AFTER_WAITING => {
                cx.sleep(Duration::from_millis(5)).await;
                panic!("after waiting");
            }
            WHEN_DROPPED => {
                let _guard = PanicsWhenDropped;
                pending().await
            }
            _ => {
                let _guard = PanicsWhenDropped;
                Ok(1.into())
            }
        }
    }
}

/// A server of one shard, and what its handlers tell.
#[derive(Debug)]
pub struct Rig {
    pub server: Server,
    pub probe: Arc<Probe>,
}

/// The default limits with some of them changed.
pub fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Connections that are paused for a reason.
pub fn paused(now: &Metrics, reason: &str) -> u64 {
    let found = now.paused.iter().find(|(name, _)| *name == reason);
    found.expect("a reason").1
}

impl Rig {
    pub fn start(engine: Engine) -> Self {
        Self::with(engine, |builder| builder)
    }

    pub fn with_limits(engine: Engine, change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(engine, |builder| builder.limits(limits(change)))
    }

    pub fn with(engine: Engine, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::try_with(engine, configure).expect("starts")
    }

    pub fn try_with(
        engine: Engine,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, ringcall::ServeError> {
        quieten_handlers();
        let (gone, unblock) = (channel(), channel());
        let probe = Arc::new(Probe {
            started: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            gate: Semaphore::new(0),
            unblock: (unblock.0, Mutex::new(unblock.1)),
            gone: (gone.0, Mutex::new(gone.1)),
        });
        let builder = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .shards(1.try_into().expect("not zero"))
            .pinned(false)
            .drain_timeout(Duration::from_millis(100))
            .engine(engine);
        let shared = Arc::clone(&probe);
        let server =
            configure(builder).serve(move |_| ThreatServer::new(Handler(Arc::clone(&shared))))?;
        Ok(Self { server, probe })
    }

    pub fn address(&self) -> &str {
        &self.server.addresses()[0]
    }

    /// A peer that has said nothing yet.
    pub fn stranger(&self) -> RawPeer {
        RawPeer::connect(self.address())
    }

    /// A peer that has shaken hands and resolved all methods.
    pub fn peer(&self) -> RawPeer {
        resolved(RawPeer::open(self.address()))
    }

    /// Connections ended for this reason so far.
    pub fn rejected(&self, reason: &str) -> u64 {
        let metrics = self.server.metrics();
        let found = metrics.rejected.iter().find(|(name, _)| *name == reason);
        found.expect("a known reason").1
    }

    pub fn rejected_in_all(&self) -> u64 {
        let metrics = self.server.metrics();
        metrics.rejected.iter().map(|(_, count)| count).sum()
    }

    /// Waits until the counters are as wanted.
    pub fn until(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) {
        eventually(what, || is_so(&self.server.metrics()));
    }

    /// Waits until all is quiet: no connection, no call in flight.
    pub fn until_quiet(&self) {
        self.until("quiet", |now| now.connections == 0 && now.in_flight == 0);
    }
}

/// Handlers panic on purpose here; what they say would hide the panic of a test.
fn quieten_handlers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_on_purpose = panic.location().is_some_and(|at| at.file() == file!());
            let thread = std::thread::current();
            if !(is_on_purpose
                && thread
                    .name()
                    .is_some_and(|name| name.starts_with("ringcall")))
            {
                default(panic);
            }
        }));
    });
}

/// Waits for something that nobody announces.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Resolves all methods of the service on a connection.
pub fn resolved(mut peer: RawPeer) -> RawPeer {
    let methods = ThreatServer::<Handler>::DESCRIPTOR.methods;
    let asked: Vec<_> = methods
        .iter()
        .map(|method| (method.name, method.fingerprint))
        .collect();
    let indices: Vec<_> = (0..methods.len() as u16).map(|index| (0, index)).collect();
    assert_eq!(peer.resolve(&asked), indices);
    peer
}

/// Fingerprint of a method, as this build knows it.
pub fn fingerprint(method: u16) -> u64 {
    ThreatServer::<Handler>::DESCRIPTOR.methods[usize::from(method)].fingerprint
}

/// The payload of `echo` and of its answer: an archived vector of bytes.
pub fn bytes_payload(bytes: &[u8]) -> Vec<u8> {
    let mut payload = bytes.to_vec();
    payload.resize(payload.len().next_multiple_of(4), 0);
    let back_to_start = -(payload.len() as i32);
    payload.extend_from_slice(&back_to_start.to_le_bytes());
    payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    payload
}

pub fn echo(call_id: u64, bytes: &[u8]) -> Frame {
    Frame::request(ECHO, call_id, &bytes_payload(bytes))
}

/// A call of a method that takes a number.
pub fn number(method: u16, call_id: u64, argument: u64) -> Frame {
    Frame::request(method, call_id, &argument.to_le_bytes())
}

impl RawPeer {
    /// Makes one honest call, and sees that it is answered.
    pub fn echo_works(&mut self, call_id: u64) {
        self.send(&echo(call_id, b"still here"));
        self.expect_response(call_id, &bytes_payload(b"still here"));
    }

    /// Reads the response to this call.
    pub fn expect_response(&mut self, call_id: u64, payload: &[u8]) {
        let answer = self.read();
        assert_eq!(
            (answer.kind, answer.call_id),
            (RESPONSE, call_id),
            "{answer:?}"
        );
        assert_eq!(answer.payload, payload);
    }

    /// Reads the failure of this call; returns its code.
    pub fn expect_error(&mut self, call_id: u64) -> u16 {
        let answer = self.read();
        assert_eq!(
            (answer.kind, answer.call_id),
            (ERROR, call_id),
            "{answer:?}"
        );
        answer.code()
    }
}
