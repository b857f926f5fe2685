//! What peers can make a shard hold: each attack in a process of its own, whose memory is watched beside
//! the ceiling that its configuration permits, while others are served.

#[path = "../support/child.rs"]
mod child;
#[path = "../support/raw.rs"]
mod raw;
mod refused;
#[path = "../support/rig.rs"]
mod rig;

use std::io::Write;
use std::thread;
use std::time::Duration;

use raw::{ERROR, Frame, PING, PONG, REQUEST, RESPONSE, RawPeer};
use rig::{BIG, BIG_LATER, ECHO, KEEP, Rig, WAIT, bytes_payload, echo, limits, number, paused};
use ringcall::{Engine, Limits};

use refused::{
    bodies_on_a_shard_where_nothing_moves, bodies_that_nobody_takes,
    cancels_behind_a_body_that_lacks_memory, cancels_behind_a_call_that_lacks_memory,
};

const MIB: usize = 1 << 20;
/// The largest message.
const LARGEST: usize = 4 * MIB;
const CONNECTIONS: usize = 400;
const MEMORY: usize = 32 * MIB;

/// An attack, on a server that may hold 32 MiB for up to 400 connections.
struct Attack {
    rig: Rig,
    before: usize,
}

impl Attack {
    fn on(engine: Engine) -> Self {
        Self::with_limits(engine, |_| ())
    }

    fn with_limits(engine: Engine, change: impl FnOnce(&mut Limits)) -> Self {
        let rig = Rig::with(engine, |builder| {
            builder
                .memory_per_shard(MEMORY)
                .connections_max(CONNECTIONS)
                .limits(limits(|limits| {
                    limits.payload_bytes_max = LARGEST as u32;
                    limits.write_stall_timeout = Duration::from_secs(300);
                    change(limits);
                }))
        });
        rig.peer().echo_works(1);
        let before = resident_bytes();
        Self { rig, before }
    }

    /// Sees that no more memory was taken than the configuration permits.
    fn is_bounded(&self, what: &str) {
        let ceiling = self.rig.server.memory_ceiling_bytes();
        let grown = resident_bytes().saturating_sub(self.before);
        println!("{what}: {} MiB, ceiling {} MiB", grown / MIB, ceiling / MIB);
        assert!(
            grown <= ceiling + ceiling / 10,
            "{what}: {grown} of {ceiling} bytes"
        );
    }

    /// Sees that others are served: a small call, one in two parts, many at once, one of 20 kB.
    fn others_are_served(&self) {
        let mut peer = self.rig.peer();
        peer.echo_works(1);
        let halves = echo(2, b"in two parts").encode();
        peer.send_bytes(&halves[..40]);
        thread::sleep(Duration::from_millis(5));
        peer.send_bytes(&halves[40..]);
        expect(&mut peer, 2, &bytes_payload(b"in two parts"));
        let many: Vec<u8> = (3..1003)
            .flat_map(|call_id| echo(call_id, b"many").encode())
            .collect();
        let mut writer = peer.twin();
        let writing = thread::spawn(move || writer.send_bytes(&many));
        for call_id in 3..1003 {
            expect(&mut peer, call_id, &bytes_payload(b"many"));
        }
        writing.join().expect("all is written");
        let medium = vec![5; 20_000];
        peer.send(&echo(1003, &medium));
        expect(&mut peer, 1003, &bytes_payload(&medium));
        peer.send(&number(WAIT, 1004, 7));
        self.rig
            .until("a call of another peer waits", |now| now.in_flight > 0);
        drop(peer);
    }

    /// Peers whose requests handlers hold, until some of them wait for room.
    fn held_requests(&self) -> Vec<RawPeer> {
        let peers = self.peers(9);
        let body = vec![7; LARGEST / 2];
        let keep = |call_id| Frame {
            selector: KEEP,
            ..echo(call_id, &body)
        };
        let wire: Vec<u8> = (1..=4).flat_map(|call_id| keep(call_id).encode()).collect();
        pour(&peers, &wire, Duration::from_millis(300));
        self.rig
            .until("some wait for room", |now| paused(now, "memory") > 4);
        peers
    }

