//! ringcall's own server: one shard that validates every request, runs a handler and serialises
//! its reply. It is driven by the frames client like the raw echo, or by ringcall's tokio client.

#![expect(
    clippy::disallowed_types,
    reason = "a store that is only ever asked for one key"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringcall::__private::wire::handshake::Handshake;
use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::limits::Limits;
use ringcall::__private::wire::resolve::{decode_resolved, encode_resolve};
use ringcall::{
    Client, Context, Encode, Engine, Idle, Message, Reply, Request, Server, ServiceDescriptor,
    Status,
};
use socket2::Socket;

use super::{Announce, Caller, Counters, Frames, OwnClient, Peer, Task};
use crate::address::Address;
use crate::client::handshake;
use crate::client::{Outcome, Plan, ReadUsage};
use crate::point::Point;
use crate::tasks::{self, AsyncCaller, check_bytes};
use crate::wire::{self, Answer};
use crate::work::{self, Call, ORDER_BYTES, Work, Workload};

/// ringcall on one of its engines, under one of two clients.
pub struct Ringcall {
    name: &'static str,
    engine: Engine,
    own_client: bool,
}

/// On io_uring.
pub static URING: Ringcall = Ringcall {
    name: "ringcall",
    engine: Engine::Uring,
    own_client: false,
};
/// On the fallback engine.
pub static EPOLL: Ringcall = Ringcall {
    name: "ringcall-epoll",
    engine: Engine::Epoll,
    own_client: false,
};
/// On io_uring, called as tokio programs call it.
pub static TOKIO: Ringcall = Ringcall {
    name: "ringcall-tokio",
    engine: Engine::Uring,
    own_client: true,
};

/// A small message of a fixed layout, 64 bytes on the wire: an order of some market.
#[ringcall::message]
#[derive(Default)]
struct Order {
    id: u64,
    account: u64,
    instrument: u64,
    price: i64,
    quantity: u64,
    placed_ns: u64,
    valid_until_ns: u64,
    is_sell: bool,
}

const _: () = assert!(size_of::<ArchivedOrder>() == ORDER_BYTES);

/// A value to be kept.
#[ringcall::message]
#[derive(Clone)]
struct Entry {
    key: String,
    value: Vec<u8>,
}

#[ringcall::service(name = "bench.v1")]
trait Bench {
    /// Returns what it was given.
    async fn echo(body: Vec<u8>) -> Vec<u8>;
    /// Accepts an order: returns it with a new id.
    async fn accept(order: Order) -> Order;
    /// The value of a key.
    async fn get(key: String) -> Option<Vec<u8>>;
    /// Keeps a value.
    async fn put(entry: Entry);
    /// Spins for so many microseconds.
    async fn spin(micros: u32);
}

/// The service; its store belongs to one shard.
#[derive(Default)]
struct Bencher {
    entries: RefCell<HashMap<String, Vec<u8>>>,
}

impl BenchHandler for Bencher {
    async fn echo(&self, _cx: &Context, body: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(body.into())
    }

    async fn accept(&self, _cx: &Context, order: Request<Order>) -> Result<Reply<Order>, Status> {
        let accepted = Order {
            id: order.id.to_native() + 1,
            account: order.account.to_native(),
            instrument: order.instrument.to_native(),
            price: order.price.to_native(),
            quantity: order.quantity.to_native(),
            placed_ns: order.placed_ns.to_native(),
            valid_until_ns: order.valid_until_ns.to_native(),
            is_sell: order.is_sell,
        };
        Ok(accepted.into())
    }

    async fn get(
        &self,
        _cx: &Context,
        key: Request<String>,
    ) -> Result<Reply<Option<Vec<u8>>>, Status> {
        let entries = self.entries.borrow();
        Ok(Reply::of(entries.get(key.as_str()).map(Vec::as_slice)))
    }

    async fn put(&self, _cx: &Context, entry: Request<Entry>) -> Result<Reply<()>, Status> {
        let mut entries = self.entries.borrow_mut();
        // Copied into memory that the store keeps. The request itself could be kept instead, but it
        // holds the receive buffer that it lies in: the store would take all buffers from the shard.
        let value = entry.value.as_slice();
        match entries.get_mut(entry.key.as_str()) {
            Some(kept) => {
                kept.clear();
                kept.extend_from_slice(value);
            }
            None => drop(entries.insert(entry.key.as_str().to_owned(), value.to_vec())),
        }
        Ok(().into())
    }

    async fn spin(&self, _cx: &Context, micros: Request<u32>) -> Result<Reply<()>, Status> {
        spin(Duration::from_micros(micros.to_native().into()));
        Ok(().into())
    }
}

/// Holds the CPU, as a computation would.
pub(super) fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// The service of this peer, with its store filled for `work`.
pub fn service(work: Work) -> impl ringcall::IntoServices + 'static {
    let entries = work::entries(work).map(|(key, value)| (key, value.into()));
    BenchServer::new(Bencher {
        entries: RefCell::new(entries.collect()),
    })
}

const DESCRIPTOR: &ServiceDescriptor = BenchServer::<Bencher>::DESCRIPTOR;

