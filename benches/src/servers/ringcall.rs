//! ringcall's own server: a typed echo on one shard, which validates every request, runs a handler
//! and serialises its reply.

use std::io;
use std::num::NonZeroUsize;

use ringcall::proto::handshake::Handshake;
use ringcall::proto::header::{Header, Kind};
use ringcall::proto::limits::Limits;
use ringcall::proto::resolve::{decode_resolved, encode_resolve};
use ringcall::{Context, Engine, Reply, Request, Server, ServiceDescriptor, Status};

use super::{Announce, Counters, Peer, Task};
use crate::idle::Idle;
use crate::wire::{self, Answer};

/// The typed echo on one of the engines.
pub struct Ringcall {
    name: &'static str,
    engine: Engine,
}

/// On io_uring.
pub static URING: Ringcall = Ringcall {
    name: "ringcall",
    engine: Engine::Uring,
};
/// On the fallback engine.
pub static EPOLL: Ringcall = Ringcall {
    name: "ringcall-epoll",
    engine: Engine::Epoll,
};

/// A small message of a fixed layout, 64 bytes on the wire: an order of some market.
#[ringcall::message]
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

#[ringcall::service(name = "bench.v1")]
trait Bench {
    /// Returns what it was given.
    async fn echo(body: Vec<u8>) -> Vec<u8>;
    /// Accepts an order: returns it with a new id.
    async fn accept(order: Order) -> Order;
}

struct Echo;

impl BenchHandler for Echo {
    async fn echo(&self, _cx: &Context, body: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(Reply::of(body.as_slice()))
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
}

/// The service of this peer.
pub fn echo_service() -> impl ringcall::IntoServices + 'static {
    BenchServer::new(Echo)
}

const DESCRIPTOR: &ServiceDescriptor = BenchServer::<Echo>::DESCRIPTOR;
/// Bytes of an archived `Order`: requests of this length are orders, others are byte vectors.
const ORDER_BYTES: usize = 64;
const _: () = assert!(size_of::<ArchivedOrder>() == ORDER_BYTES);
/// Bytes of an archived `Vec<u8>` beside its elements.
const VEC_BYTES: usize = 8;

impl Peer for Ringcall {
    fn name(&self) -> &'static str {
        self.name
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        let server = Server::builder()
            .listen(task.address.to_string())
            .shards(NonZeroUsize::MIN)
            .engine(self.engine)
            .idle(match task.idle {
                Idle::Park => ringcall::Idle::Park,
                Idle::SpinThenPark(time) => ringcall::Idle::SpinThenPark(time),
                Idle::Spin => ringcall::Idle::Spin,
            })
            .serve(|_| BenchServer::new(Echo))
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

    fn request(&self, payload_bytes: usize, answers: &[Answer]) -> io::Result<Vec<u8>> {
        let resolved = answers
            .last()
            .and_then(|answer| decode_resolved(&answer.payload, DESCRIPTOR.methods.len()).ok())
            .ok_or_else(|| io::Error::other("the methods were not resolved"))?;
        if payload_bytes == ORDER_BYTES {
            // Eight words: any value will do, and the flag in the last one is `false`.
            return Ok(wire::request(resolved[1].index, &[0; ORDER_BYTES]));
        }
        let body: Vec<u8> = wire::any_payload(payload_bytes.saturating_sub(VEC_BYTES));
        let payload = ringcall::rkyv::to_bytes::<ringcall::rkyv::rancor::Error>(&body)
            .map_err(io::Error::other)?;
        if payload.len() != payload_bytes {
            return Err(io::Error::other(
                "use a payload that is a multiple of 4, from 8 bytes on",
            ));
        }
        Ok(wire::request(resolved[0].index, &payload))
    }
}
