//! Servers that are away, go away, and come back.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use ringcall::{BlockingClient, Client, Code, Engine, Status};

use crate::service::*;

fn assert_refused(status: &Status, address: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    for part in [address, "Connection refused", "os error 111"] {
        assert!(status.message().contains(part), "{part:?} in {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_away_is_named_with_the_errno() {
    let address = dead_address("127.0.0.2");
    assert_refused(
        &in_time(Client::connect(&address)).await.unwrap_err(),
        &address,
    );
    let lazy = Client::builder().connect_lazy(&address).unwrap();
    let lazy = ProbeClient::new(lazy);
    assert_refused(&in_time(lazy.echo("x")).await.unwrap_err(), &address);
    // The next attempt must keep its distance, which is at least 25 ms after the first.
    let at_once = in_time(lazy.echo("x")).await.unwrap_err();
    assert_refused(&at_once, &address);
    assert!(
        at_once.message().contains("the next attempt is in"),
        "{at_once}"
    );
    assert_refused(&BlockingClient::connect(&address).unwrap_err(), &address);

    let missing = Client::connect("unix:/nowhere/ringcall.sock")
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::Unavailable);
    assert!(
        missing.message().contains("unix:/nowhere/ringcall.sock"),
        "{missing}"
    );
    assert!(missing.message().contains("os error 2"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_no_address_or_no_setting_is_the_callers_mistake() {
    for wrong in ["localhost:80", "tcp://host", "unix:relative", ""] {
        let status = Client::connect(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let status = BlockingClient::connect(wrong).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let mut limits = ringcall::Limits::default();
    limits.calls_in_flight_max = 0;
    let builder = Client::builder().limits(limits);
    let status = builder.connect("tcp://127.0.0.1:1").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_name_without_an_address_is_unavailable() {
    let status = in_time(Client::connect("tcp://no-such-host.invalid:80")).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(
        status.message().contains("no-such-host.invalid"),
        "{status}"
    );
}

/// Starts a server when the one before has left the address.
async fn start_at_last(engine: Engine, address: &str, told: &Told) -> ringcall::Server {
    loop {
        match try_start(builder(engine, address), told) {
            Ok(server) => return server,
            Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Calls until it succeeds; every failure on the way must be an honest one.
async fn echo_at_last(client: &ProbeClient) {
    in_time(async {
        loop {
            match client.echo("again").await {
                Ok(echoed) => break assert_eq!(*echoed, "again"),
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_next_call_reaches_a_server_that_was_restarted() {
    for engine in ENGINES {
        let first = start(builder(engine, "tcp://127.0.0.4:0"), &told().0);
        let address = first.addresses()[0].clone();
        let client = ProbeClient::connect(&address).await.unwrap();
        let blocking = ProbeClient::connect_blocking(&address).unwrap();
        assert_eq!(*in_time(client.echo("first")).await.unwrap(), "first");
        assert_eq!(*blocking.echo("first").wait().unwrap(), "first");
        drop(first);
        assert_refused(&blocking.echo("x").wait().unwrap_err(), &address);
        let away = in_time(client.echo("x")).await.unwrap_err();
        assert_refused(&away, &address);
        let _second = start(builder(engine, &address), &told().0);
        echo_at_last(&client).await;
        assert_eq!(*blocking.echo("second").wait().unwrap(), "second");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_wait_for_a_server_that_is_to_come() {
    for engine in ENGINES {
        let address = dead_address("127.0.0.3");
        let client = Client::builder()
            .wait_for_ready(true)
            .connect_lazy(&address);
        let client = ProbeClient::new(client.unwrap());
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.echo("patient").await.map(|echoed| echoed.to_owned()) }
        });
        let late = in_time(client.echo("x").deadline(Duration::from_millis(120))).await;
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        let _server = start(builder(engine, &address), &told().0);
        assert_eq!(in_time(waiting).await.unwrap(), Ok("patient".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_planned_shutdown_lets_calls_finish_and_sends_new_ones_elsewhere() {
    for engine in ENGINES {
        let (told, mut events) = told();
        let first = start(builder(engine, "tcp://127.0.0.5:0"), &told);
        let address = first.addresses()[0].clone();
        let client = ProbeClient::connect(&address).await.unwrap();
        let in_flight = tokio::spawn({
            let client = client.clone();
            async move { client.later(400).await.map(|ms| *ms) }
        });
        assert_eq!(in_time(events.recv()).await, Some(Event::Began));
        first.shut_down();
        let second = in_time(start_at_last(engine, &address, &told)).await;
        echo_at_last(&client).await;
        assert!(
            second.metrics().requests > 0,
            "the second server has answered"
        );
        assert_eq!(in_time(in_flight).await.unwrap().unwrap(), 400);
        first.wait().expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_in_flight_on_a_lost_connection_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let accepting = std::thread::spawn(move || {
        let mut peer = crate::hostile::accept(&listener);
        peer.serve_resolution();
        let request = peer.read();
        assert_eq!(request.kind, crate::raw::REQUEST);
    });
    let client = ProbeClient::connect(&address).await.unwrap();
    let status = in_time(client.echo("lost")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&address), "{status}");
    assert!(status.message().contains("not known"), "{status}");
    accepting.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_clone_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let accepting = std::thread::spawn(move || {
        let mut peer = crate::hostile::accept(&listener);
        let resolve = peer.read();
        assert_eq!(resolve.kind, crate::raw::RESOLVE);
        assert_eq!(peer.try_read().unwrap(), None, "the end follows");
    });
    let client = ProbeClient::connect(&address).await.unwrap();
    let clone = client.clone();
    // A call that is given up before its service was resolved is never sent.
    tokio::select! {
        biased;
        _ = clone.echo("x") => panic!("nobody answers"),
        () = std::future::ready(()) => (),
    }
    drop(client);
    drop(clone);
    let joined = tokio::task::spawn_blocking(move || accepting.join());
    in_time(joined).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_attempt_ends_when_nobody_waits_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let accepting = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).unwrap();
        received
    });
    // It connects, but its handshake is never answered.
    let late = tokio::time::timeout(Duration::from_millis(100), Client::connect(&address)).await;
    assert!(late.is_err());
    let joined = tokio::task::spawn_blocking(move || accepting.join());
    let received = in_time(joined).await.unwrap().unwrap();
    assert_eq!(received.len(), 32 + 48, "one padded HELLO and the end");
}

#[test]
fn a_script_notices_that_its_connection_was_closed_while_it_slept() {
    for engine in ENGINES {
        let first = start(builder(engine, "tcp://127.0.0.6:0"), &told().0);
        let address = first.addresses()[0].clone();
        let client = ProbeClient::connect_blocking(&address).unwrap();
        assert_eq!(*client.echo("first").wait().unwrap(), "first");
        drop(first);
        let _second = start(builder(engine, &address), &told().0);
        assert_eq!(*client.echo("second").wait().unwrap(), "second");
    }
}
