//! More connections than there is room for, and connections that come and go.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::thread;
use std::time::Duration;

use raw::{Frame, GOAWAY, HELLO, RawPeer, hello};
use rig::{Rig, WAIT, number, on_both_engines};
use ringcall::Engine;

on_both_engines!(
    surplus_connections_are_told_and_closed,
    a_surplus_peer_that_speaks_first_hears_why,
    room_comes_back_when_a_connection_ends,
    a_storm_of_connections_harms_nobody,
    connections_that_are_gone_before_they_are_accepted_harm_nobody,
);

fn crowded(engine: Engine, connections_max: usize) -> Rig {
    Rig::with(engine, |builder| builder.connections_max(connections_max))
}

fn surplus_connections_are_told_and_closed(engine: Engine) {
    let rig = crowded(engine, 3);
    let mut peers: Vec<_> = (0..3).map(|_| rig.peer()).collect();
    for count in 1..=20 {
        let goaway = rig.stranger().expect_goaway();
        assert_eq!(goaway.reason(), 20);
        assert_eq!(goaway.payload[8..16], [0; 8], "no call was taken");
        assert_eq!(rig.rejected("too_many_connections"), count);
    }
    for peer in &mut peers {
        peer.echo_works(1);
    }
    let metrics = rig.server.metrics();
    assert_eq!((metrics.accepted, metrics.connections), (3, 3));
    assert_eq!(rig.rejected_in_all(), 20);
}

fn a_surplus_peer_that_speaks_first_hears_why(engine: Engine) {
    let rig = crowded(engine, 1);
    let mut peer = rig.peer();
    for _ in 0..50 {
        let mut surplus = rig.stranger();
        // The server may have closed already.
        surplus
            .socket
            .write_all(&Frame::new(HELLO, 0, &hello()).encode())
            .unwrap_or_default();
        let goaway = surplus.read();
        assert_eq!((goaway.kind, goaway.reason()), (GOAWAY, 20));
    }
    peer.echo_works(1);
}

fn room_comes_back_when_a_connection_ends(engine: Engine) {
    let rig = crowded(engine, 2);
    let mut stays = rig.peer();
    for round in 1..=20 {
        let mut leaves = rig.peer();
        leaves.send(&number(WAIT, 1, round));
        rig.until("it waits", |now| now.in_flight == 1);
        assert_eq!(rig.stranger().expect_goaway().reason(), 20);
        drop(leaves);
        assert_eq!(rig.probe.next_gone(), round);
        rig.until("it has left", |now| now.connections == 1);
        stays.echo_works(round);
    }
    assert_eq!(rig.rejected_in_all(), 20);
}

fn a_storm_of_connections_harms_nobody(engine: Engine) {
    let rig = crowded(engine, 50);
    let mut stays = rig.peer();
    let storm = thread::scope(|scope| {
        let storms: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    // Some get in and some don't; all are held until the end.
                    (0..200).map(|_| rig.stranger()).collect::<Vec<RawPeer>>()
                })
            })
            .collect();
        for call_id in 1..=200 {
            stays.echo_works(call_id);
        }
        storms
            .into_iter()
            .flat_map(|storm| storm.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    rig.until("all are accepted or turned away", |now| {
        let turned_away = now.rejected.iter().map(|(_, count)| count).sum::<u64>();
        now.accepted == 50 && turned_away == 351
    });
    drop(storm);
    rig.until("they have left", |now| now.connections == 1);
    stays.echo_works(201);
    rig.peer().echo_works(1);
}

fn connections_that_are_gone_before_they_are_accepted_harm_nobody(engine: Engine) {
    let rig = Rig::start(engine);
    let mut stays = rig.peer();
    stays.send(&Frame::request(rig::BLOCK, 1, b""));
    rig.until("the shard is held", |now| now.requests == 1);
    // Reset, closed, or closed after a word, while nobody accepts.
    for round in 0..60 {
        let mut gone = RawPeer::connect_with(rig.address(), |socket| {
            let linger = (round % 3 == 0).then_some(Duration::ZERO);
            socket.set_linger(linger).expect("a socket");
        });
        if round % 3 == 2 {
            gone.send(&Frame::new(HELLO, 0, &hello()));
        }
    }
    rig.probe.unblock();
    stays.expect_response(1, &0_u64.to_le_bytes());
    rig.until("they have left", |now| {
        now.accepted > 40 && now.connections == 1
    });
    stays.echo_works(2);
    rig.peer().echo_works(1);
    assert_eq!(rig.rejected_in_all(), 0);
}
