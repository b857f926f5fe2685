//! Peers that ask for more than they may have at once, or don't take what they asked for; and
//! kernels that do less at once than they were asked for.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/signals.rs"]
mod signals;

use std::io::Read;
use std::thread;
use std::time::Duration;

use raw::{CANCEL, ERROR, Frame, PING, PONG, RESPONSE, RawPeer};
use rig::{
    BIG, BIG_LATER, BLOCK, KEEP, Rig, WAIT, bytes_payload, echo, limits, number, on_both_engines,
    paused, resolved,
};
use ringcall::{Engine, Idle};
use signals::Storm;

on_both_engines!(
    calls_beyond_the_limit_wait_their_turn,
    a_peer_at_its_limit_can_still_cancel_and_ping,
    the_server_stops_reading_from_a_peer_beyond_its_limit,
    bytes_that_handlers_keep_are_bounded,
    bytes_that_a_shard_keeps_are_bounded,
    a_call_that_waits_past_its_deadline_is_not_executed,
    a_peer_that_never_reads_is_bounded_and_ended,
    a_slow_reader_is_not_ended,
    answers_that_pile_up_are_refused_one_by_one,
    few_receive_buffers_serve_many_floods,
    waiting_calls_and_peers_leave_receive_buffers_to_others,
    more_work_in_one_turn_than_the_queue_has_room_for,
    interrupted_system_calls_lose_nothing,
    short_sends_and_receives_lose_nothing,
);

/// Lets the shard have some turns, and sees that this peer is served in them.
fn have_turns(bystander: &mut RawPeer) {
    for token in 1..=15 {
        bystander.send(&Frame::new(PING, token, b""));
        assert_eq!(bystander.read(), Frame::new(PONG, token, b""));
    }
}

fn calls_beyond_the_limit_wait_their_turn(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.calls_in_flight_max = 4);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    for label in 1..=10 {
        peer.send(&number(WAIT, label, label));
    }
    rig.until("four calls wait", |now| now.in_flight == 4);
    have_turns(&mut bystander);
    assert_eq!(rig.probe.started(), 4);
    for label in 1..=6 {
        rig.probe.release(1);
        peer.expect_response(label, &label.to_le_bytes());
        rig.until("the next one starts", |now| now.requests == 4 + label);
        assert_eq!(rig.server.metrics().in_flight, 4);
    }
    rig.probe.release(4);
    for label in 7..=10 {
        peer.expect_response(label, &label.to_le_bytes());
    }
    rig.until("none waits", |now| now.in_flight == 0);
    peer.echo_works(11);
    assert_eq!(rig.rejected_in_all(), 0);
}

fn a_peer_at_its_limit_can_still_cancel_and_ping(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.calls_in_flight_max = 2);
    let mut peer = rig.peer();
    for label in 1..=2 {
        peer.send(&number(WAIT, label, label));
    }
    rig.until("both wait", |now| now.in_flight == 2);
    have_turns(&mut peer);
    peer.send(&Frame::new(CANCEL, 1, b""));
    assert_eq!(rig.probe.next_gone(), 1);
    peer.send(&number(WAIT, 3, 3));
    // This one waits for room.
    peer.send(&number(WAIT, 4, 4));
    rig.until("all have arrived", |now| now.in_place + now.copied == 4);
    for label in 2..=4 {
        rig.probe.release(1);
        peer.expect_response(label, &label.to_le_bytes());
    }
    assert_eq!(rig.server.metrics().cancelled, 1);
}

fn the_server_stops_reading_from_a_peer_beyond_its_limit(engine: Engine) {
    const CALLS: u64 = 320;
    let rig = Rig::with_limits(engine, |limits| limits.calls_in_flight_max = 1);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    peer.send(&number(WAIT, 1, 1));
    // Far more than fits into the system's buffers: it can't be written before it is read.
    let body = vec![5; 64 << 10];
    let (mut writer, sent) = (peer.twin(), body.clone());
    let writing = thread::spawn(move || {
        for call_id in 2..2 + CALLS {
            writer.send(&echo(call_id, &sent));
        }
    });
    rig.until("one more has arrived", |now| now.direct == 1);
    have_turns(&mut bystander);
    let metrics = rig.server.metrics();
    assert_eq!(
        (metrics.direct, metrics.in_flight),
        (1, 1),
        "no more is read"
    );
    assert_eq!(rig.probe.started(), 1, "nor started");
    assert!(!writing.is_finished());
    rig.probe.release(1);
    peer.expect_response(1, &1_u64.to_le_bytes());
    let payload = bytes_payload(&body);
    for call_id in 2..2 + CALLS {
        peer.expect_response(call_id, &payload);
    }
    writing.join().expect("all is written");
    assert_eq!(rig.server.metrics().direct, CALLS);
}

