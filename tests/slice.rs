//! The shortest way through everything: typed service, real socket, raw peer, both engines.

#[path = "support/raw.rs"]
mod raw;

use raw::{ERROR, Frame, RESPONSE, RawPeer};
use ringcall::{Context, Engine, Reply, Request, Server, Service, Status};

#[ringcall::service(name = "slice.v1")]
trait Slice {
    /// Returns what it was given.
    async fn echo(text: String) -> String;
    /// Waits, then answers.
    async fn later(ms: u64) -> u64;
}

struct Impl;

impl SliceHandler for Impl {
    async fn echo(&self, _cx: &Context, text: Request<String>) -> Result<Reply<String>, Status> {
        Ok(Reply::of(text.as_str()))
    }

    async fn later(&self, cx: &Context, ms: Request<u64>) -> Result<Reply<u64>, Status> {
        cx.sleep(std::time::Duration::from_millis(ms.to_native()))
            .await;
        Ok(ms.to_native().into())
    }
}

fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| SliceServer::new(Impl))
        .expect("starts")
}

#[test]
fn a_byte_becomes_a_call_and_a_reply() {
    for engine in [Engine::Uring, Engine::Epoll] {
        let server = server(engine);
        let mut peer = RawPeer::open(&server.addresses()[0]);
        let methods = SliceServer::new(Impl).descriptor().methods;
        let asked: Vec<_> = methods
            .iter()
            .map(|method| (method.name, method.fingerprint))
            .collect();
        let resolved = peer.resolve(&asked);
        assert_eq!(resolved, [(0, 0), (0, 1)]);
        // An archived string of up to eight bytes is inline.
        let text = *b"hello\xff\xff\xff";
        peer.send(&Frame::request(1, 4, &50_u64.to_le_bytes()));
        peer.send(&Frame::request(0, 5, &text));
        peer.send(&Frame::request(9, 6, &text));
        let echoed = peer.read();
        assert_eq!(
            (echoed.kind, echoed.call_id, &echoed.payload[..]),
            (RESPONSE, 5, &text[..])
        );
        let refused = peer.read();
        assert_eq!(
            (refused.kind, refused.call_id, refused.code()),
            (ERROR, 6, 12)
        );
        let late = peer.read();
        assert_eq!((late.kind, late.call_id), (RESPONSE, 4));
        server.shut_down();
        assert_eq!(peer.expect_goaway().reason(), 0);
        server.wait().expect("a clean end");
    }
}
