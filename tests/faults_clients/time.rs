//! What lies in a socket counts before a timer does; and times beyond what travels.

use std::future::poll_fn;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use ringcall::{Client, Code, Engine, Limits, LocalRuntime, Status};

use crate::callers::{Caller, FaultClient, KINDS};
use crate::peer::*;
use crate::raw::*;

pub const SHORT: Duration = Duration::from_millis(200);

pub fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Holds all threads of a runtime until the server is done and so much time has passed.
fn hold(runtime: &tokio::runtime::Runtime, done: std::sync::mpsc::Receiver<()>, time: Duration) {
    let begin = Instant::now();
    let held = async move {
        done.recv_timeout(PATIENCE).unwrap();
        let_pass(time.saturating_sub(begin.elapsed()));
    };
    if runtime.metrics().num_workers() == 1 {
        // On the runtime's only worker, or on this thread, which is the only one.
        runtime.block_on(runtime.spawn(held)).unwrap();
    }
}

#[test]
fn an_answer_in_the_socket_counts_although_the_deadline_has_passed() {
    for runtime in [current_thread(), multi_thread()] {
        let (tell, answered) = channel();
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            peer.serve_one();
            let request = peer.request();
            peer.answer(&request);
            tell.send(()).unwrap();
            let after = peer.wait_for_end();
            assert_eq!(after, [], "nothing is cancelled");
        });
        let client = Client::builder().connect_lazy(&server.address).unwrap();
        let client = FaultClient::new(client);
        runtime.block_on(client.one(0)).unwrap();
        let outcome = runtime.block_on(async {
            let call = client.one(7).deadline(SHORT);
            let mut call = std::pin::pin!(call);
            // Sent by the driver, which needs some turns of the runtime.
            let first = tokio::time::timeout(SHORT / 4, call.as_mut()).await;
            if let Ok(early) = first {
                return early.map(|number| number.to_native());
            }
            call.await.map(|number| number.to_native())
        });
        assert_eq!(outcome, Ok(7));
        answered.recv_timeout(PATIENCE).unwrap();
        drop((client, runtime));
        server.end();
    }
}

/// The same, but the program looks after the deadline only.
#[test]
fn a_runtime_that_stood_still_over_a_deadline_takes_the_answer() {
    for runtime in [current_thread(), multi_thread()] {
        let (begin, begun) = channel();
        let (tell, answered) = channel();
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            begin.send(()).unwrap();
            // The runtime stands still by now, or soon; the deadline has not passed.
            peer.answer(&request);
            tell.send(()).unwrap();
            let after = peer.wait_for_end();
            assert_eq!(after, [], "nothing is cancelled");
        });
        let client = Client::builder().connect_lazy(&server.address).unwrap();
        let client = FaultClient::new(client);
        let call = runtime.spawn({
            let client = client.clone();
            async move { client.one(7).deadline(2 * SHORT).await.map(drop) }
        });
        // The request must get out; then everything is held until after the deadline.
        let begun = Arc::new(std::sync::Mutex::new(begun));
        let waits = runtime.spawn(poll_fn(move |cx| match begun.lock().unwrap().try_recv() {
            Ok(()) => Poll::Ready(()),
            Err(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }));
        runtime.block_on(waits).unwrap();
        hold(&runtime, answered, 3 * SHORT);
        assert_eq!(runtime.block_on(call).unwrap(), Ok(()));
        drop((client, runtime));
        server.end();
    }
}

#[test]
fn a_pong_in_the_socket_counts_although_its_time_has_passed() {
    for runtime in [current_thread(), multi_thread()] {
        let Pinged {
            server,
            pinged,
            answered,
            go_on,
        } = Pinged::start();
        let limits = pings_soon(SHORT);
        let client = Client::builder().limits(limits);
        let client = FaultClient::new(client.connect_lazy(&server.address).unwrap());
        let call = runtime.spawn({
            let client = client.clone();
            async move { client.one(7).await.map(drop) }
        });
        let pinged = std::sync::Mutex::new(pinged);
        let waits = runtime.spawn(poll_fn(move |cx| match pinged.lock().unwrap().try_recv() {
            Ok(()) => Poll::Ready(()),
            Err(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }));
        runtime.block_on(waits).unwrap();
        hold(&runtime, answered, 3 * SHORT);
        // Some turns, in which a client that acts on the timer would end the connection.
        runtime.block_on(async { tokio::time::sleep(SHORT / 10).await });
        go_on.send(()).unwrap();
        assert_eq!(runtime.block_on(call).unwrap(), Ok(()));
        server.end();
    }
}

#[test]
fn a_shard_that_was_held_over_a_deadline_takes_the_answer() {
    for engine in [Engine::Uring, Engine::Epoll] {
        let (begin, begun) = channel();
        let (tell, answered) = channel();
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            begin.send(()).unwrap();
            peer.answer(&request);
            tell.send(()).unwrap();
            assert_eq!(peer.wait_for_end(), [], "nothing is cancelled");
        });
        let address = server.address.clone();
        let runtime = LocalRuntime::builder().engine(engine);
        let outcome: Result<(), Status> = runtime
            .run(move |shard| async move {
                let client = FaultClient::new(shard.client(&address).unwrap());
                let call = async { client.one(7).deadline(2 * SHORT).await.map(drop) };
                let held = async {
                    while begun.try_recv().is_err() {
                        shard.sleep(Duration::from_millis(1)).await;
                    }
                    answered.recv_timeout(PATIENCE).unwrap();
                    let_pass(3 * SHORT);
                };
                tokio::join!(call, held).0
            })
            .unwrap();
        assert_eq!(outcome, Ok(()), "{engine:?}");
        server.end();
    }
}

