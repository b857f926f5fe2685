//! A shard that could not look for a while: a handler held its thread, or the process was stopped. What
//! peers have sent meanwhile is read before any time limit of theirs is acted on, and what they could
//! not send is not missed.

#[path = "support/child.rs"]
mod child;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use raw::{Frame, HELLO, PING, PONG, RawPeer, WELCOME, hello};
use rig::{BIG, BLOCK, Rig, bytes_payload, echo, number, on_both_engines, resolved};
use ringcall::{Engine, Limits};

on_both_engines!(
    pongs_that_lie_in_the_socket_count,
    pongs_count_after_the_process_was_stopped,
    uploads_that_kept_their_rate_go_on,
    downloads_that_were_read_go_on,
    handshakes_that_lie_in_the_socket_count,
    silence_is_still_noticed_afterwards,
);

/// Every time limit of a peer.
const LIMIT: Duration = Duration::from_millis(600);
/// For so long the shard does not look: all of them are up then.
const HELD: Duration = Duration::from_millis(2000);
const PEERS: usize = 60;

/// A server whose only shard is held or stopped on demand.
struct Held {
    rig: Rig,
    holder: RawPeer,
    call_id: u64,
}

impl Held {
    fn with(engine: Engine, change: impl FnOnce(&mut Limits)) -> Self {
        let rig = Rig::with_limits(engine, change);
        let holder = rig.peer();
        Self {
            rig,
            holder,
            call_id: 0,
        }
    }

    /// Runs `meanwhile` while a handler holds the shard, for at least `HELD`.
    fn hold(&mut self, meanwhile: impl FnOnce()) {
        self.call_id += 1;
        let started = self.rig.probe.started();
        self.holder.send(&Frame::request(BLOCK, self.call_id, b""));
        rig::eventually("the shard is held", || self.rig.probe.started() > started);
        let began = Instant::now();
        meanwhile();
        thread::sleep(HELD.saturating_sub(began.elapsed()));
        self.rig.probe.unblock();
    }

    fn nobody_was_ended(&self, connections: usize) {
        assert_eq!(self.rig.rejected_in_all(), 0);
        // The holder has its own.
        let metrics = self.rig.server.metrics();
        assert_eq!(metrics.connections, connections as u64 + 1);
    }
}

/// Reads frames until a PING, and returns its token.
fn ping(peer: &mut RawPeer) -> u64 {
    let frame = peer.read();
    assert_eq!(frame.kind, PING, "{frame:?}");
    frame.call_id
}

/// An honest call of a peer that is pinged now and then.
fn call(peer: &mut RawPeer, call_id: u64) {
    peer.send(&echo(call_id, b"still here"));
    loop {
        let frame = peer.read();
        if frame.kind != PING {
            assert_eq!(frame.call_id, call_id, "{frame:?}");
            assert_eq!(frame.payload, bytes_payload(b"still here"));
            return;
        }
        peer.send(&Frame::new(PONG, frame.call_id, b""));
    }
}

fn keepalive(limits: &mut Limits) {
    limits.keepalive_interval = LIMIT;
    limits.keepalive_timeout = LIMIT;
}

fn pongs_that_lie_in_the_socket_count(engine: Engine) {
    let mut held = Held::with(engine, keepalive);
    let mut peers: Vec<RawPeer> = (0..PEERS).map(|_| held.rig.peer()).collect();
    let tokens: Vec<u64> = peers.iter_mut().map(ping).collect();
    held.hold(|| {
        for (peer, token) in peers.iter_mut().zip(&tokens) {
            peer.send(&Frame::new(PONG, *token, b""));
        }
    });
    for peer in &mut peers {
        call(peer, 1);
    }
    held.nobody_was_ended(PEERS);
}

fn pongs_count_after_the_process_was_stopped(engine: Engine) {
    let name = match engine {
        Engine::Epoll => "pongs_count_after_the_process_was_stopped::epoll",
        _ => "pongs_count_after_the_process_was_stopped::uring",
    };
    if child::task().is_none() {
        return child::passes(name, "stop");
    }
    let rig = Rig::with_limits(engine, keepalive);
    let mut peers: Vec<RawPeer> = (0..PEERS).map(|_| rig.peer()).collect();
    for peer in &mut peers {
        let token = ping(peer);
        peer.send(&Frame::new(PONG, token, b""));
        // Some are stopped while their PONG is on its way, others while a PING is.
    }
    // Another process wakes this one up again.
    let pid = std::process::id();
    let script = format!(
        "kill -STOP {pid}; sleep {}; kill -CONT {pid}",
        HELD.as_secs()
    );
    let mut waker = Command::new("sh")
        .args(["-c", &script])
        .spawn()
        .expect("a shell");
    waker.wait().expect("it ends");
    for peer in &mut peers {
        call(peer, 1);
    }
    assert_eq!(rig.rejected_in_all(), 0);
    assert_eq!(rig.server.metrics().connections, PEERS as u64);
}

