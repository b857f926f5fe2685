//! Servers that tell of shards what is not so.

use ringcall::{Client, Code};

use crate::false_shards::FalseShards;
use crate::load::{HereClient, load, rounds, run};

const CALLERS: usize = 32;
const ROUNDS: usize = 20;

#[test]
fn a_server_that_does_not_tell_has_one_connection() {
    for told in [(0, 0), (1, 0)] {
        let server = FalseShards::start(move |_| told);
        run(async {
            let client = HereClient::connect(&server.address).await.unwrap();
            rounds(&client, CALLERS, ROUNDS).await;
        });
        assert_eq!(server.look(|connections| connections.len()), 1);
    }
}

#[test]
fn a_server_with_one_shard_that_tells_of_many_is_served_by_its_one_connection() {
    let server = std::sync::Arc::new(FalseShards::start(|_| (u16::MAX, 0)));
    run(async {
        let client = HereClient::connect(&server.address).await.unwrap();
        // More than are tried in a row before there is a pause.
        let server = std::sync::Arc::clone(&server);
        load(&client, CALLERS, false, move |_| {
            server.look(|connections| connections.len() > 6)
        })
        .await;
    });
    server.look(|connections| {
        assert!(connections[0].answered > 0);
        assert!(connections[1..].iter().all(|it| it.answered == 0));
    });
}

#[test]
fn a_server_that_tells_of_more_shards_than_a_client_wants_connections() {
    for connections_max in [1, 3] {
        let server = FalseShards::start(|number| (u16::MAX, number));
        run(async {
            let client = Client::builder().connections_max(connections_max);
            let client = HereClient::new(client.connect(&server.address).await.unwrap());
            load(&client, CALLERS, false, move |seen| {
                seen.len() == connections_max
            })
            .await;
            rounds(&client, CALLERS, ROUNDS).await;
        });
        let connections = server.look(|connections| connections.len());
        assert_eq!(connections, connections_max);
    }
}

#[test]
fn a_shard_that_the_server_does_not_have_is_refused() {
    for told in [(0, 1), (2, 2), (1, u16::MAX)] {
        let server = FalseShards::start(move |_| told);
        run(async {
            let refused = HereClient::connect(&server.address).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable);
            assert!(refused.message().contains("handshake"), "{refused}");
        });
        // The first connection is not kept from its calls by such a second one.
        let server = FalseShards::start(move |number| if number == 0 { (2, 0) } else { told });
        run(async {
            let client = HereClient::connect(&server.address).await.unwrap();
            let shards = rounds(&client, CALLERS, ROUNDS).await;
            assert_eq!(Vec::from_iter(shards), [0]);
            server.until("the second is refused", |all| {
                all.len() > 1 && all[1].has_ended
            });
        });
    }
}