/// Tells a test that it is the client that is to be stopped: which one, and where its server is.
const STOPPED: &str = "RINGCALL_CLIENT_TO_BE_STOPPED";

/// Makes one call, with times so short that a ping is sent while it lasts.
fn call_impatiently(kind: &str, address: &str) -> Result<(), Status> {
    let mut limits = Limits::default();
    limits.keepalive_interval = 2 * SHORT;
    limits.keepalive_timeout = 3 * SHORT;
    let engine = match kind {
        "current-thread" | "multi-thread" => {
            let runtime = if kind == "multi-thread" {
                multi_thread()
            } else {
                current_thread()
            };
            let client = Client::builder().limits(limits).connect_lazy(address)?;
            let client = FaultClient::new(client);
            return runtime.block_on(client.one(7)).map(drop);
        }
        "uring" => Engine::Uring,
        _ => Engine::Epoll,
    };
    let address = address.to_owned();
    let runtime = LocalRuntime::builder().engine(engine).limits(limits);
    let main = move |shard: ringcall::Shard| async move {
        let client = FaultClient::new(shard.client(&address)?);
        client.one(7).await.map(drop)
    };
    runtime.run(main).unwrap()
}

/// Only a stopped process shows what its first look after that finds.
#[test]
fn a_client_that_was_stopped_over_a_ping_counts_the_pong() {
    if let Ok(task) = std::env::var(STOPPED) {
        let (kind, address) = task.split_once(' ').unwrap();
        assert_eq!(call_impatiently(kind, address), Ok(()), "{kind}");
        return;
    }
    for kind in ["current-thread", "multi-thread", "uring", "epoll"] {
        let (tell, pid) = channel();
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            let ping = peer.read();
            assert_eq!(ping.kind, PING, "{kind}");
            let pid = pid.recv_timeout(PATIENCE).unwrap();
            kill_process(pid, Signal::STOP).unwrap();
            let_pass(SHORT / 4);
            peer.send(&Frame::new(PONG, ping.call_id, &[]));
            let_pass(4 * SHORT);
            kill_process(pid, Signal::CONT).unwrap();
            let_pass(SHORT / 4);
            peer.answer(&request);
        });
        let test = "time::a_client_that_was_stopped_over_a_ping_counts_the_pong";
        let mut client = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(STOPPED, format!("{kind} {}", server.address))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tell.send(Pid::from_child(&client)).unwrap();
        assert!(client.wait().unwrap().success(), "{kind}");
        server.end();
    }
}

#[test]
fn a_deadline_that_does_not_travel_is_kept_here() {
    const HOUR: Duration = Duration::from_secs(3600);
    for kind in KINDS {
        let server = Hostile::start(|listener| {
            let mut peer = accept_calls(&listener);
            let mut times = Vec::new();
            for _ in 0..3 {
                let request = peer.request();
                peer.answer(&request);
                times.push(request.timeout_us);
            }
            times
        });
        let caller = Caller::new(kind, &server.address);
        for time in [HOUR, 2 * HOUR, Duration::MAX] {
            caller.begin(1, Some(time));
            assert_eq!(caller.outcome(), Ok(1), "{kind:?}");
        }
        let times = server.end();
        assert!(times[0] > 3_500_000_000, "{kind:?} {times:?}");
        assert_eq!(times[1..], [0, 0], "{kind:?}");
    }
}

#[test]
fn the_wait_for_other_calls_is_part_of_a_scripts_deadline() {
    let (tell, begun) = channel();
    let (go_on, last) = channel::<()>();
    let server = Hostile::start(move |listener| {
        let mut peer = accept_calls(&listener);
        let request = peer.request();
        tell.send(()).unwrap();
        last.recv_timeout(PATIENCE).unwrap();
        peer.answer(&request);
        assert_eq!(peer.serve_one(), 3, "the second call was never sent");
    });
    let client = FaultClient::connect_blocking(&server.address).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| client.one(1).wait().map(drop));
        begun.recv_timeout(PATIENCE).unwrap();
        // It ends while the first goes on, or the first would never end.
        let late = client.one(2).deadline(SHORT).wait().map(drop).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert!(late.message().contains("not sent"), "{late}");
        go_on.send(()).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
    });
    assert_eq!(client.one(3).wait().map(drop), Ok(()));
    server.end();
}

#[test]
fn connecting_is_part_of_a_scripts_deadline() {
    let (tell, ended) = channel();
    let server = Hostile::start(move |listener| {
        assert_eq!(accept_calls(&listener).serve_one(), 1);
        tell.send(()).unwrap();
        // The second connection is never answered.
        listener.accept().unwrap()
    });
    let client = FaultClient::connect_blocking(&server.address).unwrap();
    assert_eq!(client.one(1).wait().map(drop), Ok(()));
    ended.recv_timeout(PATIENCE).unwrap();
    let late = client.one(2).deadline(SHORT).wait().map(drop).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    drop(server.end());
}