    fn peers(&self, count: usize) -> Vec<RawPeer> {
        (0..count).map(|_| self.rig.peer()).collect()
    }
}

/// The next frame; pings are answered on the way.
fn next(peer: &mut RawPeer) -> Frame {
    loop {
        let frame = peer.read();
        if frame.kind != PING {
            return frame;
        }
        peer.send(&Frame::new(PONG, frame.call_id, b""));
    }
}

/// Reads the response to a call.
fn expect(peer: &mut RawPeer, call_id: u64, payload: &[u8]) {
    {
        let frame = next(peer);
        let is_error = frame.kind == ERROR;
        let said = if is_error {
            frame.message()
        } else {
            String::new()
        };
        assert_eq!((frame.kind, frame.call_id), (RESPONSE, call_id), "{said}");
        assert!(frame.payload == payload, "call {call_id}");
    }
}

/// Memory of this process that is in use.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.expect("a number of KiB") << 10
}

/// The header of a request, and nothing more.
fn header_of(method: u16, call_id: u64, payload_bytes: usize) -> Vec<u8> {
    let mut wire = Frame::request(method, call_id, b"").encode();
    wire[0..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    assert_eq!(wire[4], REQUEST);
    wire
}

/// Writes on many connections at once as far as their peer reads, and gives up what is left.
fn pour(peers: &[RawPeer], wire: &[u8], patience: Duration) {
    thread::scope(|scope| {
        for peer in peers {
            let mut writer = peer.twin();
            scope.spawn(move || {
                writer
                    .socket
                    .set_timeout(Some(patience))
                    .expect("an open socket");
                // That it is not read is what is tried here.
                writer.socket.write_all(wire).unwrap_or_default();
                writer
                    .socket
                    .set_timeout(Some(raw::PATIENCE))
                    .expect("an open socket");
            });
        }
    });
}

fn announced_bodies(engine: Engine) {
    let attack = Attack::on(engine);
    for _ in 0..3 {
        let mut peers = attack.peers(300);
        for peer in &mut peers {
            peer.send_bytes(&header_of(ECHO, 1, LARGEST));
        }
        attack.others_are_served();
        let grown = resident_bytes().saturating_sub(attack.before);
        assert!(grown < 300 * (16 << 10) + 8 * MIB, "{grown} bytes");
        attack.is_bounded("bodies that are announced");
    }
}

fn arriving_bodies(engine: Engine) {
    let attack = Attack::on(engine);
    let mut peers = attack.peers(40);
    let body = vec![7; LARGEST - 64];
    let call = Frame {
        selector: KEEP,
        ..echo(1, &body)
    };
    let wire = call.encode();
    let (most, rest) = wire.split_at(wire.len() - 100_000);
    pour(&peers, most, Duration::from_millis(300));
    attack
        .rig
        .until("many wait for room", |now| paused(now, "memory") > 20);
    attack.is_bounded("bodies that arrive");
    attack.others_are_served();
    drop((most, rest, body));
    // What was in good faith goes on when others have ended: here they end half of their own accord.
    peers.truncate(20);
    attack.is_bounded("some of them have gone");
    drop(peers);
    attack
        .rig
        .until("all is given back", |now| paused(now, "memory") == 0);
}

fn uploads_that_all_end_well(engine: Engine) {
    let attack = Attack::on(engine);
    // Together ten times as much as may be held: each waits for its turn, none is ended.
    let mut peers = attack.peers(40);
    let body = vec![7; LARGEST - 64];
    let wire = Frame {
        selector: KEEP,
        ..echo(1, &body)
    }
    .encode();
    attack.rig.probe.release(peers.len());
    thread::scope(|scope| {
        for peer in &peers {
            let (mut writer, wire) = (peer.twin(), &wire);
            scope.spawn(move || {
                // It may wait for its turn for long.
                writer
                    .socket
                    .set_timeout(Some(3 * raw::PATIENCE))
                    .expect("an open socket");
                writer.send_bytes(wire);
            });
        }
        for peer in &mut peers {
            expect(peer, 1, &(body.len() as u64).to_le_bytes());
        }
    });
    attack.is_bounded("uploads in turn");
    attack.rig.until("all is given back", |now| {
        now.held_bytes < 64 << 10 && paused(now, "memory") == 0
    });
    assert_eq!(attack.rig.rejected_in_all(), 0);
}

/// Each has its request held until there is room for its answer, of as many bytes.
fn echoes_that_all_end_well(engine: Engine) {
    let attack = Attack::on(engine);
    let peers = attack.peers(40);
    let body = vec![7; LARGEST - 64];
    let (wire, answer) = (echo(1, &body).encode(), bytes_payload(&body));
    thread::scope(|scope| {
        for mut peer in peers {
            // It may wait for its turn for long.
            let timeout = Some(3 * raw::PATIENCE);
            peer.socket.set_timeout(timeout).expect("an open socket");
            let (wire, answer, server) = (&wire, &answer, &attack.rig.server);
            scope.spawn(move || {
                peer.send_bytes(wire);
                expect(&mut peer, 1, answer);
                // What the process takes is that of the peers too.
                let held = server.metrics().held_bytes as usize;
                assert!(held <= server.memory_ceiling_bytes(), "{held} bytes");
            });
        }
    });
    attack.rig.until("all is given back", |now| {
        now.held_bytes < 64 << 10 && paused(now, "memory") == 0
    });
    assert_eq!(attack.rig.server.metrics().refused_memory, 0);
    assert_eq!(attack.rig.rejected_in_all(), 0);
}

fn unread_answers(engine: Engine) {
    let attack = Attack::on(engine);
    const BYTES: usize = 3 * MIB;
    let mut peers = attack.peers(40);
    for peer in &mut peers {
        peer.send(&number(BIG, 1, BYTES as u64));
    }
    attack
        .rig
        .until("many wait for room", |now| paused(now, "memory") > 20);
    attack.is_bounded("answers that nobody reads");
    attack.others_are_served();
    // Read after all, each is whole, also those that were not made before there was room.
    let answer = bytes_payload(&vec![7; BYTES]);
    thread::scope(|scope| {
        for peer in &mut peers {
            scope.spawn(|| expect(peer, 1, &answer));
        }
    });
    assert_eq!(attack.rig.rejected_in_all(), 0);
}

fn answers_read_all_but_the_end(engine: Engine) {
    let attack = Attack::on(engine);
    const BYTES: usize = 3 * MIB;
    let mut peers = attack.peers(40);
    // More is left than fits into the system's buffers, so the server has a part of it.
    let mut most = vec![0; BYTES - MIB];
    for peer in &mut peers {
        peer.send(&number(BIG, 1, BYTES as u64));
        if attack.rig.server.metrics().held_bytes < 10 * MIB as u64 {
            std::io::Read::read_exact(&mut peer.socket, &mut most).expect("most of it comes");
        }
    }
    attack.is_bounded("answers read but for their end");
    attack.others_are_served();
}

fn waiting_calls(engine: Engine) {
    let attack = Attack::on(engine);
    let mut peers = attack.peers(300);
    let wire: Vec<u8> = (1..=1024)
        .flat_map(|call_id| number(WAIT, call_id, call_id).encode())
        .collect();
    pour(&peers, &wire, Duration::from_millis(100));
    attack
        .rig
        .until("many wait for room", |now| paused(now, "memory") > 200);
    attack.is_bounded("calls that wait");
    attack.others_are_served();
    // They go on as others end.
    let taken = attack.rig.server.metrics().in_flight as usize;
    attack.rig.probe.release(taken + 3000);
    for peer in &mut peers {
        assert_eq!(next(peer).kind, RESPONSE);
    }
}

fn requests_held_by_handlers(engine: Engine) {
    let attack = Attack::on(engine);
    let _holders = attack.held_requests();
    attack.is_bounded("requests that handlers hold");
    attack.others_are_served();
    // One that is large, but not as large as what each of the others has.
    let mut peer = attack.rig.peer();
    let large = vec![9; 200_000];
    peer.send(&echo(1, &large));
    expect(&mut peer, 1, &bytes_payload(&large));
}

fn answers_all_at_once(engine: Engine) {
    let attack = Attack::on(engine);
    const BYTES: u64 = MIB as u64 / 2;
    let mut peers = attack.peers(20);
    for peer in &mut peers {
        for call_id in 1..=20 {
            peer.send(&number(BIG_LATER, call_id, BYTES));
        }
    }
    attack.rig.until("all wait", |now| now.in_flight == 400);
    attack.rig.probe.release(400);
    attack.rig.until("all have ended", |now| now.in_flight == 0);
    attack.is_bounded("answers all at once");
    attack.others_are_served();
    let mut refused = 0;
    for peer in &mut peers {
        for _ in 0..20 {
            let frame = next(peer);
            assert!(matches!(frame.kind, RESPONSE | ERROR), "{frame:?}");
            if frame.kind == ERROR {
                assert_eq!(frame.code(), 8);
                refused += 1;
            }
        }
    }
    assert!(refused > 200, "{refused}");
    assert_eq!(attack.rig.server.metrics().refused_memory, refused);
    assert_eq!(attack.rig.rejected_in_all(), 0);
}

fn all_together(engine: Engine) {
    let attack = Attack::on(engine);
    let uploads = attack.peers(40);
    let downloads = attack.peers(40);
    let callers = attack.peers(200);
    let body = vec![7; LARGEST - 64];
    let upload = echo(1, &body).encode();
    pour(
        &uploads,
        &upload[..upload.len() - 100_000],
        Duration::from_millis(200),
    );
    for mut peer in downloads.iter().map(RawPeer::twin) {
        peer.send(&number(BIG, 1, 3 * MIB as u64));
    }
    let calls: Vec<u8> = (1..=1024)
        .flat_map(|call_id| number(WAIT, call_id, call_id).encode())
        .collect();
    pour(&callers, &calls, Duration::from_millis(50));
    attack
        .rig
        .until("many wait for room", |now| paused(now, "memory") > 60);
    attack.is_bounded("all of it together");
    attack.others_are_served();
}

/// Writes all that it asks for before it reads the first answer, as a simple client may.
fn who_writes_everything_before_it_reads(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    let body = vec![3; 100 << 10];
    let wire: Vec<u8> = (1..=64)
        .flat_map(|call_id| echo(call_id, &body).encode())
        .collect();
    peer.send_bytes(&wire);
    for call_id in 1..=64 {
        expect(&mut peer, call_id, &bytes_payload(&body));
    }
    assert_eq!(rig.rejected_in_all(), 0);
    rig.until("all is given back", |now| now.held_bytes < 64 << 10);
}

/// As many tests as there are attacks and engines, each in a child.
macro_rules! attacks {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn uring() {
                super::run(concat!(stringify!($name), "::uring"), super::$name, ringcall::Engine::Uring);
            }
            #[test]
            fn epoll() {
                super::run(concat!(stringify!($name), "::epoll"), super::$name, ringcall::Engine::Epoll);
            }
        })*
    };
}

fn run(name: &str, attack: fn(Engine), engine: Engine) {
    match child::task() {
        Some(_) => attack(engine),
        None => child::passes(name, "attack"),
    }
}

attacks!(
    announced_bodies,
    arriving_bodies,
    uploads_that_all_end_well,
    echoes_that_all_end_well,
    bodies_that_nobody_takes,
    cancels_behind_a_call_that_lacks_memory,
    cancels_behind_a_body_that_lacks_memory,
    bodies_on_a_shard_where_nothing_moves,
    unread_answers,
    answers_read_all_but_the_end,
    waiting_calls,
    requests_held_by_handlers,
    answers_all_at_once,
    all_together,
    who_writes_everything_before_it_reads,
);