/// Length of a body that has a buffer of its own.
const KEPT: usize = 100_000;

fn keep(call_id: u64) -> Frame {
    Frame {
        selector: KEEP,
        ..echo(call_id, &[3; KEPT])
    }
}

fn bytes_that_handlers_keep_are_bounded(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.request_bytes_in_flight_max = 3 * KEPT;
    });
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    for call_id in 1..=6 {
        peer.send(&keep(call_id));
    }
    // The fourth waits with what has arrived of it, and nothing behind it is read.
    rig.until("three are taken", |now| {
        now.direct == 3 && paused(now, "memory") == 1
    });
    have_turns(&mut bystander);
    let metrics = rig.server.metrics();
    assert_eq!((metrics.direct, metrics.in_flight), (3, 3));
    // Others have room of their own.
    bystander.send(&keep(1));
    rig.until("another peer's is taken", |now| now.in_flight == 4);
    for call_id in 1..=3 {
        rig.probe.release(1);
        peer.expect_response(call_id, &(KEPT as u64).to_le_bytes());
        rig.until("the next one starts", |now| now.in_flight == 4);
    }
    rig.probe.release(4);
    for call_id in 4..=6 {
        peer.expect_response(call_id, &(KEPT as u64).to_le_bytes());
    }
    bystander.expect_response(1, &(KEPT as u64).to_le_bytes());
    rig.until("none waits", |now| now.in_flight == 0);
    peer.echo_works(7);
    assert_eq!(rig.rejected_in_all(), 0);
}

fn bytes_that_a_shard_keeps_are_bounded(engine: Engine) {
    const MEMORY: usize = 1 << 20;
    const BODY: usize = 60_000;
    const PEERS: u64 = 40;
    let rig = Rig::with(engine, |builder| {
        builder
            .memory_per_shard(MEMORY)
            .limits(limits(|limits| limits.payload_bytes_max = 64 << 10))
    });
    let mut bystander = rig.peer();
    let mut peers: Vec<_> = (0..PEERS).map(|_| rig.peer()).collect();
    let kept = Frame {
        selector: KEEP,
        ..echo(1, &[3; BODY])
    };
    for peer in &mut peers {
        peer.send(&kept);
    }
    // Half of it for all together, and half for one after the other.
    rig.until("all are taken or wait", |now| {
        now.in_flight >= 8 && now.in_flight + paused(now, "memory") == PEERS
    });
    let taken = rig.server.metrics().in_flight;
    assert!(taken <= 18, "{taken} requests of {BODY} bytes");
    // Those that hold nothing go on, with small messages and with larger ones.
    bystander.echo_works(1);
    bystander.send(&echo(2, &[4; 3000]));
    bystander.expect_response(2, &bytes_payload(&[4; 3000]));
    rig.probe.release(taken as usize);
    rig.until("some of those that wait are taken", |now| {
        now.in_flight > 0 && paused(now, "memory") < PEERS - taken
    });
    // Those that wait don't keep each other waiting when all handlers have ended.
    rig.probe.release(PEERS as usize);
    for peer in &mut peers {
        peer.expect_response(1, &(BODY as u64).to_le_bytes());
    }
    rig.until("all is given back", |now| {
        now.held_bytes == 0 && paused(now, "memory") == 0
    });
    assert_eq!(rig.rejected_in_all(), 0);
}

fn a_call_that_waits_past_its_deadline_is_not_executed(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| limits.calls_in_flight_max = 1);
    let mut peer = rig.peer();
    peer.send(&number(WAIT, 1, 1));
    rig.until("it waits", |now| now.in_flight == 1);
    // All of these arrive at once, and wait much longer than they may. The last is no valid
    // message, which is not even looked at.
    let timed = |frame: Frame| Frame {
        timeout_us: 20_000,
        ..frame
    };
    let calls = [
        timed(echo(2, b"small")),
        timed(echo(3, &[1; 100])),
        echo(4, b"has time"),
        timed(Frame::request(rig::INSPECT, 5, &[0xff; 64])),
    ];
    let wire: Vec<u8> = calls.iter().flat_map(Frame::encode).collect();
    peer.send_bytes(&wire);
    rig.until("the first has arrived", |now| {
        now.in_place + now.copied == 2
    });
    thread::sleep(Duration::from_millis(40));
    rig.probe.release(1);
    peer.expect_response(1, &1_u64.to_le_bytes());
    assert_eq!(peer.expect_error(2), 4);
    assert_eq!(peer.expect_error(3), 4);
    peer.expect_response(4, &bytes_payload(b"has time"));
    assert_eq!(peer.expect_error(5), 4);
    assert_eq!(rig.probe.started(), 2);
    let metrics = rig.server.metrics();
    assert_eq!((metrics.expired, metrics.invalid), (3, 0));
}

