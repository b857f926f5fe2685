//! Clients whose thread is held while something arrives: what lies in the socket counts.

use std::sync::mpsc::channel;
use std::time::Duration;

use ringcall::{Client, Engine, Limits, LocalRuntime, Status};

use crate::callers::FaultClient;
use crate::peer::*;
use crate::raw::*;
use crate::time::{SHORT, current_thread};

/// Runs something on a shard of each engine beside another future, which holds the shard's thread.
fn beside_a_hold(
    limits: &Limits,
    address: &str,
    engine: Engine,
    hold: impl AsyncFnOnce(ringcall::Shard) + 'static,
) -> Result<usize, Status> {
    let address = address.to_owned();
    let runtime = LocalRuntime::builder()
        .engine(engine)
        .limits(limits.clone());
    let main = move |shard: ringcall::Shard| async move {
        let client = FaultClient::new(shard.client(&address).unwrap());
        let call = async { client.echo(&b"x"[..]).await.map(|bytes| bytes.len()) };
        tokio::join!(call, hold(shard)).0
    };
    runtime.run(main).unwrap()
}

/// Waits for something without holding the shard.
async fn until(shard: &ringcall::Shard, told: &std::sync::mpsc::Receiver<()>) {
    while told.try_recv().is_err() {
        shard.sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_shard_that_was_held_over_a_ping_counts_the_pong() {
    for engine in [Engine::Uring, Engine::Epoll] {
        let Pinged {
            server,
            pinged,
            answered,
            go_on,
        } = Pinged::start();
        let limits = pings_soon(SHORT);
        let outcome = beside_a_hold(&limits, &server.address, engine, async move |shard| {
            until(&shard, &pinged).await;
            answered.recv_timeout(PATIENCE).unwrap();
            let_pass(3 * SHORT);
            shard.sleep(SHORT / 10).await;
            go_on.send(()).unwrap();
        });
        assert!(outcome.is_ok(), "{engine:?} {outcome:?}");
        server.end();
    }
}

/// A body of which a part lies in the socket while the client stands still for longer than its grace.
fn slow_body() -> (
    Hostile<()>,
    [std::sync::mpsc::Receiver<()>; 2],
    std::sync::mpsc::Sender<()>,
) {
    let (begin, begun) = channel();
    let (tell, sent) = channel();
    let (go_on, last) = channel::<()>();
    let server = Hostile::start(move |listener| {
        let mut peer = accept_calls(&listener);
        let request = peer.request();
        let answer = Frame::new(RESPONSE, request.call_id, &archive(100_000)).encode();
        peer.send_bytes(&answer[..100]);
        begin.send(()).unwrap();
        peer.send_bytes(&answer[100..50_000]);
        tell.send(()).unwrap();
        last.recv_timeout(PATIENCE).unwrap();
        peer.send_bytes(&answer[50_000..]);
        peer.wait_for_end();
    });
    (server, [begun, sent], go_on)
}

/// So many bytes, as they are archived.
fn archive(bytes: usize) -> Vec<u8> {
    let mut payload = vec![7; bytes];
    payload.extend_from_slice(&(-(bytes as i32)).to_le_bytes());
    payload.extend_from_slice(&(bytes as u32).to_le_bytes());
    payload
}

fn strict_about_bodies() -> Limits {
    let mut limits = Limits::default();
    limits.body_grace = Duration::from_secs(1);
    limits.body_rate_min = 50_000;
    limits
}

const LONG: Duration = Duration::from_millis(2500);

#[test]
fn a_body_is_not_slow_because_a_shard_was_held() {
    for engine in [Engine::Uring, Engine::Epoll] {
        let (server, [begun, sent], go_on) = slow_body();
        let limits = strict_about_bodies();
        let outcome = beside_a_hold(&limits, &server.address, engine, async move |shard| {
            until(&shard, &begun).await;
            sent.recv_timeout(PATIENCE).unwrap();
            let_pass(LONG);
            shard.sleep(SHORT / 10).await;
            go_on.send(()).unwrap();
        });
        assert_eq!(outcome, Ok(100_000), "{engine:?}");
        server.end();
    }
}

#[test]
fn a_body_is_not_slow_because_a_runtime_stood_still() {
    let (server, [begun, sent], go_on) = slow_body();
    let runtime = current_thread();
    let client = Client::builder().limits(strict_about_bodies());
    let client = FaultClient::new(client.connect_lazy(&server.address).unwrap());
    let call = runtime.spawn({
        let client = client.clone();
        async move { client.echo(&b"x"[..]).await.map(|bytes| bytes.len()) }
    });
    runtime.block_on(async {
        while begun.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    sent.recv_timeout(PATIENCE).unwrap();
    let_pass(LONG);
    runtime.block_on(async { tokio::time::sleep(SHORT / 10).await });
    go_on.send(()).unwrap();
    assert_eq!(runtime.block_on(call).unwrap(), Ok(100_000));
    drop((client, runtime));
    server.end();
}
