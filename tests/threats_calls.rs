//! Calls that are wrong, too many, too late or given up: each fails by itself, or its connection
//! ends.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use raw::{CANCEL, Frame, HELLO, PING, PONG, RESOLVE, RESOLVED, RESPONSE, RawPeer, WELCOME, hello};
use rig::{
    BIG, ECHO, Rig, WAIT, bytes_payload, echo, fingerprint, number, on_both_engines, resolved,
};
use ringcall::Engine;

on_both_engines!(
    methods_of_other_types_are_told_apart_from_unknown_ones,
    calls_of_unresolved_methods_fail_and_the_connection_lives,
    call_ids_that_do_not_increase_are_refused,
    cancels_of_unknown_and_finished_calls_are_ignored,
    a_cancelled_handler_is_dropped,
    a_flood_of_cancels_is_refused,
    a_flood_of_pings_is_refused,
    a_flood_of_pongs_is_refused,
    a_flood_of_resolutions_is_refused,
    a_deadline_runs_from_arrival_and_drops_the_handler,
    absurd_deadlines_are_taken_as_they_are,
    responses_above_the_peers_maximum_fail_whole,
    responses_above_our_own_maximum_fail_whole,
);

fn methods_of_other_types_are_told_apart_from_unknown_ones(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = RawPeer::open(rig.address());
    let asked = [
        ("threat.v1/echo", fingerprint(ECHO) ^ 1),
        ("threat.v1/wait", fingerprint(WAIT)),
        ("threat.v1/no_such_method", fingerprint(ECHO)),
        ("no_such_service/echo", fingerprint(ECHO)),
        ("", 0),
    ];
    let mut payload = (asked.len() as u16).to_le_bytes().to_vec();
    for (name, fingerprint) in asked {
        payload.extend_from_slice(&fingerprint.to_le_bytes());
        payload.extend_from_slice(&(name.len() as u16).to_le_bytes());
        payload.extend_from_slice(name.as_bytes());
    }
    peer.send(&Frame::new(RESOLVE, 5, &payload));
    let answer = peer.read();
    assert_eq!((answer.kind, answer.call_id), (RESOLVED, 5));
    let entry = |fingerprint: u64, code: u16, index: u16| {
        let code_and_index = [code.to_le_bytes(), index.to_le_bytes()].concat();
        [&fingerprint.to_le_bytes()[..], &code_and_index].concat()
    };
    // The server's own fingerprint goes back, so that the caller can name both.
    let expected = [
        &5_u16.to_le_bytes()[..],
        &entry(fingerprint(ECHO), 9, 0),
        &entry(fingerprint(WAIT), 0, WAIT),
        &entry(0, 12, 0),
        &entry(0, 12, 0),
        &entry(0, 12, 0),
    ];
    assert_eq!(answer.payload, expected.concat());
    // What failed to resolve can't be called, whatever index is guessed; what did can.
    peer.send(&echo(1, b"x"));
    assert_eq!(peer.expect_error(1), 12);
    rig.probe.release(1);
    peer.send(&number(WAIT, 2, 7));
    peer.expect_response(2, &7_u64.to_le_bytes());
    assert_eq!(rig.probe.started(), 1);
}

fn calls_of_unresolved_methods_fail_and_the_connection_lives(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = RawPeer::open(rig.address());
    let indices = [0, 1, 8, 9, 63, 64, 1023, 1024, u16::MAX];
    for (call_id, index) in (1..).zip(indices) {
        peer.send(&Frame::request(index, call_id, b"whatever"));
        assert_eq!(peer.expect_error(call_id), 12, "index {index}");
    }
    assert_eq!(rig.server.metrics().unimplemented, indices.len() as u64);
    assert_eq!((rig.probe.started(), rig.rejected_in_all()), (0, 0));
    resolved(peer).echo_works(100);
}

