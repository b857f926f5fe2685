//! What servers and shard-local clients allocate: nothing per call in a steady state, and servers
//! little per idle connection.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts is unsafe to implement"
)]

#[path = "support/raw.rs"]
mod raw;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use raw::{Frame, RESPONSE, RawPeer};
use ringcall::__private::{MemoryConnection, hooked};
use ringcall::{
    CallInfo, CallOutcome, CallTimings, Context, Engine, IntoServices, LocalRuntime, Reply,
    Request, Server, ServerHook, Status,
};

/// Counts what marked threads allocate: those of shards, which mark themselves.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static IS_MARKED: Cell<bool> = const { Cell::new(false) };
}

fn count(allocations: u64, bytes: i64) {
    // At thread exit the mark may be gone; what is freed then is not of interest.
    if IS_MARKED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: all calls are handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        count(1, new_bytes as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[ringcall::message]
struct Order {
    id: u64,
    tags: Vec<String>,
}

#[ringcall::service(name = "alloc.v1")]
trait Alloc {
    /// Returns what it was given.
    async fn echo(body: Vec<u8>) -> Vec<u8>;
    /// Counts what it was given.
    async fn count(order: Order) -> u64;
}

struct Impl;

impl AllocHandler for Impl {
    async fn echo(&self, _cx: &Context, body: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(Reply::of(body.as_slice()))
    }

    async fn count(&self, cx: &Context, order: Request<Order>) -> Result<Reply<u64>, Status> {
        // What it sees of its call is there already.
        let call = cx.call();
        assert!(call.method().name == "alloc.v1/count" && call.remaining().is_none());
        Ok((order.id.to_native() + order.tags.len() as u64).into())
    }
}

fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        // Sleeping is not part of a call; on io_uring each sleep costs its host some allocations.
        .idle(ringcall::Idle::Spin)
        .serve(|_| {
            IS_MARKED.set(true);
            AllocServer::new(Impl)
        })
        .expect("starts")
}

/// Counts calls, and how they end.
#[derive(Default)]
struct Counts {
    begun: Cell<u64>,
    answered: Cell<u64>,
}

impl ServerHook for Counts {
    fn on_call(&self, _call: &CallInfo) -> Result<(), Status> {
        self.begun.set(self.begun.get() + 1);
        Ok(())
    }

    fn on_done(&self, _call: &CallInfo, outcome: CallOutcome<'_>, _timings: CallTimings) {
        let is_answered = outcome == CallOutcome::Answered;
        self.answered
            .set(self.answered.get() + u64::from(is_answered));
    }
}

/// The same with a hook.
fn calls_over_memory_with_a_hook() {
    let counts = Rc::new(Counts::default());
    let hook: Rc<dyn ServerHook> = counts.clone();
    let services = AllocServer::new(Impl).into_services().expect("right");
    calls_over_memory(hooked(services, hook));
    assert_eq!((counts.begun.get(), counts.answered.get()), (1000, 1000));
}

/// The same path without sockets: nothing but calls happens here, so nothing may be allocated.
fn calls_over_memory(services: impl IntoServices + 'static) {
    IS_MARKED.set(true);
    let mut connection = MemoryConnection::new(services, ringcall::Limits::default());
    let mut sent = Vec::with_capacity(1 << 20);
    let methods = AllocServer::<Impl>::DESCRIPTOR.methods;
    let asked: Vec<_> = methods
        .iter()
        .map(|method| (method.name, method.fingerprint))
        .collect();
    connection.exchange(
        &Frame::new(raw::HELLO, 0, &raw::hello()).encode(),
        &mut sent,
    );
    connection.exchange(&raw::resolve(&asked).encode(), &mut sent);
    let echo = ringcall::rkyv::to_bytes::<ringcall::rkyv::rancor::Error>(&vec![7_u8; 56]).unwrap();
    let rounds: Vec<Vec<u8>> = (1..=1000)
        .map(|call_id| Frame::request(0, call_id, &echo).encode())
        .collect();
    let (warm, measured) = rounds.split_at(100);
    let mut run = |frames: &[Vec<u8>]| {
        for frame in frames {
            sent.clear();
            // In two parts, so that the frame is put together first.
            assert!(connection.exchange(&frame[..50], &mut sent));
            assert!(connection.exchange(&frame[50..], &mut sent));
            assert_eq!(sent.len(), frame.len());
        }
    };
    run(warm);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run(measured);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(
        allocations,
        0,
        "allocations in {} calls over memory",
        measured.len()
    );
    IS_MARKED.set(false);
}

/// Calls made on a shard, as handlers and programs make them: those of the server that answers are
/// not counted. Says how many allocations so many calls have caused.
fn allocations_of_a_local_client(engine: Engine, calls: u64) -> u64 {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| AllocServer::new(Impl))
        .expect("starts");
    let address = server.addresses()[0].clone();
    let count = move |shard: ringcall::Shard| async move {
        let client = AllocClient::new(shard.client(&address).unwrap());
        let body = [7; 56];
        let order = Order {
            id: 7,
            tags: vec!["a tag that is not inline".to_owned(); 3],
        };
        let call_all = async |calls: u64| {
            for _ in 0..calls / 2 {
                assert_eq!(client.echo(&body[..]).await.unwrap().len(), body.len());
                assert_eq!(client.count(&order).await.unwrap().to_native(), 10);
            }
        };
        call_all(1000).await;
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        IS_MARKED.set(true);
        call_all(calls).await;
        IS_MARKED.set(false);
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    LocalRuntime::builder()
        .engine(engine)
        // As the server below.
        .idle(ringcall::Idle::Spin)
        .run(count)
        .expect("runs")
}

/// Bytes of rounds of calls on one connection, some cut so that frames straddle receives.
struct Rounds {
    peer: RawPeer,
    echo: Vec<u8>,
    count: Vec<u8>,
    call_id: u64,
}

const CALLS: u64 = 16;

impl Rounds {
    fn new(server: &Server) -> Self {
        let mut peer = RawPeer::open(&server.addresses()[0]);
        let methods = AllocServer::<Impl>::DESCRIPTOR.methods;
        let asked: Vec<_> = methods
            .iter()
            .map(|method| (method.name, method.fingerprint))
            .collect();
        let resolved = peer.resolve(&asked);
        assert_eq!(resolved, [(0, 0), (0, 1)]);
        let bytes = ringcall::rkyv::to_bytes::<ringcall::rkyv::rancor::Error>;
        let order = Order {
            id: 7,
            tags: vec!["a tag that is not inline".to_owned(); 3],
        };
        let order = ringcall::rkyv::to_bytes::<ringcall::rkyv::rancor::Error>(&order).unwrap();
        Self {
            peer,
            echo: bytes(&vec![7_u8; 56]).unwrap().to_vec(),
            count: order.to_vec(),
            call_id: 0,
        }
    }

    fn run(&mut self, cut: bool) {
        let mut wire = Vec::new();
        for _ in 0..CALLS / 2 {
            self.call_id += 2;
            wire.extend(Frame::request(0, self.call_id - 1, &self.echo).encode());
            wire.extend(Frame::request(1, self.call_id, &self.count).encode());
        }
        let (first, second) = wire.split_at(if cut { 100 } else { wire.len() });
        self.peer.send_bytes(first);
        if cut {
            // The first call's answer shows that the first part was received by itself.
            assert_eq!(self.peer.read().kind, RESPONSE);
            self.peer.send_bytes(second);
        }
        for _ in 0..CALLS - u64::from(cut) {
            assert_eq!(self.peer.read().kind, RESPONSE);
        }
    }
}

/// One test, since the counters are of the whole process.
#[test]
fn steady_calls_allocate_nothing_and_idle_connections_little() {
    calls_over_memory(AllocServer::new(Impl));
    calls_over_memory_with_a_hook();
    for engine in [Engine::Uring, Engine::Epoll] {
        let calls = 10_000;
        let allocations = allocations_of_a_local_client(engine, calls);
        // The executor allocates as below, and single calls take their time. What a call allocates
        // would be there in each of one method at least, so in every second call.
        assert!(
            allocations < calls / 4,
            "{engine:?}: {allocations} allocations in {calls} calls of a shard-local client"
        );
        let server = server(engine);
        let mut rounds = Rounds::new(&server);
        for round in 0..200 {
            rounds.run(round % 2 == 0);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for round in 0..500 {
            rounds.run(round % 2 == 0);
        }
        let (allocations, calls) = (ALLOCATIONS.load(Ordering::Relaxed) - before, 500 * CALLS);
        // On io_uring the executor that hosts the shard allocates when it has its turn, every 10 ms:
        // that comes with time, not with calls. The path of a call itself is counted below.
        assert!(
            allocations < calls / 100,
            "{engine:?}: {allocations} allocations in {calls} calls"
        );

        let open = |count| -> Vec<RawPeer> {
            (0..count)
                .map(|_| RawPeer::open(&server.addresses()[0]))
                .collect()
        };
        // Tables that double would otherwise be counted with the connection that made them grow.
        let warm = open(50);
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        let idle = open(300);
        rounds.run(false);
        let per_connection = (LIVE_BYTES.load(Ordering::Relaxed) - before) / idle.len() as i64;
        assert!(
            per_connection <= 4096,
            "{engine:?}: {per_connection} bytes of heap per idle connection"
        );
        assert!(
            per_connection > 0,
            "{engine:?}: connections cost something, so the count is wrong"
        );
        drop((warm, idle));
    }
}
