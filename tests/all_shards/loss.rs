//! What becomes of calls when one of several connections ends.

use ringcall::{Client, Code, Limits, Status};
use tokio::task::JoinHandle;

use crate::false_shards::FalseShards;
use crate::load::{HereClient, STAYS, here, run};

/// Calls beyond which a client makes another connection.
const ENOUGH: usize = 8;

/// Calls that stay at the server.
fn staying(client: &HereClient, count: usize) -> Vec<JoinHandle<Result<u64, Status>>> {
    let call = |label| {
        let client = client.clone();
        async move { Ok(client.here(label).await?.to_native()) }
    };
    (0..count as u64)
        .map(|at| tokio::spawn(call(STAYS + at)))
        .collect()
}

/// Calls until this shard answers.
async fn until_answered_by(shard: u64, client: &HereClient) {
    while here(client).await.expect("the others go on") != shard {}
}

/// A client with connections to two shards, the first of which is busy with calls.
async fn two(server: &FalseShards) -> (HereClient, Vec<JoinHandle<Result<u64, Status>>>) {
    let client = HereClient::connect(&server.address).await.unwrap();
    let calls = staying(&client, ENOUGH);
    server.until("they are at the first", |connections| {
        connections[0].staying.len() == ENOUGH
    });
    until_answered_by(1, &client).await;
    (client, calls)
}

#[test]
fn a_connection_that_breaks_fails_its_own_calls_and_is_replaced_when_it_is_needed() {
    let server = FalseShards::start(|number| (2, number % 2));
    run(async {
        let (client, calls) = two(&server).await;
        let others = staying(&client, ENOUGH);
        server.until("they are at the second", |connections| {
            connections[1].staying.len() == ENOUGH
        });
        server.look(|connections| connections[0].break_off());
        for call in calls {
            let status = call.await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().contains("not known"), "{status}");
        }
        // What is called next finds the second, and that this one is busy.
        until_answered_by(0, &client).await;
        server.look(|connections| {
            assert_eq!(connections.len(), 3);
            connections[1].let_go();
        });
        for (at, call) in others.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap(), STAYS + at as u64);
        }
    });
}

#[test]
fn a_goaway_on_one_connection_ends_no_call_on_any() {
    let server = FalseShards::start(|number| (2, number % 2));
    run(async {
        let (client, calls) = two(&server).await;
        let last_call_id = server.look(|connections| {
            let last = connections[0].staying.iter().map(|call| call.call_id).max();
            connections[0].answered as u64 + last.expect("they stay")
        });
        server.look(|connections| {
            connections[0].go_away(last_call_id);
            connections[0].let_go();
        });
        for (at, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap(), STAYS + at as u64);
        }
        server.until("the client has closed it", |all| all[0].has_ended);
        assert_eq!(here(&client).await, Ok(1));
        server.look(|connections| {
            assert_eq!(connections.len(), 2, "one is enough for one call");
            assert!(!connections[1].has_ended);
        });
    });
}

#[test]
fn calls_that_wait_for_room_ask_for_another_connection_too() {
    // The second connection comes to the first shard, and is of no use.
    let server = FalseShards::start(|number| (2, u16::from(number == 2)));
    run(async {
        let mut limits = Limits::default();
        limits.calls_in_flight_max = 1;
        let client = Client::builder()
            .limits(limits)
            .connect(&server.address)
            .await;
        let client = HereClient::new(client.unwrap());
        let first = staying(&client, 1);
        server.until("it is at the first", |all| all[0].staying.len() == 1);
        assert_eq!(here(&client).await, Ok(1));
        server.until("the second is closed", |all| all[1].has_ended);
        server.look(|connections| {
            assert_eq!((connections.len(), connections[1].answered), (3, 0));
            connections[0].let_go();
        });
        for call in first {
            assert_eq!(call.await.unwrap(), Ok(STAYS));
        }
    });
}