fn call_ids_that_do_not_increase_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    // The id of a live call, of a finished one, of an unresolved one, and one that goes back.
    for (round, bad) in [5, 7, 8, 6].into_iter().enumerate() {
        let mut peer = rig.peer();
        let label = round as u64;
        peer.send(&number(WAIT, 5, label));
        peer.echo_works(7);
        peer.send(&Frame::request(999, 8, b""));
        assert_eq!(peer.expect_error(8), 12);
        let started = rig.probe.started();
        peer.send(&echo(bad, b"x"));
        let goaway = peer.expect_goaway();
        assert_eq!(goaway.reason(), 12);
        assert_eq!(
            goaway.payload[8..16],
            8_u64.to_le_bytes(),
            "the last call that was taken"
        );
        assert_eq!(rig.rejected("call_id"), label + 1);
        assert_eq!(
            rig.probe.started(),
            started,
            "the bad call reaches no handler"
        );
        assert_eq!(rig.probe.next_gone(), label, "the suspended one is dropped");
    }
    rig.until("no call in flight", |now| now.in_flight == 0);
    bystander.echo_works(1);
}

fn cancels_of_unknown_and_finished_calls_are_ignored(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    peer.echo_works(10);
    peer.send(&number(WAIT, 20, 1));
    for call_id in [10, 10, 9, 15, 21, u64::MAX] {
        peer.send(&Frame::new(CANCEL, call_id, b""));
    }
    peer.echo_works(30);
    assert_eq!(
        rig.server.metrics().in_flight,
        1,
        "the one that waits was not meant"
    );
    rig.probe.release(1);
    peer.expect_response(20, &1_u64.to_le_bytes());
    assert_eq!(
        (rig.server.metrics().cancelled, rig.rejected_in_all()),
        (0, 0)
    );
}

fn a_cancelled_handler_is_dropped(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    // As many cancels as calls are no flood, however many.
    for call_id in 1..=300 {
        peer.send(&number(WAIT, call_id, call_id));
        peer.send(&Frame::new(CANCEL, call_id, b""));
        assert_eq!(rig.probe.next_gone(), call_id);
    }
    // The next thing to come is this answer: cancelled calls have none.
    peer.echo_works(301);
    let metrics = rig.server.metrics();
    assert_eq!((metrics.cancelled, metrics.in_flight), (300, 0));
    assert_eq!(rig.rejected_in_all(), 0);
}

fn a_flood_of_cancels_is_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    peer.send(&number(WAIT, 1, 1));
    let cancel = Frame::new(CANCEL, 99, b"").encode();
    // One for the call, and 64 more.
    peer.send_bytes(&cancel.repeat(1 + 64));
    peer.echo_works(2);
    assert_eq!(rig.rejected_in_all(), 0);
    peer.send_bytes(&cancel.repeat(2));
    assert_eq!(peer.expect_goaway().reason(), 14);
    assert_eq!((rig.rejected("flood"), rig.rejected_in_all()), (1, 1));
    assert_eq!(rig.probe.next_gone(), 1);
    bystander.echo_works(1);
}

fn a_flood_of_pings_is_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    // Of a hundred, more than 32 fall into one second, wherever it begins.
    for token in 1..=100 {
        peer.send(&Frame::new(PING, token, b""));
    }
    let mut pongs = 0;
    let goaway = loop {
        let frame = peer.read();
        if frame.kind != PONG {
            break frame;
        }
        pongs += 1;
        assert_eq!(frame.call_id, pongs);
    };
    assert_eq!(goaway.reason(), 14);
    assert!((32..=64).contains(&pongs), "{pongs} answered");
    assert_eq!((rig.rejected("flood"), rig.rejected_in_all()), (1, 1));
    bystander.echo_works(1);
}

fn a_flood_of_pongs_is_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    for token in 1..=100 {
        peer.send(&Frame::new(PONG, token, b""));
    }
    assert_eq!(peer.expect_goaway().reason(), 14);
    assert_eq!((rig.rejected("flood"), rig.rejected_in_all()), (1, 1));
    bystander.echo_works(1);
}

fn a_flood_of_resolutions_is_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = RawPeer::open(rig.address());
    for _ in 0..256 {
        assert_eq!(
            peer.resolve(&[("threat.v1/echo", fingerprint(ECHO))]),
            [(0, 0)]
        );
    }
    peer.send(&Frame::new(RESOLVE, 1, &[0, 0]));
    assert_eq!(peer.expect_goaway().reason(), 14);
    assert_eq!((rig.rejected("flood"), rig.rejected_in_all()), (1, 1));
    bystander.echo_works(1);
}

