//! Peers whose network is gone: no FIN, no RST, only silence. Each test has a network of its own.

#[path = "support/child.rs"]
mod child;
#[path = "support/loopback.rs"]
mod loopback;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use raw::Frame;
use rig::{BIG, Rig, WAIT, number};
use ringcall::Engine;

const ENGINES: [(&str, Engine); 2] = [("uring", Engine::Uring), ("epoll", Engine::Epoll)];

/// Runs the test in a child for each engine, where the loopback device is its own to switch off.
fn for_each_engine(test: &str, act: impl FnOnce(Engine)) {
    let Some(task) = child::task() else {
        for (name, _) in ENGINES {
            child::passes_in_own_network(test, name);
        }
        return;
    };
    loopback::switch(true);
    let known = ENGINES.iter().find(|(name, _)| *name == task);
    act(known.expect("one of the two").1);
}

#[test]
fn a_silent_peer_is_ended_and_its_handlers_dropped() {
    for_each_engine(
        "a_silent_peer_is_ended_and_its_handlers_dropped",
        |engine| {
            let rig = Rig::with_limits(engine, |limits| {
                limits.keepalive_interval = Duration::from_millis(100);
                limits.keepalive_timeout = Duration::from_millis(100);
            });
            let mut peer = rig.peer();
            peer.send(&number(WAIT, 1, 7));
            rig.until("its handler runs", |now| now.in_flight == 1);
            loopback::switch(false);
            assert_eq!(rig.probe.next_gone(), 7);
            rig.until_quiet();
            assert_eq!(rig.rejected("keepalive_timeout"), 1);
            // The same server serves whoever comes when the network is there again.
            loopback::switch(true);
            rig.peer().echo_works(1);
        },
    );
}

#[test]
fn output_for_a_silent_peer_is_given_up() {
    for_each_engine("output_for_a_silent_peer_is_given_up", |engine| {
        let rig = Rig::with_limits(engine, |limits| {
            limits.write_stall_timeout = Duration::from_millis(200);
        });
        let mut peer = rig.peer();
        // More than the sockets' buffers take while the peer reads nothing.
        let bytes = 8 << 20;
        peer.send(&Frame::request(BIG, 1, &(bytes as u64).to_le_bytes()));
        rig.until("the answer is being sent", |now| now.requests == 1);
        loopback::switch(false);
        rig.until_quiet();
        assert_eq!(rig.rejected("write_stall"), 1);
        loopback::switch(true);
        rig.peer().echo_works(1);
    });
}
