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

#[ringcall::service(name = "bench.v1")]
trait Bench {
    /// Returns what it was given.
    async fn echo(body: Vec<u8>) -> Vec<u8>;
}

struct Echo;

impl BenchHandler for Echo {
    async fn echo(&self, _cx: &Context, body: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(Reply::of(body.as_slice()))
    }
}

/// The service of this peer.
pub fn echo_service() -> impl ringcall::IntoServices + 'static {
    BenchServer::new(Echo)
}

const DESCRIPTOR: &ServiceDescriptor = BenchServer::<Echo>::DESCRIPTOR;
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
            .and_then(|resolutions| resolutions.first().copied())
            .ok_or_else(|| io::Error::other("the echo method was not resolved"))?;
        let body: Vec<u8> = wire::any_payload(payload_bytes.saturating_sub(VEC_BYTES));
        let payload = ringcall::rkyv::to_bytes::<ringcall::rkyv::rancor::Error>(&body)
            .map_err(io::Error::other)?;
        if payload.len() != payload_bytes {
            return Err(io::Error::other(
                "use a payload that is a multiple of 4, from 8 bytes on",
            ));
        }
        Ok(wire::request(resolved.index, &payload))
    }
}
