//! Frames that no honest peer sends: each ends its connection with a reason, and harms no other.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use raw::{
    CANCEL, ERROR, Frame, GOAWAY, HELLO, PING, PONG, RESOLVE, RESOLVED, RESPONSE, RawPeer, WELCOME,
    hello,
};
use rig::{Rig, WAIT, bytes_payload, echo, number, on_both_engines};
use ringcall::__private::wire::violation::Violation;
use ringcall::Engine;

on_both_engines!(
    lengths_above_the_maximum_are_refused_unallocated,
    contradictory_lengths_and_fields_are_refused,
    reserved_bits_unknown_kinds_and_padding_are_refused,
    credit_frames_are_refused,
    handshakes_of_strangers_are_answered_and_refused,
    frames_at_the_wrong_moment_are_refused,
    truncated_frames_are_never_dispatched,
    misaligned_frames_are_read_right,
);

/// Sends `bytes` on a connection that has worked, and sees it end for this reason alone.
fn assert_refused(rig: &Rig, what: &str, bytes: &[u8], reason: u16) {
    let mut peer = rig.peer();
    peer.echo_works(10);
    assert_ended(rig, &mut peer, what, bytes, reason);
}

fn assert_ended(rig: &Rig, peer: &mut RawPeer, what: &str, bytes: &[u8], reason: u16) -> Frame {
    let name = Violation::reason_name(reason);
    let (started, in_all) = (rig.probe.started(), rig.rejected_in_all());
    let counted = rig.rejected(name);
    peer.send_bytes(bytes);
    let goaway = peer.expect_goaway();
    assert_eq!(goaway.reason(), reason, "{what}: {}", goaway.message());
    assert_eq!(rig.rejected(name), counted + 1, "{what} is counted");
    assert_eq!(rig.rejected_in_all(), in_all + 1, "{what}: counted once");
    assert_eq!(rig.probe.started(), started, "{what} reaches no handler");
    goaway
}

/// The frame with some of its bytes overwritten.
fn with(frame: &Frame, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut wire = frame.encode();
    wire[at..at + bytes.len()].copy_from_slice(bytes);
    wire
}

fn lengths_above_the_maximum_are_refused_unallocated(engine: Engine) {
    const GIB: u32 = 1 << 30;
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let before = address_space_peak_kib();
    for bytes in [(16 << 20) + 1, GIB, GIB + 1, u32::MAX - 15, u32::MAX] {
        let wire = with(&echo(11, b""), 0, &bytes.to_le_bytes());
        assert_refused(&rig, &format!("a request of {bytes} bytes"), &wire[..32], 1);
    }
    for kind in [HELLO, RESOLVE, ERROR, GOAWAY] {
        let call_id = u64::from(kind == RESOLVE || kind == ERROR);
        for bytes in [64 * 1024 + 1, GIB] {
            let wire = with(&Frame::new(kind, call_id, b""), 0, &bytes.to_le_bytes());
            assert_refused(&rig, &format!("kind {kind} of {bytes} bytes"), &wire, 1);
        }
    }
    // Other tests of this process take some address space meanwhile, but none takes a GiB.
    let grown = address_space_peak_kib() - before;
    assert!(grown < u64::from(GIB) / 1024 / 2, "{grown} KiB more");
    bystander.echo_works(1);
}

/// The most address space that this process has had.
fn address_space_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let words = peak.expect("Linux says it").split_whitespace();
    words
        .into_iter()
        .next()
        .expect("a number")
        .parse()
        .expect("a number")
}

