//! How connections end on both engines, where neither side has made a mistake: as soon as nothing is
//! owed, not when a time limit is over. Every limit here is longer than a test waits for anything.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use raw::{CANCEL, Frame, GOAWAY};
use rig::{Rig, ThreatClient, WAIT, limits, on_both_engines};
use ringcall::{Engine, LocalRuntime};

on_both_engines!(
    a_call_that_is_given_up_in_a_drain_ends_it,
    a_peer_that_finishes_behind_many_calls_gives_them_up,
    a_local_runtime_ends_when_its_program_has,
    a_local_client_that_is_dropped_closes_its_connection,
);

const NEVER: Duration = Duration::from_secs(3600);

/// A server whose drain has no end of its own.
fn patient(engine: Engine) -> Rig {
    Rig::with(engine, |builder| {
        let limits = limits(|limits| limits.calls_in_flight_max = CALLS as u32);
        builder.drain_timeout(NEVER).limits(limits)
    })
}

/// More than a shard takes in one turn.
const CALLS: u64 = 3000;

fn wait(call_id: u64) -> Frame {
    Frame::request(WAIT, call_id, &call_id.to_le_bytes())
}

fn a_call_that_is_given_up_in_a_drain_ends_it(engine: Engine) {
    let rig = patient(engine);
    let mut peer = rig.peer();
    peer.send(&wait(1));
    rig.until("one call waits", |_| rig.probe.started() == 1);
    rig.server.shut_down();
    assert_eq!(peer.read().kind, GOAWAY);
    peer.send(&Frame::new(CANCEL, 1, &[]));
    peer.expect_end();
}

fn a_peer_that_finishes_behind_many_calls_gives_them_up(engine: Engine) {
    let rig = patient(engine);
    let mut peer = rig.peer();
    let calls: Vec<u8> = (1..=CALLS).flat_map(|id| wait(id).encode()).collect();
    peer.send_bytes(&calls);
    peer.finish();
    peer.expect_end();
    rig.until_quiet();
}

fn a_local_runtime_ends_when_its_program_has(engine: Engine) {
    let rig = Rig::start(engine);
    let address = rig.address().to_owned();
    let runtime = LocalRuntime::builder().engine(engine);
    let ended = runtime.run(|shard| async move {
        let client = ThreatClient::new(shard.client(&address).expect("an address"));
        client.echo(vec![1]).await.map(drop)
    });
    assert_eq!(ended.expect("a shard"), Ok(()));
    rig.until_quiet();
}

fn a_local_client_that_is_dropped_closes_its_connection(engine: Engine) {
    let rig = std::rc::Rc::new(Rig::start(engine));
    let served = std::rc::Rc::clone(&rig);
    let runtime = LocalRuntime::builder().engine(engine);
    let ended = runtime.run(|shard| async move {
        let client = ThreatClient::new(shard.client(served.address()).expect("an address"));
        client.echo(vec![1]).await.map(drop)?;
        assert_eq!(served.server.metrics().connections, 1);
        drop(client);
        // The runtime goes on, and so does whatever else is on its shard.
        let until = std::time::Instant::now() + raw::PATIENCE;
        while served.server.metrics().connections > 0 {
            assert!(std::time::Instant::now() < until, "it stays open");
            shard.sleep(Duration::from_millis(1)).await;
        }
        Ok::<(), ringcall::Status>(())
    });
    assert_eq!(ended.expect("a shard"), Ok(()));
}
