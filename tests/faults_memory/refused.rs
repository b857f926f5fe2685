//! What is refused for want of memory, or needs none since it is refused anyhow, and what lies behind it.

use super::*;

/// What is refused whatever it says takes no memory, so it need not wait for any.
pub fn bodies_that_nobody_takes(engine: Engine) {
    let attack = Attack::on(engine);
    let _holders = attack.held_requests();
    let mut peer = attack.rig.peer();
    let body = vec![7; LARGEST - 64];
    for call_id in 1..=10 {
        peer.send(&Frame {
            selector: 99,
            ..echo(call_id, &body)
        });
        let refused = next(&mut peer);
        assert_eq!((refused.kind, refused.call_id), (ERROR, call_id));
        assert_eq!(refused.code(), 12, "{}", refused.message());
    }
    attack.is_bounded("bodies that nobody takes");
    peer.echo_works(11);
}

/// A call for which there is no memory is refused after a while, so that what gives others up is read behind it.
pub fn cancels_behind_a_call_that_lacks_memory(engine: Engine) {
    let attack = Attack::on(engine);
    let rig = &attack.rig;
    let holders = attack.held_requests();
    let all = holders.len() as u64;
    rig.until("all wait for room", |now| paused(now, "memory") == all);
    let mut peer = rig.peer();
    let waits = || rig.probe.waits.load(std::sync::atomic::Ordering::SeqCst);
    let mut started = 0;
    while waits() == started {
        started += 1;
        peer.send(&number(WAIT, started, started));
        rig.until("it waits, or is held", |now| {
            waits() == started || paused(now, "memory") > all
        });
    }
    // The last one is held.
    started -= 1;
    assert!(started > 4, "a few are every connection's own: {started}");
    for call_id in 1..=started {
        peer.send(&Frame::new(raw::CANCEL, call_id, b""));
    }
    peer.send(&echo(started + 2, b"goes on"));
    let mut answer = next(&mut peer);
    // Unless there was a little room for it after all.
    if answer.call_id == started + 1 {
        assert_eq!((answer.kind, answer.code()), (ERROR, 8));
        let message = answer.message();
        assert!(message.contains("not executed"), "{message}");
        answer = next(&mut peer);
    }
    assert_eq!((answer.kind, answer.call_id), (RESPONSE, started + 2));
    for _ in 0..started {
        rig.probe.next_gone();
    }
}

/// A call whose handler keeps what it was sent, so much of it.
fn keep(call_id: u64, bytes: usize) -> Vec<u8> {
    let call = Frame {
        selector: KEEP,
        ..echo(call_id, &vec![7; bytes])
    };
    call.encode()
}

/// Reads the refusal of a call for whose request no memory came.
fn is_refused_unread(frame: &Frame) -> bool {
    if frame.kind != ERROR {
        return false;
    }
    let message = frame.message();
    assert_eq!(frame.code(), 8, "{message}");
    assert!(message.contains("not executed"), "{message}");
    true
}

/// Behind a body that finds no memory lies that the call is given up which has it.
pub fn cancels_behind_a_body_that_lacks_memory(engine: Engine) {
    const CALLS: u64 = 8;
    let rig = Rig::with(engine, |builder| {
        builder
            .memory_per_shard(2 * LARGEST)
            .limits(limits(|limits| {
                limits.payload_bytes_max = LARGEST as u32;
                limits.body_patience = Duration::from_millis(200);
            }))
    });
    let mut peer = rig.peer();
    let mut wire: Vec<u8> = (1..=CALLS)
        .flat_map(|call_id| keep(call_id, LARGEST - 64))
        .collect();
    wire.extend(Frame::new(raw::CANCEL, 1, b"").encode());
    wire.extend(echo(CALLS + 1, b"goes on").encode());
    let mut writer = peer.twin();
    let writing = thread::spawn(move || writer.send_bytes(&wire));
    // The first one has half of all memory, and more than the other half is needed for any other.
    for call_id in 2..=CALLS {
        let refused = next(&mut peer);
        assert!(is_refused_unread(&refused), "{refused:?}");
        assert_eq!(refused.call_id, call_id);
    }
    expect(&mut peer, CALLS + 1, &bytes_payload(b"goes on"));
    writing.join().expect("all is read");
    let metrics = rig.server.metrics();
    assert_eq!((metrics.refused_memory, metrics.cancelled), (CALLS - 1, 1));
    // There is room again.
    peer.send_bytes(&keep(CALLS + 2, LARGEST - 64));
    rig.until("another one is kept", |now| now.in_flight == 1);
    drop(peer);
    rig.until("all is given back", |now| {
        now.connections == 0 && now.held_bytes < 64 << 10
    });
    assert_eq!(rig.rejected_in_all(), 0);
}

/// Where nothing moves at all, nobody waits for ever; those who have found memory are left alone.
pub fn bodies_on_a_shard_where_nothing_moves(engine: Engine) {
    const PEERS: usize = 40;
    let attack = Attack::with_limits(engine, |limits| {
        limits.body_patience = Duration::from_millis(200);
    });
    let peers = attack.peers(PEERS);
    let wire = keep(1, MIB - 64);
    pour(&peers, &wire, raw::PATIENCE);
    attack.rig.until("each is kept or refused", |now| {
        now.in_flight + now.refused_memory == PEERS as u64
    });
    attack.is_bounded("bodies where nothing moves");
    let refused = attack.rig.server.metrics().refused_memory;
    assert!((1..PEERS as u64).contains(&refused), "{refused}");
    attack.others_are_served();
    // That has left a handler which takes a permit, too.
    attack
        .rig
        .until("it is gone", |now| now.in_flight + refused == PEERS as u64);
    attack.rig.probe.release(PEERS);
    let mut left = refused;
    for mut peer in peers {
        let answer = next(&mut peer);
        if is_refused_unread(&answer) {
            left -= 1;
        } else {
            assert_eq!((answer.kind, answer.call_id), (RESPONSE, 1));
        }
        peer.echo_works(2);
    }
    assert_eq!(left, 0);
    assert_eq!(attack.rig.rejected_in_all(), 0);
}