fn timed(frame: Frame, timeout: Duration) -> Frame {
    let timeout_us = timeout.as_micros().try_into().unwrap_or(u32::MAX);
    Frame {
        timeout_us,
        ..frame
    }
}

fn a_deadline_runs_from_arrival_and_drops_the_handler(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    peer.send(&number(WAIT, 1, 1));
    // Later deadlines first: the order of the answers is that of the deadlines.
    let wire = [(2, 500), (3, 250), (4, 1)].map(|(call_id, ms)| {
        timed(number(WAIT, call_id, call_id), Duration::from_millis(ms)).encode()
    });
    peer.send_bytes(&wire.concat());
    for call_id in [4, 3, 2] {
        assert_eq!(peer.expect_error(call_id), 4);
        assert_eq!(rig.probe.next_gone(), call_id);
    }
    let metrics = rig.server.metrics();
    assert_eq!((metrics.expired, metrics.in_flight), (3, 1));
    // Nobody answers a call twice, and calls without a deadline wait on.
    rig.probe.release(1);
    peer.expect_response(1, &1_u64.to_le_bytes());
    // A handler that ends in time is not disturbed by its deadline later.
    rig.probe.release(1);
    peer.send(&timed(number(WAIT, 5, 5), Duration::from_millis(50)));
    peer.expect_response(5, &5_u64.to_le_bytes());
    peer.send(&timed(number(WAIT, 6, 6), Duration::from_millis(100)));
    assert_eq!(peer.expect_error(6), 4);
    assert_eq!(rig.server.metrics().expired, 4);
}

fn absurd_deadlines_are_taken_as_they_are(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    // The longest that travels, 71 minutes, and the shortest.
    peer.send(&timed(number(WAIT, 1, 1), Duration::MAX));
    peer.send(&timed(number(WAIT, 2, 2), Duration::from_micros(1)));
    assert_eq!(peer.expect_error(2), 4);
    rig.probe.release(1);
    peer.expect_response(1, &1_u64.to_le_bytes());
}

/// A peer that accepts payloads of so many bytes.
fn narrow_peer(rig: &Rig, payload_bytes_max: u32) -> RawPeer {
    let mut peer = rig.stranger();
    let mut hello = hello();
    hello[24..28].copy_from_slice(&payload_bytes_max.to_le_bytes());
    peer.send(&Frame::new(HELLO, 0, &hello));
    assert_eq!(peer.read().kind, WELCOME);
    resolved(peer)
}

fn responses_above_the_peers_maximum_fail_whole(engine: Engine) {
    let rig = Rig::start(engine);
    // An archived vector ends in eight bytes besides its elements.
    for (payload_bytes_max, fits) in [(1000, 992), (20_000, 19_992), (100_000, 99_992)] {
        let too_long = rig.server.metrics().too_long;
        let mut peer = narrow_peer(&rig, payload_bytes_max);
        peer.send(&number(BIG, 1, fits));
        peer.expect_response(1, &bytes_payload(&vec![7; fits as usize]));
        for (call_id, bytes) in [(2, fits + 1), (3, 2 * fits), (4, 1 << 20)] {
            peer.send(&number(BIG, call_id, bytes));
            assert_eq!(peer.expect_error(call_id), 13, "{bytes} bytes");
        }
        peer.echo_works(5);
        assert_eq!(rig.server.metrics().too_long, too_long + 3);
    }
    // A peer that accepts nothing hears of that too.
    let mut peer = narrow_peer(&rig, 0);
    peer.send(&echo(1, b""));
    assert_eq!(peer.expect_error(1), 13);
    assert_eq!(rig.rejected_in_all(), 0);
}

fn responses_above_our_own_maximum_fail_whole(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.payload_bytes_max = 64 << 10);
    let mut peer = rig.peer();
    peer.send(&number(BIG, 1, 64 << 10));
    assert_eq!(peer.expect_error(1), 13);
    peer.send(&number(BIG, 2, (64 << 10) - 8));
    let answer = peer.read();
    assert_eq!((answer.kind, answer.payload.len()), (RESPONSE, 64 << 10));
    assert_eq!(rig.server.metrics().too_long, 1);
}
