//! What all clients do alike, beside what the other tests try with each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use ringcall::{Client, Code, Engine, Limits, LocalRuntime, Shard};

use crate::callers::{Caller, FaultClient, KINDS, Kind, Setup};
use crate::peer::*;
use crate::raw::*;

#[test]
fn a_call_has_no_deadline_unless_the_program_sets_one() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            assert_eq!(request.timeout_us, 0, "{kind:?}");
            peer.answer(&request);
            peer.wait_for_end();
        });
        let caller = Caller::new(kind, &server.address);
        caller.calls(1);
        drop(caller);
        server.end();
    }
}

#[test]
fn the_default_deadline_ends_calls_and_the_server_is_told_before_and_after() {
    const SHORT: Duration = Duration::from_millis(50);
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            assert!((1..=50_000).contains(&request.timeout_us), "{kind:?}");
            // Those that stand still between calls say it with the next one, or not at all.
            let after = peer.wait_for_end();
            let is_told = |frame: &Frame| (frame.kind, frame.call_id) == (CANCEL, request.call_id);
            let goes_on = matches!(kind, Kind::Tokio | Kind::Script | Kind::Local(_));
            assert!(!goes_on || after.iter().any(is_told), "{kind:?}: {after:?}");
        });
        let setup = Setup {
            default_deadline: Some(SHORT),
        };
        let caller = Caller::with(kind, &server.address, setup);
        let late = caller.call(1).expect_err("nobody answers");
        assert_eq!(late.code(), Code::DeadlineExceeded, "{kind:?}: {late}");
        drop(caller);
        server.end();
    }
}

/// Reads three requests, each of them only after the one before was answered, and says in which order.
fn one_after_another(listener: std::net::TcpListener) -> Vec<u64> {
    let mut peer = accept_calls(&listener);
    let mut order = Vec::new();
    for token in 1..=3 {
        let request = peer.request();
        // What a client has sent by the time of its PONG is all that it sends before an answer.
        peer.send(&Frame::new(PING, token, &[]));
        let next = peer.read();
        assert_eq!((next.kind, next.call_id), (PONG, token));
        order.push(peer.answer(&request));
    }
    peer.wait_for_end();
    order
}

fn one_at_a_time() -> Limits {
    let mut limits = Limits::default();
    limits.calls_in_flight_max = 1;
    limits
}

/// The client for scripts makes one call at a time; that its calls come in order is tested where its turns
/// are.
#[test]
fn calls_beyond_the_limit_wait_in_the_order_in_which_they_came() {
    let server = Hostile::start(one_after_another);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder().limits(one_at_a_time());
        let client = FaultClient::new(client.connect_lazy(&server.address).unwrap());
        let (one, two, three) = tokio::join!(client.one(1), client.one(2), client.one(3));
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
    });
    drop(runtime);
    assert_eq!(server.end(), [1, 2, 3]);
    for engine in [Engine::Uring, Engine::Epoll] {
        let server = Hostile::start(one_after_another);
        let address = server.address.clone();
        let main = move |shard: Shard| async move {
            let client = FaultClient::new(shard.client(&address).unwrap());
            let (one, two, three) = tokio::join!(client.one(1), client.one(2), client.one(3));
            assert!(one.is_ok() && two.is_ok() && three.is_ok());
        };
        let runtime = LocalRuntime::builder().engine(engine);
        runtime.limits(one_at_a_time()).run(main).expect("runs");
        assert_eq!(server.end(), [1, 2, 3]);
    }
}

/// Serves the second call, and says whether the first was given up. `has_come` is set when that is there.
fn first_is_given_up(listener: std::net::TcpListener, has_come: &AtomicBool) -> bool {
    let mut peer = accept_calls(&listener);
    let given_up = peer.request();
    has_come.store(true, Ordering::SeqCst);
    let cancel = peer.read();
    let is_told = (cancel.kind, cancel.call_id) == (CANCEL, given_up.call_id);
    peer.serve_one();
    peer.wait_for_end();
    is_told
}

/// Makes a call, and drops it when the server has it.
async fn give_up<F: Future>(call: F, has_come: &AtomicBool, tick: impl AsyncFn()) {
    let mut call = Box::pin(call);
    while !has_come.load(Ordering::SeqCst) {
        let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending()));
        assert!(polled.await, "nobody has answered");
        tick().await;
    }
}

/// Of the client for scripts no call can be dropped that was sent.
#[test]
fn a_call_that_is_dropped_is_given_up_at_the_server() {
    let start = || {
        let has_come = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&has_come);
        let server = Hostile::start(move |listener| first_is_given_up(listener, &told));
        (server, has_come)
    };
    let (server, has_come) = start();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder().connect_lazy(&server.address).unwrap();
        let client = FaultClient::new(client);
        give_up(client.one(1), &has_come, tokio::task::yield_now).await;
        client.one(2).await.unwrap();
    });
    drop(runtime);
    assert!(server.end());
    for engine in [Engine::Uring, Engine::Epoll] {
        let (server, has_come) = start();
        let address = server.address.clone();
        let main = move |shard: Shard| async move {
            let client = FaultClient::new(shard.client(&address).unwrap());
            let tick = async || shard.sleep(Duration::from_millis(1)).await;
            give_up(client.one(1), &has_come, tick).await;
            client.one(2).await.unwrap();
        };
        LocalRuntime::builder()
            .engine(engine)
            .run(main)
            .expect("runs");
        assert!(server.end());
    }
}
