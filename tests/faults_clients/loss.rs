//! Connections that end between calls, in calls, and before the first.

use std::net::{Shutdown, TcpListener};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ringcall::{Client, Code, Engine, LocalRuntime, Status};

use crate::callers::{Caller, FaultClient, KINDS, Kind};
use crate::peer::*;
use crate::raw::*;

/// How a server ends a connection on which it has answered.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It closes it.
    Close,
    /// It closes its side only, and would read on.
    HalfClose,
    /// It resets it.
    Reset,
    /// It shuts down as planned.
    Shutdown,
    /// It has missed the answer to its PING.
    Silence,
}

const ENDS: [End; 5] = [
    End::Close,
    End::HalfClose,
    End::Reset,
    End::Shutdown,
    End::Silence,
];

impl End {
    /// Ends a connection; what is returned keeps it as open as it is then.
    fn act(self, mut peer: RawPeer, last_call_id: u64) -> Option<RawPeer> {
        match self {
            // How it closes was chosen when it began.
            Self::Close | Self::Reset => drop(peer),
            Self::HalfClose => {
                peer.socket.shut_down(Shutdown::Write).unwrap();
                return Some(peer);
            }
            Self::Shutdown => peer.go_away(0, last_call_id),
            Self::Silence => {
                peer.send(&Frame::new(PING, 1, &[]));
                peer.go_away(18, last_call_id);
            }
        }
        None
    }
}

#[test]
fn the_first_call_after_a_loss_goes_to_a_new_connection() {
    for kind in KINDS {
        for end in ENDS {
            let (go_on, is_idle) = channel::<()>();
            let (tell, ended) = channel();
            let server = Hostile::start(move |listener| {
                let mut first = match end {
                    End::Reset => accept_to_reset(&listener),
                    _ => accept_calls(&listener),
                };
                let request = first.request();
                first.answer(&request);
                is_idle.recv_timeout(PATIENCE).unwrap();
                let mut kept = end.act(first, request.call_id);
                tell.send(()).unwrap();
                let mut second = accept_calls(&listener);
                assert_eq!(second.serve_one(), 2, "{kind:?} {end:?}");
                // Nothing of the second call came on the first connection.
                let on_first = kept.as_mut().map(RawPeer::wait_for_end);
                on_first.unwrap_or_default().len()
            });
            let caller = Caller::new(kind, &server.address);
            caller.calls(1);
            go_on.send(()).unwrap();
            ended.recv_timeout(PATIENCE).unwrap();
            let second = caller.call(2);
            assert_eq!(second, Ok(2), "{kind:?} {end:?}");
            drop(caller);
            assert_eq!(server.end(), 0, "{kind:?} {end:?}");
        }
    }
}

#[test]
fn losses_follow_each_other_and_every_call_succeeds() {
    for kind in KINDS {
        let (tell, ended) = channel();
        let server = Hostile::start(move |listener| {
            for round in 0..10 {
                let mut peer = accept_calls(&listener);
                assert_eq!(peer.serve_one(), round);
                drop(peer);
                tell.send(()).unwrap();
            }
        });
        let caller = Caller::new(kind, &server.address);
        for round in 0..10 {
            caller.calls(round);
            ended.recv_timeout(PATIENCE).unwrap();
        }
        server.end();
    }
}

#[test]
fn a_call_that_was_sent_is_never_sent_twice() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut first = accept_calls(&listener);
            assert_eq!(first.serve_one(), 1);
            first.request();
            drop(first);
            let mut second = accept_calls(&listener);
            assert_eq!(second.serve_one(), 3, "{kind:?}");
        });
        let caller = Caller::new(kind, &server.address);
        caller.calls(1);
        let lost = caller.call(2).unwrap_err();
        assert_eq!(lost.code(), Code::Unavailable, "{kind:?} {lost}");
        assert!(lost.message().contains("not known"), "{kind:?} {lost}");
        caller.calls(3);
        server.end();
    }
}