/// A peer whose system takes next to nothing that it does not read.
fn small_peer(rig: &Rig) -> RawPeer {
    let peer = RawPeer::connect_with(rig.address(), |socket| {
        socket.set_recv_buffer_size(2048).expect("a socket");
        socket.set_send_buffer_size(2048).expect("a socket");
    });
    resolved(peer.shaken())
}

fn a_peer_that_never_reads_is_bounded_and_ended(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.write_stall_timeout = Duration::from_millis(500);
    });
    let mut bystander = rig.peer();
    let mut peer = small_peer(&rig);
    let wire: Vec<u8> = (1..=1000)
        .flat_map(|id| number(BIG, id, 100_000).encode())
        .collect();
    let mut writer = peer.twin();
    // It may end in an error, when the server gives the connection up.
    let writing = thread::spawn(move || writer.socket.write_all(&wire).is_ok());
    rig.until("some were answered", |now| now.requests > 1);
    let mut calls = 0;
    while rig.rejected("write_stall") == 0 {
        calls += 1;
        bystander.echo_works(calls);
        thread::sleep(Duration::from_millis(1));
    }
    // The send buffer takes half a MiB, the queue a quarter and one more.
    let big_calls = rig.probe.started() - calls;
    assert!(big_calls < 20, "{big_calls} answers of 100 kB were made");
    rig.until("the connection has ended", |now| now.connections == 1);
    // No last words: the stream ends in what had been sent before.
    let mut rest = Vec::new();
    peer.socket.read_to_end(&mut rest).unwrap_or_default();
    assert!(rest.len() < 2_000_000, "{} bytes were sent", rest.len());
    writing.join().expect("no panic");
    assert_eq!(rig.rejected_in_all(), 1);
}

fn a_slow_reader_is_not_ended(engine: Engine) {
    const BYTES: usize = 8 << 20;
    let rig = Rig::with_limits(engine, |limits| {
        limits.write_stall_timeout = Duration::from_secs(1);
    });
    let mut peer = rig.peer();
    peer.send(&number(BIG, 1, BYTES as u64));
    let (mut piece, mut left) = (vec![0; 128 << 10], BYTES + 48);
    while left > 0 {
        let bytes = left.min(piece.len());
        peer.socket
            .read_exact(&mut piece[..bytes])
            .expect("the connection lives");
        left -= bytes;
        // Twice as slow, in all, as an answer may be of which nothing is read.
        thread::sleep(Duration::from_millis(30));
    }
    peer.echo_works(2);
    assert_eq!(rig.rejected_in_all(), 0);
}

fn answers_that_pile_up_are_refused_one_by_one(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.payload_bytes_max = 64 << 10;
        limits.write_queue_bytes_high = 64 << 10;
        limits.write_queue_bytes_max = 256 << 10;
    });
    let mut bystander = rig.peer();
    let mut peer = small_peer(&rig);
    for call_id in 1..=60 {
        peer.send(&number(BIG_LATER, call_id, 60_000));
    }
    rig.until("all wait", |now| now.in_flight == 60);
    rig.probe.release(60);
    rig.until("all have ended", |now| now.in_flight == 0);
    bystander.echo_works(1);
    let (mut answers, mut refused) = (0, 0);
    while answers + refused < 60 {
        let frame = peer.read();
        match frame.kind {
            RESPONSE => {
                assert_eq!(frame.payload.len(), 60_008);
                answers += 1;
            }
            ERROR => {
                assert_eq!(frame.selector, 8, "RESOURCE_EXHAUSTED");
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                assert!(text.contains("was executed"), "{text}");
                refused += 1;
            }
            kind => panic!("a frame of kind {kind}"),
        }
    }
    assert!((5..30).contains(&answers), "{answers} answers were sent");
    assert_eq!(rig.server.metrics().refused_memory, refused);
    // Nobody is ended for what was asked for in good faith.
    peer.echo_works(61);
    assert_eq!(rig.rejected_in_all(), 0);
}

/// Pipelines calls with bodies of many sizes, and sees each answered.
fn flood(mut peer: RawPeer, calls: u64, body_bytes_max: usize) {
    let body = move |id: u64| vec![id as u8; (id as usize * 7919) % body_bytes_max];
    let mut writer = peer.twin();
    let writing = thread::spawn(move || {
        for call_id in 1..=calls {
            writer.send(&echo(call_id, &body(call_id)));
        }
    });
    for call_id in 1..=calls {
        peer.expect_response(call_id, &bytes_payload(&body(call_id)));
    }
    writing.join().expect("all was written");
}

