//! A handler that yields by waking itself lets others go on, on both engines.

#[path = "support/raw.rs"]
mod raw;

use std::cell::Cell;
use std::task::Poll;

use raw::{Frame, RESPONSE, RawPeer};
use ringcall::{Context, Engine, Idle, Reply, Server, Service, Status};

#[ringcall::service(name = "yielding.v1")]
trait Yielding {
    /// Answers when the flag is up, and looks again and again.
    async fn wait();
    /// Raises the flag.
    async fn raise();
}

#[derive(Default)]
struct Flag {
    is_up: Cell<bool>,
}

impl YieldingHandler for Flag {
    async fn wait(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        std::future::poll_fn(|cx| {
            if self.is_up.get() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        Ok(().into())
    }

    async fn raise(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        self.is_up.set(true);
        Ok(().into())
    }
}

#[test]
fn a_yielding_handler_lets_others_go_on() {
    for engine in [Engine::Auto, Engine::Epoll] {
        for idle in [Idle::Park, Idle::Spin] {
            let server = Server::builder()
                .listen("tcp://127.0.0.1:0")
                .shards(1.try_into().unwrap())
                .engine(engine)
                .idle(idle)
                .serve(|_| YieldingServer::new(Flag::default()))
                .expect("starts");
            let methods = YieldingServer::new(Flag::default()).descriptor().methods;
            let asked: Vec<_> = methods
                .iter()
                .map(|method| (method.name, method.fingerprint))
                .collect();
            let mut peer = RawPeer::open(&server.addresses()[0]);
            let indices = peer.resolve(&asked);
            peer.send(&Frame::request(indices[0].1, 1, &[]));
            // Not in one piece with the first: the shard must receive while the handler yields.
            std::thread::sleep(std::time::Duration::from_millis(20));
            peer.send(&Frame::request(indices[1].1, 2, &[]));
            let mut answered = [peer.read(), peer.read()].map(|frame| {
                assert_eq!(frame.kind, RESPONSE, "{frame:?}");
                frame.call_id
            });
            answered.sort_unstable();
            assert_eq!(answered, [1, 2]);
        }
    }
}
