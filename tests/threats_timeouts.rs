//! Peers that take their time: each part of the conversation has its own, and other peers keep
//! theirs.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use raw::{Frame, HELLO, PATIENCE, PING, PONG, RawPeer, WELCOME, hello};
use rig::{Rig, bytes_payload, echo, on_both_engines};
use ringcall::Engine;

on_both_engines!(
    silence_before_the_handshake_is_ended,
    a_dripped_handshake_is_ended,
    a_dripped_header_is_ended_while_bytes_arrive,
    a_dripped_body_is_ended_while_bytes_arrive,
    a_body_that_slows_down_is_ended,
    a_steady_body_may_take_longer_than_the_grace,
    a_peer_that_answers_no_ping_is_ended,
    a_peer_that_answers_pings_lives,
);

const SHORT: Duration = Duration::from_millis(200);
/// Distance of dripped bytes: half of the time that they are given.
const PACE: Duration = Duration::from_millis(100);

/// Sends `bytes` one by one, and returns how many it were when the server's GOAWAY came, and that.
fn drip(peer: &mut RawPeer, bytes: &[u8]) -> (usize, Frame) {
    peer.socket.set_timeout(Some(PACE)).expect("connected");
    for (count, byte) in bytes.iter().enumerate() {
        peer.socket.write_all(&[*byte]).expect("the server lingers");
        match peer.try_read() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            other => {
                let frame = other.expect("readable").expect("a GOAWAY before the end");
                peer.socket.set_timeout(Some(PATIENCE)).expect("connected");
                assert_eq!(peer.try_read().expect("the end, in time"), None);
                return (count + 1, frame);
            }
        }
    }
    panic!("{} bytes were dripped and nothing happened", bytes.len());
}

/// Sees that dripping `bytes` is ended for this reason before the last byte.
fn assert_drip_ends(rig: &Rig, peer: &mut RawPeer, bytes: &[u8], reason: u16, name: &str) {
    let (dripped, goaway) = drip(peer, bytes);
    assert_eq!(goaway.reason(), reason, "{}", goaway.message());
    assert!((1..bytes.len()).contains(&dripped), "after {dripped} bytes");
    assert_eq!((rig.rejected(name), rig.rejected_in_all()), (1, 1));
}

fn silence_before_the_handshake_is_ended(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.handshake_timeout = SHORT);
    let mut bystander = rig.peer();
    let mut silent = rig.stranger();
    assert_eq!(silent.expect_goaway().reason(), 15);
    assert_eq!(
        (rig.rejected("handshake_timeout"), rig.rejected_in_all()),
        (1, 1)
    );
    // The time of a peer that has shaken hands is not measured by it.
    bystander.echo_works(1);
}

fn a_dripped_handshake_is_ended(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.handshake_timeout = SHORT);
    let mut bystander = rig.peer();
    let wire = Frame::new(HELLO, 0, &hello()).encode();
    assert_drip_ends(&rig, &mut rig.stranger(), &wire, 15, "handshake_timeout");
    bystander.echo_works(1);
}

fn a_dripped_header_is_ended_while_bytes_arrive(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.header_timeout = SHORT);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    peer.echo_works(1);
    let wire = echo(2, b"x").encode();
    assert_drip_ends(&rig, &mut peer, &wire[..32], 16, "header_timeout");
    assert_eq!(rig.probe.started(), 1);
    bystander.echo_works(1);
}

fn a_dripped_body_is_ended_while_bytes_arrive(engine: Engine) {
    // Small ones are gathered, large ones received into a buffer of their own.
    for body_bytes in [1000, 100_000] {
        let rig = Rig::with_limits(engine, |limits| {
            limits.body_grace = SHORT;
            limits.body_rate_min = 1000;
        });
        let mut bystander = rig.peer();
        let mut peer = rig.peer();
        let wire = echo(2, &vec![1; body_bytes]).encode();
        peer.send_bytes(&wire[..32]);
        assert_drip_ends(&rig, &mut peer, &wire[32..132], 17, "body_too_slow");
        assert_eq!(rig.probe.started(), 0);
        bystander.echo_works(1);
    }
}

fn a_body_that_slows_down_is_ended(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.body_grace = SHORT;
        limits.body_rate_min = 1000;
    });
    let mut peer = rig.peer();
    let wire = echo(2, &[1; 100_000]).encode();
    // What has come fast does not pay for an hour of dripping afterwards.
    peer.send_bytes(&wire[..90_000]);
    assert_drip_ends(&rig, &mut peer, &wire[90_000..90_100], 17, "body_too_slow");
    assert_eq!(rig.probe.started(), 0);
}

fn a_steady_body_may_take_longer_than_the_grace(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.body_grace = Duration::from_millis(500);
        limits.body_rate_min = 100;
    });
    let mut peer = rig.peer();
    for (call_id, body_bytes) in [(1, 4000), (2, 40_000)] {
        let body = vec![1; body_bytes];
        for piece in echo(call_id, &body).encode().chunks(body_bytes / 40) {
            peer.send_bytes(piece);
            // Much faster than demanded, and more than twice as long as the grace.
            std::thread::sleep(Duration::from_millis(30));
        }
        peer.expect_response(call_id, &bytes_payload(&body));
    }
    assert_eq!(rig.rejected_in_all(), 0);
}

fn a_peer_that_answers_no_ping_is_ended(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.keepalive_interval = SHORT;
        limits.keepalive_timeout = SHORT;
    });
    let mut peer = rig.peer();
    peer.echo_works(1);
    assert_eq!(peer.read().kind, PING);
    let goaway = peer.read();
    assert_eq!(goaway.reason(), 18, "one ping only: {goaway:?}");
    assert_eq!(peer.try_read().expect("the end, in time"), None);
    assert_eq!(
        (rig.rejected("keepalive_timeout"), rig.rejected_in_all()),
        (1, 1)
    );
    rig.until_quiet();
}

fn a_peer_that_answers_pings_lives(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.keepalive_interval = Duration::from_millis(50);
        // Not what is tested here, and a loaded machine may be slow.
        limits.keepalive_timeout = PATIENCE;
    });
    let mut peer = rig.stranger();
    peer.send(&Frame::new(HELLO, 0, &hello()));
    assert_eq!(peer.read().kind, WELCOME);
    for _ in 0..5 {
        let ping = peer.read();
        assert_eq!(ping.kind, PING);
        peer.send(&Frame::new(PONG, ping.call_id, b""));
    }
    // Pings of the peer are answered too, with its token.
    peer.send(&Frame::new(PING, 77, b""));
    let pong = loop {
        let frame = peer.read();
        if frame.kind != PING {
            break frame;
        }
    };
    assert_eq!((pong.kind, pong.call_id), (PONG, 77));
    assert_eq!(rig.rejected_in_all(), 0);
}