#[test]
fn a_connection_that_was_lost_before_its_first_call_is_replaced() {
    let lose_first = |listener: TcpListener| {
        drop(accept(&listener));
        assert_eq!(accept_calls(&listener).serve_one(), 1);
    };
    let one = |client: &FaultClient<Client>| {
        let client = client.clone();
        async move { client.one(1).await.map(|number| number.to_native()) }
    };
    let server = Hostile::start(lose_first);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime
        .block_on(FaultClient::connect(&server.address))
        .unwrap();
    assert_eq!(runtime.block_on(one(&client)), Ok(1));
    server.end();

    let server = Hostile::start(lose_first);
    let client = FaultClient::connect_blocking(&server.address).unwrap();
    let answer = client.one(1).wait().map(|number| number.to_native());
    assert_eq!(answer, Ok(1));
    server.end();
}

#[test]
fn a_server_that_closes_each_connection_is_left_in_peace() {
    // A script has no client before it has connected, so nothing of it would keep a distance.
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Script) {
        for is_after_handshake in [false, true] {
            let crowd = Crowd::start(move |mut peer| {
                if is_after_handshake {
                    assert_eq!(peer.read().kind, HELLO);
                    peer.send(&Frame::new(WELCOME, 0, &hello()));
                }
            });
            let caller = Caller::new(kind, &crowd.address);
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(300) {
                let status = caller.call(1).unwrap_err();
                assert_eq!(status.code(), Code::Unavailable, "{kind:?} {status}");
            }
            let most = connections_in(begin.elapsed());
            drop(caller);
            let connections = crowd.end();
            assert!(
                connections <= most,
                "{kind:?}: {connections}, at most {most}"
            );
        }
    }
}

#[test]
fn a_client_outlives_the_runtime_that_it_was_made_on() {
    for build in [
        tokio::runtime::Builder::new_current_thread,
        tokio::runtime::Builder::new_multi_thread,
    ] {
        let server = Hostile::start(|listener| {
            for round in 0..4 {
                let mut peer = accept_calls(&listener);
                assert_eq!(peer.serve_one(), round);
                peer.wait_for_end();
            }
        });
        let client = Client::builder().connect_lazy(&server.address).unwrap();
        let client = FaultClient::new(client);
        for round in 0..4 {
            let runtime = build().enable_all().build().unwrap();
            let answer = runtime.block_on(client.one(round));
            assert_eq!(answer.map(|number| number.to_native()), Ok(round));
            drop(runtime);
        }
        server.end();
    }
}

#[test]
fn a_runtime_that_ends_while_it_connects_keeps_nobody_from_connecting() {
    let server = Hostile::start(|listener| {
        // The first attempt is never answered.
        let unanswered = listener.accept().unwrap();
        assert_eq!(accept_calls(&listener).serve_one(), 2);
        drop(unanswered);
    });
    let client = Client::builder().connect_lazy(&server.address).unwrap();
    let client = FaultClient::new(client);
    let first = tokio::runtime::Runtime::new().unwrap();
    let late = first.block_on(client.one(1).deadline(Duration::from_millis(50)));
    assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    let answer = second.block_on(client.one(2));
    assert_eq!(answer.map(|number| number.to_native()), Ok(2));
    server.end();
}

/// A listener whose queue is full, so that connecting to it takes for ever, and what fills it.
fn blackhole() -> (String, Vec<socket2::Socket>) {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let stream = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = stream().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = Vec::new();
    loop {
        let filler = stream().unwrap();
        if filler
            .connect_timeout(&address, Duration::from_millis(100))
            .is_err()
        {
            break;
        }
        kept.push(filler);
    }
    kept.push(listener);
    (format!("tcp://{}", address.as_socket().unwrap()), kept)
}

#[test]
fn a_connection_that_is_being_made_is_dropped_with_its_client() {
    for engine in [Engine::Uring, Engine::Epoll] {
        let (address, _kept) = blackhole();
        let runtime = LocalRuntime::builder().engine(engine);
        let status: Status = runtime
            .run(move |shard| async move {
                let client = FaultClient::new(shard.client(&address).unwrap());
                let call = client.one(1).deadline(Duration::from_millis(20));
                let status = call.await.map(drop).unwrap_err();
                assert_eq!(shard.metrics().connections, 1);
                drop(client);
                while shard.metrics().connections > 0 {
                    shard.sleep(Duration::from_millis(1)).await;
                }
                status
            })
            .unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
}