fn contradictory_lengths_and_fields_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let request = echo(11, b"x");
    let call_id = |kind, id| Frame::new(kind, id, b"");
    for (what, wire) in [
        (
            "a ping with a payload",
            Frame::new(PING, 1, b"data").encode(),
        ),
        (
            "a pong with a payload",
            Frame::new(PONG, 1, b"data").encode(),
        ),
        (
            "a cancel with a payload",
            Frame::new(CANCEL, 1, b"data").encode(),
        ),
        ("a request without an id", with(&request, 8, &[0; 8])),
        ("a cancel without an id", call_id(CANCEL, 0).encode()),
        ("a resolve without an id", call_id(RESOLVE, 0).encode()),
        ("a goaway with an id", call_id(GOAWAY, 9).encode()),
        ("a hello with an id", call_id(HELLO, 9).encode()),
        (
            "a ping with a selector",
            with(&call_id(PING, 1), 6, &[1, 0]),
        ),
        (
            "a cancel with a time-out",
            with(&call_id(CANCEL, 1), 16, &[1, 0, 0, 0]),
        ),
    ] {
        assert_refused(&rig, what, &wire, 2);
    }
    for (what, payload) in [
        ("no count", &[][..]),
        ("half a count", &[1]),
        ("a count without methods", &[1, 0]),
        ("129 methods", &[129, 0]),
        (
            "a name beyond the payload",
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, b'n'],
        ),
        (
            "a name of 65535 bytes",
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b'n'],
        ),
        (
            "a name that is no UTF-8",
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff],
        ),
        ("bytes behind the methods", &[0, 0, 0]),
    ] {
        let wire = Frame::new(RESOLVE, 2, payload).encode();
        assert_refused(&rig, what, &wire, 11);
    }
    bystander.echo_works(1);
}

fn reserved_bits_unknown_kinds_and_padding_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let request = echo(11, b"x");
    for at in [5].into_iter().chain(20..32) {
        let what = format!("reserved byte {at}");
        assert_refused(&rig, &what, &with(&request, at, &[0x80]), 3);
    }
    for kind in [0, 12, 13, 14, 15, 32, 47, 128, 255] {
        let what = format!("kind {kind}");
        assert_refused(&rig, &what, &with(&request, 4, &[kind]), 4);
    }
    // The payload of `x` is twelve bytes: four of padding follow.
    for at in 32 + 12..32 + 16 {
        let what = format!("padding byte {at}");
        assert_refused(&rig, &what, &with(&request, at, &[1]), 6);
    }
    // Behind a body that is received into a buffer of its own.
    let large = echo(11, &[1; 100_001]);
    let last = large.encode().len() - 1;
    assert_refused(
        &rig,
        "padding of a large body",
        &with(&large, last, &[1]),
        6,
    );
    bystander.echo_works(1);
}

fn credit_frames_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    for kind in 16..=31 {
        let wire = with(&Frame::new(PING, 11, b""), 4, &[kind]);
        assert_refused(&rig, &format!("kind {kind}"), &wire, 5);
    }
    bystander.echo_works(1);
}

fn handshakes_of_strangers_are_answered_and_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let hello_with =
        |at: usize, bytes: &[u8]| with(&Frame::new(HELLO, 0, &hello()), 32 + at, bytes);
    let (short, long) = (&hello()[..39], [&hello()[..], &[0]].concat());
    for (what, bytes, reason) in [
        ("another magic", hello_with(0, b"RINGCALX"), 8),
        (
            "a hello without versions",
            Frame::new(HELLO, 0, &hello()[..11]).encode(),
            8,
        ),
        ("a short hello", Frame::new(HELLO, 0, short).encode(), 11),
        ("a long hello", Frame::new(HELLO, 0, &long).encode(), 11),
        ("an empty hello", Frame::new(HELLO, 0, b"").encode(), 8),
        ("a call before the handshake", echo(1, b"x").encode(), 8),
        (
            "a ping before the handshake",
            Frame::new(PING, 1, b"").encode(),
            8,
        ),
        ("a later version only", hello_with(8, &[2, 0, 9, 0]), 9),
        ("an earlier version only", hello_with(8, &[0, 0, 0, 0]), 9),
        ("rkyv with big-endian integers", hello_with(12, &[0x02]), 10),
        ("rkyv of another generation", hello_with(14, &[0x07]), 10),
        (
            "the lowest version above the highest",
            hello_with(8, &[1, 0, 0, 0]),
            9,
        ),
        ("reserved bytes", hello_with(39, &[1]), 11),
        ("no room for any call", hello_with(28, &[0; 4]), 11),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            4,
        ),
    ] {
        let goaway = assert_ended(&rig, &mut rig.stranger(), what, &bytes, reason);
        // Whatever was wrong, the answer says which versions are spoken here.
        assert_eq!(goaway.payload[2..8], [0, 0, 1, 0, 1, 0], "{what}");
        assert_eq!(goaway.payload[8..16], [0; 8], "{what}: no call was taken");
        assert!(!goaway.message().is_empty());
    }
    // A peer that speaks later versions too is welcome, and offered features are not taken.
    let mut later = rig.stranger();
    later.send_bytes(&hello_with(10, &[7, 0]));
    let welcome = later.read();
    assert_eq!(
        (welcome.kind, &welcome.payload[8..12]),
        (WELCOME, &[1, 0, 1, 0][..])
    );
    let mut featured = rig.stranger();
    featured.send_bytes(&hello_with(16, &[0xff; 8]));
    assert_eq!(featured.read().payload[16..24], [0; 8]);
    bystander.echo_works(1);
}