fn few_receive_buffers_serve_many_floods(engine: Engine) {
    for buffers in [1, 2] {
        let rig = Rig::with(engine, |builder| builder.recv_buffers(buffers, 1024));
        let floods: Vec<_> = (0..8)
            .map(|_| rig.peer())
            .map(|peer| thread::spawn(move || flood(peer, 300, 2500)))
            .collect();
        for flood in floods {
            flood.join().expect("every call is answered");
        }
        assert_eq!(rig.probe.started(), 8 * 300);
        assert_eq!(rig.rejected_in_all(), 0);
        rig.until_quiet();
    }
}

fn waiting_calls_and_peers_leave_receive_buffers_to_others(engine: Engine) {
    let rig = Rig::with(engine, |builder| {
        builder
            .recv_buffers(4, 1024)
            .limits(rig::limits(|limits| limits.calls_in_flight_max = 2))
    });
    let mut bystander = rig.peer();
    // Each has two calls that wait, one beyond its limit, and more behind that.
    let mut peers: Vec<_> = (0..10).map(|_| rig.peer()).collect();
    for peer in &mut peers {
        for call_id in 1..=2 {
            peer.send(&number(WAIT, call_id, call_id));
        }
        let rest: Vec<u8> = (3..=20)
            .flat_map(|id| echo(id, b"later").encode())
            .collect();
        peer.send_bytes(&rest);
    }
    rig.until("all wait", |now| now.in_flight == 20);
    for call_id in 1..=50 {
        bystander.echo_works(call_id);
    }
    rig.probe.release(20);
    for peer in &mut peers {
        let mut answered: Vec<u64> = (1..=20).map(|_| peer.read().call_id).collect();
        answered.sort_unstable();
        assert!(answered.into_iter().eq(1..=20));
    }
    rig.until("none waits", |now| now.in_flight == 0);
}

fn more_work_in_one_turn_than_the_queue_has_room_for(engine: Engine) {
    const PEERS: u64 = 1500;
    let rig = Rig::start(engine);
    let mut blocker = rig.peer();
    let mut peers: Vec<_> = (0..PEERS).map(|_| rig.peer()).collect();
    for round in 1..=2 {
        blocker.send(&Frame::request(BLOCK, round, b""));
        rig.until("the shard is held", |now| {
            now.requests == (round - 1) * (PEERS + 1) + 1
        });
        for peer in &mut peers {
            peer.send(&echo(round, b"all at once"));
        }
        rig.probe.unblock();
        blocker.expect_response(round, &0_u64.to_le_bytes());
        for peer in &mut peers {
            peer.expect_response(round, &bytes_payload(b"all at once"));
        }
    }
    // As many connections end in one turn.
    blocker.send(&Frame::request(BLOCK, 3, b""));
    rig.until("the shard is held", |now| {
        now.requests == 2 * (PEERS + 1) + 1
    });
    drop(peers);
    rig.probe.unblock();
    blocker.expect_response(3, &0_u64.to_le_bytes());
    rig.until("they have ended", |now| now.connections == 1);
    blocker.echo_works(4);
    assert_eq!(rig.rejected_in_all(), 0);
}

fn interrupted_system_calls_lose_nothing(engine: Engine) {
    for idle in [Idle::Park, Idle::default()] {
        let rig = Rig::with(engine, |builder| builder.idle(idle));
        let storm = Storm::start();
        let floods: Vec<_> = (0..2)
            .map(|_| rig.peer())
            .map(|peer| thread::spawn(move || flood(peer, 100, 200_000)))
            .collect();
        let mut peer = rig.peer();
        for call_id in 1..=300 {
            peer.echo_works(call_id);
        }
        peer.send(&Frame {
            timeout_us: 20_000,
            ..number(WAIT, 301, 1)
        });
        assert_eq!(peer.expect_error(301), 4, "timers go on too");
        for flood in floods {
            flood.join().expect("every call is answered");
        }
        assert!(storm.stop() > 20);
        assert_eq!(
            (rig.server.metrics().accept_errors, rig.rejected_in_all()),
            (0, 0)
        );
    }
}

fn short_sends_and_receives_lose_nothing(engine: Engine) {
    let rig = Rig::start(engine);
    let floods: Vec<_> = (0..2)
        .map(|_| small_peer(&rig))
        .map(|peer| thread::spawn(move || flood(peer, 10, 1_000_000)))
        .collect();
    for flood in floods {
        flood.join().expect("every call is answered");
    }
    assert_eq!(rig.rejected_in_all(), 0);
}