fn uploads_that_kept_their_rate_go_on(engine: Engine) {
    const BODY: usize = 400_000;
    const RATE: u64 = 60_000;
    let mut held = Held::with(engine, |limits| {
        limits.body_grace = LIMIT;
        limits.body_rate_min = RATE;
        limits.header_timeout = LIMIT;
    });
    let mut peers: Vec<RawPeer> = (0..PEERS).map(|_| held.rig.peer()).collect();
    let body = vec![9; BODY];
    let wire = echo(1, &body).encode();
    // Half of the last one's header has come.
    let last = PEERS - 1;
    for (at, peer) in peers.iter_mut().enumerate() {
        peer.send_bytes(&wire[..if at == last { 16 } else { 60_000 }]);
    }
    held.rig
        .until("they are read", |now| now.connections == PEERS as u64 + 1);
    held.hold(|| {
        for (at, peer) in peers.iter_mut().enumerate() {
            let from = if at == last { 16 } else { 60_000 };
            // As much as goes into the system's buffers in any case; at the rate it would have to be more.
            peer.send_bytes(&wire[from..100_000]);
        }
    });
    thread::scope(|scope| {
        for peer in &mut peers {
            let (wire, body) = (&wire, &body);
            scope.spawn(move || {
                peer.send_bytes(&wire[100_000..]);
                peer.expect_response(1, &bytes_payload(body));
            });
        }
    });
    held.nobody_was_ended(PEERS);
}

fn downloads_that_were_read_go_on(engine: Engine) {
    const BYTES: usize = 3 << 20;
    let mut held = Held::with(engine, |limits| limits.write_stall_timeout = LIMIT);
    let mut peers: Vec<RawPeer> = (0..8)
        .map(|_| {
            let peer = RawPeer::connect_with(held.rig.address(), |socket| {
                socket.set_recv_buffer_size(64 << 10).expect("a socket");
            });
            resolved(peer.shaken())
        })
        .collect();
    for peer in &mut peers {
        peer.send(&number(BIG, 1, BYTES as u64));
    }
    held.rig.until("all are answered", |now| now.requests >= 8);
    let is_over = AtomicBool::new(false);
    let answer = bytes_payload(&vec![7; BYTES]);
    thread::scope(|scope| {
        let readers: Vec<_> = peers
            .iter_mut()
            .map(|peer| {
                let (is_over, answer) = (&is_over, &answer);
                scope.spawn(move || {
                    peer.expect_response(1, answer);
                    is_over.load(Ordering::SeqCst)
                })
            })
            .collect();
        // They take what the system has, and wait for the rest, which a held shard does not send.
        held.hold(|| ());
        is_over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.join().expect("all of it is read");
        }
    });
    held.nobody_was_ended(8);
}

fn handshakes_that_lie_in_the_socket_count(engine: Engine) {
    let mut held = Held::with(engine, |limits| limits.handshake_timeout = LIMIT);
    // Accepted before, or while nobody looks.
    let mut strangers: Vec<RawPeer> = (0..PEERS / 2).map(|_| held.rig.stranger()).collect();
    held.rig.until("they are accepted", |now| {
        now.connections == (PEERS / 2) as u64 + 1
    });
    let address = held.rig.address().to_owned();
    held.hold(|| {
        strangers.extend((0..PEERS / 2).map(|_| RawPeer::connect(&address)));
        for stranger in &mut strangers {
            stranger.send(&Frame::new(HELLO, 0, &hello()));
        }
    });
    for stranger in &mut strangers {
        assert_eq!(stranger.read().kind, WELCOME);
    }
    held.nobody_was_ended(PEERS);
}

fn silence_is_still_noticed_afterwards(engine: Engine) {
    let mut held = Held::with(engine, keepalive);
    let mut silent = held.rig.peer();
    ping(&mut silent);
    held.hold(|| ());
    // It has had its time, and has said nothing: now it counts.
    assert_eq!(silent.expect_goaway().reason(), 18);
}
