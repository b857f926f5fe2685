//! Handlers that panic, and peers that leave while handlers wait.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use raw::{CANCEL, Frame, RawPeer};
use rig::{
    AFTER_WAITING, AT_ONCE, AT_THE_END, FAIL, Rig, WAIT, WHEN_DROPPED, echo, number,
    on_both_engines, resolved,
};
use ringcall::{Context, Engine, Reply, Request, Server, Status};

on_both_engines!(
    a_panic_fails_its_call_alone,
    a_panic_before_there_is_a_future_fails_its_call_alone,
    a_panic_while_a_handler_is_dropped_harms_nobody,
    a_reset_in_a_frame_drops_the_handlers,
    a_reset_between_frames_drops_the_handlers,
    a_peer_that_leaves_beyond_its_limit_is_noticed,
);

fn a_panic_fails_its_call_alone(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    peer.send(&number(WAIT, 1, 1));
    for (call_id, how) in [
        (2, AT_ONCE),
        (4, AFTER_WAITING),
        (6, AT_THE_END),
        (8, AT_ONCE),
    ] {
        peer.send(&number(FAIL, call_id, how));
        assert_eq!(peer.expect_error(call_id), 13);
        peer.echo_works(call_id + 1);
    }
    assert_eq!(rig.server.metrics().panics, 4);
    // A pipeline of them, with honest calls between.
    let wire: Vec<u8> = (1000..1100)
        .flat_map(|call_id| match call_id % 2 {
            0 => number(FAIL, call_id, AT_ONCE).encode(),
            _ => echo(call_id, b"x").encode(),
        })
        .collect();
    peer.send_bytes(&wire);
    for call_id in 1000..1100 {
        let answer = peer.read();
        let expected = if call_id % 2 == 0 {
            raw::ERROR
        } else {
            raw::RESPONSE
        };
        assert_eq!((answer.kind, answer.call_id), (expected, call_id));
    }
    rig.probe.release(1);
    peer.expect_response(1, &1_u64.to_le_bytes());
    bystander.echo_works(1);
    let metrics = rig.server.metrics();
    assert_eq!((metrics.panics, metrics.in_flight), (54, 0));
    assert_eq!(rig.rejected_in_all(), 0);
}

fn a_panic_while_a_handler_is_dropped_harms_nobody(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    peer.send(&number(WAIT, 1, 1));
    // By a cancel, by a deadline, and by the end of the connection.
    peer.send(&number(FAIL, 2, WHEN_DROPPED));
    peer.send(&Frame::new(CANCEL, 2, b""));
    rig.until("cancelled", |now| now.cancelled == 1 && now.panics == 1);
    let timeout_us = 1000;
    peer.send(&Frame {
        timeout_us,
        ..number(FAIL, 3, WHEN_DROPPED)
    });
    assert_eq!(peer.expect_error(3), 4);
    peer.send(&number(FAIL, 4, WHEN_DROPPED));
    peer.echo_works(5);
    drop(peer);
    rig.until("dropped", |now| now.panics == 3 && now.connections == 1);
    assert_eq!(rig.probe.next_gone(), 1);
    assert_eq!(rig.server.metrics().in_flight, 0);
    bystander.echo_works(1);
}

/// A peer whose connection is reset when it is dropped.
fn abrupt_peer(rig: &Rig) -> RawPeer {
    let peer = RawPeer::connect_with(rig.address(), |socket| {
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    });
    resolved(peer.shaken())
}

fn a_reset_in_a_frame_drops_the_handlers(engine: Engine) {
    // In a header, in a small body, and in a large one that is received into its own buffer.
    for (body_bytes, cut) in [(100, 10), (100, 100), (1 << 20, 40_000)] {
        let rig = Rig::start(engine);
        let mut bystander = rig.peer();
        let mut peer = abrupt_peer(&rig);
        for label in 1..=3 {
            peer.send(&number(WAIT, label, label));
        }
        peer.send_bytes(&echo(9, &vec![1; body_bytes]).encode()[..cut]);
        rig.until("three calls wait", |now| now.in_flight == 3);
        drop(peer);
        let mut gone = [0; 3].map(|_| rig.probe.next_gone());
        gone.sort_unstable();
        assert_eq!(gone, [1, 2, 3]);
        rig.until("one connection", |now| {
            now.connections == 1 && now.in_flight == 0
        });
        let metrics = rig.server.metrics();
        assert_eq!((metrics.cancelled, rig.probe.started()), (3, 3));
        assert_eq!(rig.rejected_in_all(), 0);
        bystander.echo_works(1);
    }
}

fn a_reset_between_frames_drops_the_handlers(engine: Engine) {
    // Also when the server has stopped reading, because as many calls wait as may.
    for calls_in_flight_max in [4, 3] {
        let rig = Rig::with_limits(engine, |limits| {
            limits.calls_in_flight_max = calls_in_flight_max;
        });
        let mut peer = abrupt_peer(&rig);
        for label in 1..=3 {
            peer.send(&number(WAIT, label, label));
        }
        peer.send(&echo(9, b"one more"));
        rig.until("three calls wait", |now| now.in_flight == 3);
        drop(peer);
        let mut gone = [0; 3].map(|_| rig.probe.next_gone());
        gone.sort_unstable();
        assert_eq!(gone, [1, 2, 3]);
        rig.until_quiet();
    }
}

fn a_peer_that_leaves_beyond_its_limit_is_noticed(engine: Engine) {
    let rig = Rig::with_limits(engine, |limits| {
        limits.calls_in_flight_max = 2;
        limits.keepalive_interval = Duration::from_millis(100);
    });
    let mut peer = rig.peer();
    for label in 1..=2 {
        peer.send(&number(WAIT, label, label));
    }
    peer.send(&echo(3, b"one more"));
    rig.until("two calls wait", |now| now.in_flight == 2);
    // Nothing is read any more, so this end of the stream is not: a ping brings it to light.
    drop(peer);
    let mut gone = [0; 2].map(|_| rig.probe.next_gone());
    gone.sort_unstable();
    assert_eq!(gone, [1, 2]);
    rig.until_quiet();
}

#[ringcall::service(name = "eager.v1")]
trait Eager {
    async fn halve(number: u32) -> u32;
}

/// Its method works before it returns its future.
struct AtOnce(Rc<Cell<u32>>);

impl EagerHandler for AtOnce {
    fn halve(
        &self,
        _cx: &Context,
        number: Request<u32>,
    ) -> impl Future<Output = Result<Reply<u32>, Status>> {
        let calls = Rc::clone(&self.0);
        calls.set(calls.get() + 1);
        assert!(number.to_native().is_multiple_of(2), "odd");
        std::future::ready(Ok((number.to_native() / 2).into()))
    }
}

fn a_panic_before_there_is_a_future_fails_its_call_alone(engine: Engine) {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(NonZeroUsize::MIN)
        .engine(engine)
        .serve(|_| EagerServer::new(AtOnce(Rc::default())))
        .expect("it listens");
    let client = EagerClient::connect_blocking(&server.addresses()[0]).expect("it is there");
    for round in 0..3 {
        let refused = client
            .halve(2 * round + 1)
            .wait()
            .map(|half| half.to_owned());
        assert_eq!(
            refused.map_err(|status| status.code()),
            Err(ringcall::Code::Internal)
        );
        let half = client.halve(2 * round).wait().map(|half| half.to_owned());
        assert_eq!(half, Ok(round));
    }
    let metrics = server.metrics();
    assert_eq!(
        (metrics.panics, metrics.connections, metrics.in_flight),
        (3, 1, 0)
    );
}
