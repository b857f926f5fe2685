//! Servers that send their clients away.

use std::time::{Duration, Instant};

use ringcall::Code;

use crate::callers::{Caller, KINDS};
use crate::peer::*;
use crate::raw::*;

#[test]
fn a_server_that_sends_everybody_away_is_left_in_peace() {
    for kind in KINDS {
        let crowd = Crowd::start(|mut peer| {
            assert_eq!(peer.read().kind, HELLO);
            peer.send(&Frame::new(WELCOME, 0, &hello()));
            peer.go_away(0, 0);
            peer.wait_for_end();
        });
        let caller = Caller::new(kind, &crowd.address);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(500) {
            let status = caller.call(1).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{kind:?} {status}");
            assert!(!status.message().contains("not known"), "{kind:?} {status}");
        }
        let most = connections_in(begin.elapsed());
        drop(caller);
        let connections = crowd.end();
        assert!(
            (2..=most).contains(&connections),
            "{kind:?}: {connections}, at most {most}"
        );
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
        let server = Hostile::start(move |listener| {
            let mut retired: Option<RawPeer> = None;
            for _ in 0..20 {
                let mut peer = accept_calls(&listener);
                let request = peer.request();
                // The client is at work, so it has closed the one before, or does so now. On this side
                // that is still open.
                if let Some(mut retired) = retired.take() {
                    assert_eq!(retired.wait_for_end(), [], "{kind:?}");
                }
                // In one piece: whoever sees the answer sees that it was the last.
                let mut bytes = Frame::new(RESPONSE, request.call_id, &request.payload).encode();
                let mut goaway = vec![0, 0, 0, 0, 1, 0, 1, 0];
                goaway.extend_from_slice(&request.call_id.to_le_bytes());
                bytes.extend_from_slice(&Frame::new(GOAWAY, 0, &goaway).encode());
                peer.send_bytes(&bytes);
                retired = Some(peer);
            }
            retired.expect("the last").wait_for_end()
        });
        let caller = Caller::new(kind, &server.address);
        for number in 0..20 {
            caller.calls(number);
        }
        drop(caller);
        assert_eq!(server.end(), [], "{kind:?}");
    }
}

#[test]
fn a_call_that_is_given_up_on_a_retired_connection_closes_it() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            peer.serve_one();
            let request = peer.request();
            peer.go_away(0, request.call_id);
            peer.wait_for_end();
        });
        let caller = Caller::new(kind, &server.address);
        caller.calls(0);
        caller.begin(1, Some(Duration::from_millis(500)));
        let late = caller.outcome().unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{kind:?} {late}");
        // A runtime that stands still closes nothing, but its end does.
        drop(caller);
        server.end();
    }
}
