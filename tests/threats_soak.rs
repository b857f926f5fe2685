//! Peers that do anything at all, many at once: when they are gone, nothing of them is left.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::thread;
use std::time::Duration;

use raw::{CANCEL, Frame, GOAWAY, HELLO, PING, PONG, RawPeer, hello};
use rig::{
    AFTER_WAITING, AT_ONCE, BIG, BIG_LATER, FAIL, INSPECT, Rig, TREE, WAIT, WHEN_DROPPED, echo,
    limits, number, on_both_engines, resolved,
};
use ringcall::Engine;

on_both_engines!(
    a_crowd_leaves_nothing_behind,
    a_crowd_with_few_buffers_leaves_nothing_behind,
);

fn a_crowd_leaves_nothing_behind(engine: Engine) {
    crowd(engine, 256, 32 * 1024);
}

fn a_crowd_with_few_buffers_leaves_nothing_behind(engine: Engine) {
    crowd(engine, 3, 1024);
}

const THREADS: u64 = 8;
const PEERS_PER_THREAD: u64 = 20;
const SHORT: Duration = Duration::from_millis(100);

fn crowd(engine: Engine, recv_buffers: u16, recv_buffer_bytes: usize) {
    let seed = fastrand::Rng::new().u64(..);
    println!("seed {seed}");
    let rig = Rig::with(engine, |builder| {
        builder
            .recv_buffers(recv_buffers, recv_buffer_bytes)
            .limits(limits(|limits| {
                limits.calls_in_flight_max = 5;
                limits.handshake_timeout = Duration::from_secs(5);
                limits.header_timeout = SHORT;
                limits.body_grace = SHORT;
                limits.keepalive_interval = Duration::from_secs(5);
                limits.keepalive_timeout = Duration::from_secs(5);
                limits.write_stall_timeout = SHORT;
                limits.payload_bytes_max = 256 << 10;
                limits.write_queue_bytes_high = 64 << 10;
                limits.write_queue_bytes_max = 1 << 20;
            }))
    });
    let mut bystander = rig.peer();
    thread::scope(|scope| {
        let crowd: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (rig, mut random) = (&rig, fastrand::Rng::with_seed(seed ^ thread));
                scope.spawn(move || (0..PEERS_PER_THREAD).for_each(|_| visit(rig, &mut random)))
            })
            .collect();
        let mut call_id = 0;
        while !crowd.iter().all(|thread| thread.is_finished()) {
            call_id += 1;
            patient_echo(&mut bystander, call_id);
            rig.probe.release(usize::from(call_id % 8 == 0));
        }
    });
    // Each has ended by its peer, by a violation, or by its silence.
    rig.until("the crowd has left", |now| {
        now.connections == 1 && now.in_flight == 0
    });
    patient_echo(&mut bystander, u64::MAX);
    drop(bystander);
    rig.until_quiet();
    let server = rig.server;
    server.shut_down();
    server.wait().expect("no shard has failed");
}

/// An honest call by a peer that is pinged now and then.
fn patient_echo(peer: &mut RawPeer, call_id: u64) {
    peer.send(&echo(call_id, b"still here"));
    loop {
        let frame = peer.read();
        if frame.kind != PING {
            assert_eq!(frame.call_id, call_id, "{frame:?}");
            return;
        }
        peer.send(&Frame::new(PONG, frame.call_id, b""));
    }
}

/// The visit of one peer: some steps of any kind, and an end of any kind.
fn visit(rig: &Rig, random: &mut fastrand::Rng) {
    let is_small = random.bool();
    let resets = random.bool();
    let mut peer = RawPeer::connect_with(rig.address(), |socket| {
        if is_small {
            socket.set_recv_buffer_size(2048).expect("a socket");
            socket.set_send_buffer_size(2048).expect("a socket");
        }
        socket
            .set_linger(resets.then_some(Duration::ZERO))
            .expect("a socket");
    });
    if random.u8(..10) > 0 {
        peer = resolved(peer.shaken());
    }
    // A peer that only writes is not waited for.
    peer.socket.set_timeout(Some(SHORT / 2)).expect("connected");
    let mut call_id = 0;
    for _ in 0..random.u32(..30) {
        call_id += random.u64(1..3);
        let bytes = step(random, call_id);
        let cut = if random.u8(..20) == 0 {
            random.usize(..bytes.len())
        } else {
            bytes.len()
        };
        if peer.socket.write_all(&bytes[..cut]).is_err() || cut < bytes.len() {
            break;
        }
        if random.u8(..4) == 0
            && !matches!(peer.try_read(), Ok(Some(frame)) if frame.kind != GOAWAY)
        {
            break;
        }
    }
    match random.u8(..4) {
        // FIN, and then whatever comes.
        0 => {
            peer.socket
                .shut_down(std::net::Shutdown::Write)
                .unwrap_or_default();
            while let Ok(Some(_)) = peer.try_read() {}
        }
        // Reads for a while, or until the server has had enough.
        1 => while let Ok(Some(_)) = peer.try_read() {},
        // Neither reads nor writes.
        2 => thread::sleep(Duration::from_millis(random.u64(..100))),
        _ => (),
    }
}

fn step(random: &mut fastrand::Rng, call_id: u64) -> Vec<u8> {
    let timeout_us = if random.bool() {
        0
    } else {
        random.u32(1..50_000)
    };
    let timed = |frame: Frame| Frame {
        timeout_us,
        ..frame
    };
    let frame = match random.u8(..16) {
        0..=2 => timed(echo(call_id, &vec![3; random.usize(..500)])),
        3 => timed(echo(call_id, &vec![3; random.usize(..200_000)])),
        4..=5 => timed(number(WAIT, call_id, call_id)),
        6 => number(BIG, call_id, random.u64(..300_000)),
        7 => timed(number(BIG_LATER, call_id, random.u64(..300_000))),
        8 => number(
            FAIL,
            call_id,
            *random
                .choice(&[AT_ONCE, AFTER_WAITING, WHEN_DROPPED])
                .expect("three"),
        ),
        9 => Frame::request(INSPECT, call_id, &random_bytes(random, 200)),
        10 => Frame::request(TREE, call_id, &random_bytes(random, 40_000)),
        // Mostly of unknown methods.
        11 => Frame::request(random.u16(FAIL..30), call_id, &[0; 8]),
        12 => Frame::new(CANCEL, random.u64(1..=call_id), b""),
        13 => Frame::new(PING, call_id, b""),
        14 if random.u8(..4) == 0 => Frame::new(HELLO, 0, &hello()),
        15 if random.u8(..4) == 0 => return random_bytes(random, 100),
        _ => Frame::new(PONG, 0, b""),
    };
    frame.encode()
}

fn random_bytes(random: &mut fastrand::Rng, bytes_max: usize) -> Vec<u8> {
    let bytes = random.usize(1..bytes_max);
    (0..bytes).map(|_| random.u8(..)).collect()
}