impl Peer for Ringcall {
    fn name(&self) -> &'static str {
        self.name
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        let work = task.work;
        let server = Server::builder()
            .listen(task.address.to_string())
            .shards(NonZeroUsize::new(task.cpus).unwrap_or(NonZeroUsize::MIN))
            .engine(self.engine)
            .idle(task.idle)
            .serve(move |_| service(work))
            .map_err(io::Error::other)?;
        announce(&server.addresses()[0].parse().map_err(io::Error::other)?)?;
        // Until the other end closes.
        rustix::io::read(task.stop, &mut [0; 1])?;
        let metrics = server.metrics();
        let engine = format!("{} {}", server.engine(), server.engine_features());
        server.shut_down();
        server.wait().map_err(io::Error::other)?;
        Ok(Counters {
            engine,
            in_place: metrics.in_place,
            copied: metrics.copied,
        })
    }

    fn caller(&self) -> Caller<'_> {
        if self.own_client {
            Caller::Own(self)
        } else {
            Caller::Frames(self)
        }
    }

    fn takes_part(&self, point: &Point) -> bool {
        // Its tokio client can't spin.
        !self.own_client || point.cell.idle == Idle::Park
    }
}

impl Frames for Ringcall {
    fn preamble(&self) -> Vec<Vec<u8>> {
        let hello = Handshake::ours(&Limits::default()).encode();
        let mut methods = Vec::new();
        encode_resolve(DESCRIPTOR, &mut methods);
        vec![
            wire::frame(Header::new(Kind::Hello, 0, hello.len() as u32), &hello),
            wire::frame(
                Header::new(Kind::Resolve, 1, methods.len() as u32),
                &methods,
            ),
        ]
    }

    fn request(&self, work: Work, number: usize, answers: &[Answer]) -> io::Result<Vec<u8>> {
        let methods = answers
            .last()
            .and_then(|answer| decode_resolved(&answer.payload, DESCRIPTOR.methods.len()).ok())
            .ok_or_else(|| io::Error::other("the methods were not resolved"))?;
        let (method, payload) = match Call::of(work, number) {
            Call::Echo(body) => (0, archive::<Vec<u8>>(&&body[..])?),
            // Eight words: any value will do, and the flag in the last one is `false`.
            Call::Order => (1, vec![0; ORDER_BYTES]),
            Call::Get(key, _) => (2, archive::<String>(&key)?),
            Call::Put(key, value) => {
                let value = value.to_vec();
                (3, archive::<Entry>(&Entry { key, value })?)
            }
            Call::Spin(micros) => (4, archive::<u32>(&micros)?),
        };
        Ok(wire::request(methods[method].index, &payload))
    }

    fn answer_bytes(&self, work: Work) -> io::Result<usize> {
        Ok(match work.workload {
            Workload::Echo => archive::<Vec<u8>>(&&work.body()[..])?.len(),
            Workload::Order => ORDER_BYTES,
            Workload::Get => archive::<Option<Vec<u8>>>(&Some(&work.body()[..]))?.len(),
            Workload::Put => 0,
        })
    }
}

/// The payload of a message.
fn archive<T: Message>(value: &impl Encode<T>) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    ringcall::__private::encode(value, &mut payload).map_err(io::Error::other)?;
    Ok(payload)
}

impl OwnClient for Ringcall {
    fn greet(&self, socket: &Socket) -> io::Result<()> {
        handshake::run(socket, self).map(drop)
    }

    fn run(&self, plan: &Plan, address: &Address, usage: ReadUsage<'_>) -> io::Result<Outcome> {
        let target = address.to_string();
        tasks::run(plan, usage, async || {
            // The plan says how many connections there are, and each of them has a client.
            let client = Client::builder().connections_max(1).connect(&target).await;
            let client = Arc::new(BenchClient::new(client.map_err(io::Error::other)?));
            Ok(TokioCaller {
                client,
                last_put: None,
            })
        })
    }
}

/// A connection of ringcall's tokio client.
#[derive(Clone)]
struct TokioCaller {
    client: Arc<BenchClient<Client>>,
    /// What was put last, and the bytes that it was made of. A message can be sent by reference, so
    /// one that is put again and again is made once.
    last_put: Option<(Bytes, Entry)>,
}

impl TokioCaller {
    async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), Status> {
        // Bytes at the same address are the same: they are immutable, and held here.
        let is_same = |(bytes, entry): &(Bytes, Entry)| {
            entry.key == key && (bytes.as_ptr(), bytes.len()) == (value.as_ptr(), value.len())
        };
        if !self.last_put.as_ref().is_some_and(is_same) {
            let entry = Entry {
                key: key.to_owned(),
                value: value.to_vec(),
            };
            self.last_put = Some((value.clone(), entry));
        }
        let (_, entry) = self.last_put.as_ref().expect("made just now");
        self.client.put(entry).await.map(drop)
    }
}

impl AsyncCaller for TokioCaller {
    async fn call(&mut self, call: &Call) -> Result<(), String> {
        let told = |status: Status| status.to_string();
        let client = &self.client;
        match call {
            Call::Echo(body) => {
                let answer = client.echo(&body[..]).await.map_err(told)?;
                check_bytes(Some(answer.len()), body.len())
            }
            Call::Order => {
                let answer = client.accept(Order::default()).await;
                answer.map(drop).map_err(told)
            }
            Call::Get(key, bytes) => {
                let answer = client.get(key.as_str()).await.map_err(told)?;
                check_bytes(answer.as_ref().map(|value| value.len()), *bytes)
            }
            Call::Put(key, value) => self.put(key, value).await.map_err(told),
            Call::Spin(micros) => client.spin(*micros).await.map(drop).map_err(told),
        }
    }
}
