//! Servers that send their clients away.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringcall::Code;

use crate::callers::{Caller, KINDS};
use crate::peer::*;
use crate::raw::*;

/// Connections that a server has accepted in a time, with each of which it does the same.
fn connections_in(
    time: Duration,
    act: impl Fn(RawPeer) + Clone + Send + 'static,
) -> impl FnOnce(TcpListener) -> usize + Send + 'static {
    move |listener| {
        listener.set_nonblocking(true).unwrap();
        let (mut connections, begin) = (0, Instant::now());
        while begin.elapsed() < time {
            let Ok((socket, _)) = listener.accept() else {
                std::thread::yield_now();
                continue;
            };
            socket.set_nonblocking(false).unwrap();
            connections += 1;
            let act = act.clone();
            std::thread::spawn(move || {
                let socket: Box<dyn Socket> = Box::new(socket);
                socket.set_timeout(Some(PATIENCE)).unwrap();
                act(RawPeer { socket });
            });
        }
        connections
    }
}

#[test]
fn a_server_that_sends_everybody_away_is_left_in_peace() {
    for kind in KINDS {
        let server = Hostile::start(connections_in(Duration::from_millis(600), |mut peer| {
            assert_eq!(peer.read().kind, HELLO);
            peer.send(&Frame::new(WELCOME, 0, &hello()));
            peer.go_away(0, 0);
            peer.wait_for_end();
        }));
        let caller = Caller::new(kind, &server.address);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(500) {
            let status = caller.call(1).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{kind:?} {status}");
            assert!(!status.message().contains("not known"), "{kind:?} {status}");
        }
        drop(caller);
        // One at once, one more at once, then after 25, 50, 100, 200 ms at least.
        let connections = server.end();
        assert!((2..=7).contains(&connections), "{kind:?}: {connections}");
    }
}

#[test]
fn a_call_that_was_not_sent_when_the_server_said_goaway_goes_to_a_new_connection() {
    for kind in KINDS {
        for reason in [0, 18] {
            let server = Hostile::start(move |listener| {
                let mut first = accept(&listener);
                assert_eq!(first.read_past_pings().kind, RESOLVE);
                first.go_away(reason, 0);
                let mut second = accept_calls(&listener);
                assert_eq!(second.serve_one(), 1);
                assert_eq!(first.wait_for_end(), [], "{kind:?}");
            });
            let caller = Caller::new(kind, &server.address);
            caller.calls(1);
            server.end();
        }
    }
}

#[test]
fn a_second_goaway_changes_nothing() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            peer.go_away(0, request.call_id);
            // The client acts on the first by itself.
            let_pass(Duration::from_millis(20));
            for reason in [0, 14] {
                peer.go_away(reason, 0);
            }
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
fn a_retired_connection_is_closed_when_it_has_nothing_left() {
    for kind in KINDS {
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = (Arc::clone(&open), Arc::clone(&most));
        let server = Hostile::start(move |listener| {
            let mut threads = Vec::new();
            for _ in 0..20 {
                let mut peer = accept_calls(&listener);
                let (open, most) = counted.clone();
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let request = peer.request();
                // In one piece: whoever sees the answer sees that it was the last.
                let mut bytes = Frame::new(RESPONSE, request.call_id, &request.payload).encode();
                let mut goaway = vec![0, 0, 0, 0, 1, 0, 1, 0];
                goaway.extend_from_slice(&request.call_id.to_le_bytes());
                bytes.extend_from_slice(&Frame::new(GOAWAY, 0, &goaway).encode());
                peer.send_bytes(&bytes);
                // It stays open on this side.
                threads.push(std::thread::spawn(move || {
                    peer.wait_for_end();
                    open.fetch_sub(1, Ordering::SeqCst);
                }));
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
        let caller = Caller::new(kind, &server.address);
        for number in 0..20 {
            caller.calls(number);
        }
        drop(caller);
        server.end();
        let most = most.load(Ordering::SeqCst);
        assert!(most <= 4, "{kind:?}: {most} open at once");
    }
}

#[test]
fn a_call_that_is_given_up_on_a_retired_connection_closes_it() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            peer.go_away(0, request.call_id);
            peer.wait_for_end();
        });
        let caller = Caller::new(kind, &server.address);
        caller.begin(1, Some(Duration::from_millis(100)));
        let late = caller.outcome().unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{kind:?} {late}");
        // A runtime that stands still closes nothing, but its end does.
        drop(caller);
        server.end();
    }
}