fn frames_at_the_wrong_moment_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    for (what, frame) in [
        ("a second hello", Frame::new(HELLO, 0, &hello())),
        ("a welcome", Frame::new(WELCOME, 0, &hello())),
        ("a resolution", Frame::new(RESOLVED, 1, &[0, 0])),
        ("a response", Frame::new(RESPONSE, 10, b"")),
        (
            "an error",
            Frame {
                selector: 13,
                ..Frame::new(ERROR, 10, &[0; 4])
            },
        ),
    ] {
        assert_refused(&rig, what, &frame.encode(), 7);
    }
    bystander.echo_works(1);
}

fn truncated_frames_are_never_dispatched(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let (small, large) = (echo(2, &[1; 100]).encode(), echo(2, &[1; 100_000]).encode());
    for (wire, cut) in [
        (&small, 1),
        (&small, 31),
        (&small, 32),
        (&small, 33),
        (&small, small.len() - 1),
        (&large, 32),
        (&large, 40_000),
        (&large, large.len() - 1),
    ] {
        let started = rig.probe.started();
        let mut peer = rig.peer();
        peer.send(&echo(1, b"whole"));
        peer.send_bytes(&wire[..cut]);
        peer.finish();
        // What was whole is answered; what was not is forgotten without a word.
        peer.expect_response(1, &bytes_payload(b"whole"));
        peer.expect_end();
        assert_eq!(
            rig.probe.started(),
            started + 1,
            "cut at {cut} of {}",
            wire.len()
        );
    }
    assert_eq!(rig.rejected_in_all(), 0);
    rig.until("one connection", |now| now.connections == 1);
    bystander.echo_works(1);
}

fn misaligned_frames_are_read_right(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    // The server waits for the rest of the first frame when the second piece arrives, which starts
    // a receive buffer: everything in it lies at a distance of `cut` from where it is aligned.
    for (round, cut) in [1_usize, 8, 17, 31, 32, 33, 40, 47].into_iter().enumerate() {
        let id = 100 * (round as u64 + 1);
        let before = rig.server.metrics();
        let bodies: Vec<Vec<u8>> = (0..4).map(|at| vec![at as u8; 10 + 999 * at]).collect();
        let frames: Vec<Frame> = (id..)
            .zip(&bodies)
            .map(|(id, body)| echo(id, body))
            .collect();
        let wire: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        // A call that waits shows that what was sent before the cut has been received.
        let shown = number(WAIT, id - 1, id);
        peer.send_bytes(&[&shown.encode()[..], &wire[..cut]].concat());
        let started = rig.probe.started();
        rig.until("the first piece has arrived", |now| now.in_flight == 1);
        assert!(rig.probe.started() - started <= 1);
        peer.send_bytes(&wire[cut..]);
        for (frame, body) in frames.iter().zip(&bodies) {
            peer.expect_response(frame.call_id, &bytes_payload(body));
        }
        let after = rig.server.metrics();
        let read = after.copied - before.copied + after.in_place - before.in_place;
        assert_eq!(read, 5, "each is counted as one of the two");
        let copied = after.copied - before.copied;
        // A cut at a multiple of 16 leaves what follows the first frame aligned.
        let expected = if cut % 16 == 0 { 1 } else { 4 };
        assert_eq!(copied, expected, "cut at {cut}");
        rig.probe.release(1);
        peer.expect_response(id - 1, &id.to_le_bytes());
    }
    assert_eq!(
        (rig.server.metrics().invalid, rig.rejected_in_all()),
        (0, 0)
    );
}
