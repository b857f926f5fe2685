//! Servers that stop reading for good reasons, and clients that ask for much.

use std::sync::mpsc::channel;
use std::time::Duration;

use ringcall::{
    Client, Code, Context, Engine, Limits, LocalRuntime, Reply, Request, Server, Shard, Status,
};

use crate::callers::{FaultClient, FaultHandler, FaultServer};
use crate::peer::*;
use crate::raw::*;

const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

struct Impl;

impl FaultHandler for Impl {
    async fn one(&self, cx: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        cx.sleep(Duration::from_millis(number.to_native())).await;
        Ok(number.to_native().into())
    }

    async fn echo(&self, _cx: &Context, bytes: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(Reply::of(bytes.as_slice()))
    }
}

fn server(engine: Engine, limits: Limits) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .pinned(false)
        .engine(engine)
        .limits(limits)
        .serve(|_| FaultServer::new(Impl))
        .expect("starts")
}

/// The default limits with some of them changed.
fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Runs futures of a shard together.
async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_done = true;
        for (future, outcome) in &mut futures {
            if outcome.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *outcome = Some(value),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, outcome)| outcome)
        .collect()
}

#[test]
fn large_messages_go_both_ways_at_once() {
    for engine in ENGINES {
        let server = server(engine, Limits::default());
        let address = server.addresses()[0].clone();
        let answered = LocalRuntime::builder()
            .engine(engine)
            .run(move |shard| async move {
                let client = FaultClient::new(shard.client(&address).unwrap());
                let body = vec![7; 100 * 1024];
                let caller = async || {
                    let mut answered = 0;
                    for _ in 0..2 {
                        let echoed = client.echo(&body).deadline(PATIENCE).await.unwrap();
                        answered += usize::from(echoed.as_slice() == body);
                    }
                    answered
                };
                all((0..64).map(|_| caller()))
                    .await
                    .into_iter()
                    .sum::<usize>()
            });
        assert_eq!(answered.unwrap(), 128);
    }
}

#[test]
fn calls_of_a_shard_wait_for_their_turn() {
    for engine in ENGINES {
        let server = server(engine, limits(|limits| limits.calls_in_flight_max = 2));
        let address = server.addresses()[0].clone();
        let run = LocalRuntime::builder()
            .engine(engine)
            .run(move |shard| async move {
                let client = FaultClient::new(shard.client(&address).unwrap());
                client.one(0).await.unwrap();
                let call = async |ms| client.one(ms).await.map(|number| number.to_native());
                let outcomes = all((0..20).map(call)).await;
                assert_eq!(outcomes, (0..20).map(Ok).collect::<Vec<_>>());
                // Those that wait behind calls which go on for long.
                let late = async |ms, deadline| {
                    let call = client.one(ms).deadline(Duration::from_millis(deadline));
                    call.await.map(drop).unwrap_err()
                };
                let mut statuses = all([late(60_000, 200), late(60_000, 200), late(1, 20)]).await;
                let waited = statuses.pop().unwrap();
                assert_eq!(waited.code(), Code::DeadlineExceeded);
                assert!(waited.message().contains("not sent"), "{waited}");
                // What was given up has left its place.
                client.one(3).await.unwrap().to_native()
            });
        assert_eq!(run.unwrap(), 3);
    }
}

#[test]
fn bytes_that_a_shard_queues_are_bounded_and_none_is_refused() {
    for engine in ENGINES {
        let server = server(engine, Limits::default());
        let address = server.addresses()[0].clone();
        let small = limits(|limits| {
            limits.payload_bytes_max = 128 << 10;
            limits.write_queue_bytes_high = 16 << 10;
            limits.write_queue_bytes_max = 160 << 10;
        });
        let main = move |shard: Shard| async move {
            let client = FaultClient::new(shard.client(&address).unwrap());
            // Before the methods are resolved all of them are held: more than may ever be queued.
            let body = vec![7; 100 << 10];
            let call = async || client.echo(&body).deadline(PATIENCE).await.map(drop);
            all((0..40).map(|_| call())).await
        };
        let runtime = LocalRuntime::builder().engine(engine).limits(small);
        assert_eq!(runtime.run(main).unwrap(), vec![Ok(()); 40]);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Makes a call of 4 MiB with a client of these limits, to a server that does not read it for 2.5 s, and
/// that does `meanwhile` again and again.
fn unread_for_a_while(
    change: impl FnOnce(&mut Limits),
    meanwhile: impl Fn(&mut RawPeer) + Send + 'static,
) -> Result<usize, Status> {
    let server = Hostile::start(move |listener| {
        let mut peer = accept_calls(&listener);
        for _ in 0..50 {
            meanwhile(&mut peer);
            let_pass(Duration::from_millis(50));
        }
        let request = peer.request();
        peer.answer(&request);
        peer.wait_for_end();
    });
    let outcome = runtime().block_on(async {
        let client = Client::builder()
            .limits(limits(change))
            .connect_lazy(&server.address);
        let client = FaultClient::new(client.unwrap());
        let echoed = client.echo(vec![7; 4 << 20]).await;
        echoed.map(|bytes| bytes.len())
    });
    if outcome.is_ok() {
        server.end();
    }
    outcome
}

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_server_that_says_it_lives_is_not_blamed_for_what_it_does_not_read() {
    let pings = |peer: &mut RawPeer| peer.send(&Frame::new(PING, 5, &[]));
    // Twenty times what it lets pass between two PINGs: the machine may be busy with other things.
    let patience = Duration::from_secs(1);
    let outcome = unread_for_a_while(|limits| limits.write_stall_timeout = patience, pings);
    assert_eq!(outcome, Ok(4 << 20));
}

#[test]
fn a_ping_behind_requests_that_the_server_does_not_read_proves_nothing() {
    let outcome = unread_for_a_while(
        |limits| {
            limits.keepalive_interval = SHORT / 2;
            limits.keepalive_timeout = SHORT / 2;
        },
        |_| (),
    );
    assert_eq!(outcome, Ok(4 << 20));
}

/// All of the request fits into the sockets, so nothing waits on this side.
#[test]
fn a_ping_that_was_sent_behind_a_large_request_proves_nothing_either() {
    let (tell, go_on) = channel();
    let server = Hostile::start(move |listener| {
        let mut peer = accept_calls(&listener);
        go_on.recv_timeout(PATIENCE).unwrap();
        let request = peer.request();
        peer.answer(&request);
        peer.wait_for_end();
    });
    let runtime = runtime();
    let client = Client::builder().limits(limits(|limits| {
        limits.keepalive_interval = SHORT / 2;
        limits.keepalive_timeout = SHORT / 2;
    }));
    let client = FaultClient::new(client.connect_lazy(&server.address).unwrap());
    let call = runtime.spawn({
        let client = client.clone();
        async move { client.echo(vec![7; 64 << 10]).await.map(|it| it.len()) }
    });
    let_pass(3 * SHORT);
    tell.send(()).unwrap();
    assert_eq!(runtime.block_on(call).unwrap(), Ok(64 << 10));
    drop((client, runtime));
    server.end();
}

#[test]
fn a_server_that_neither_reads_nor_speaks_is_given_up() {
    let outcome = unread_for_a_while(|limits| limits.write_stall_timeout = SHORT, |_| ());
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("stopped reading"), "{status}");
}
