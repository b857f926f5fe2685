//! How many connections a client makes to servers of several shards.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringcall::{Client, Code, Engine, Server};

use crate::engines::on_both_engines;
use crate::load::{HereClient, HereServer, Shard, here, load, rounds, run};

on_both_engines!(
    a_busy_client_is_served_by_all_shards,
    a_client_with_one_call_at_a_time_keeps_one_connection,
    no_more_connections_are_kept_than_the_program_wants,
    a_server_that_restarts_is_reached_with_all_its_shards_again,
);

const CALLERS: usize = 64;

fn serve(engine: Engine, shards: usize, address: &str) -> Server {
    Server::builder()
        .shards(NonZeroUsize::new(shards).expect("not zero"))
        .pinned(false)
        .engine(engine)
        .listen(address)
        .serve(|_| HereServer::new(Shard))
        .expect("it starts")
}

fn unix(test: &str, engine: Engine) -> String {
    format!("unix:@{test}-{engine:?}-{}", std::process::id())
}

/// Waits until the server has so many connections.
async fn until_there_are(connections: u64, server: &Server) {
    while server.metrics().connections != connections {
        tokio::task::yield_now().await;
    }
}

fn a_busy_client_is_served_by_all_shards(engine: Engine) {
    for address in ["tcp://127.0.0.1:0".to_owned(), unix("busy", engine)] {
        let server = serve(engine, 4, &address);
        run(async {
            let client = HereClient::connect(&server.addresses()[0]).await.unwrap();
            let shards = load(&client, CALLERS, false, |seen| seen.len() == 4).await;
            assert_eq!(Vec::from_iter(shards), [0, 1, 2, 3]);
            // One for each: those that came to a shard for the second time are closed.
            until_there_are(4, &server).await;
            let accepted = server.metrics().accepted;
            rounds(&client, CALLERS, 20).await;
            assert_eq!(server.metrics().accepted, accepted, "no more are made");
            drop(client);
            until_there_are(0, &server).await;
        });
    }
}

fn a_client_with_one_call_at_a_time_keeps_one_connection(engine: Engine) {
    let server = serve(engine, 4, "tcp://127.0.0.1:0");
    run(async {
        let client = HereClient::connect(&server.addresses()[0]).await.unwrap();
        let shard = here(&client).await.unwrap();
        for _ in 0..500 {
            assert_eq!(here(&client.clone()).await.unwrap(), shard);
        }
        assert_eq!(server.metrics().accepted, 1);
    });
}

fn no_more_connections_are_kept_than_the_program_wants(engine: Engine) {
    let server = serve(engine, 4, "tcp://127.0.0.1:0");
    run(async {
        for connections in [1, 2, 3] {
            let accepted = server.metrics().accepted;
            let client = Client::builder().connections_max(connections);
            let client = client.connect(&server.addresses()[0]).await.unwrap();
            let client = HereClient::new(client);
            load(&client, CALLERS, false, move |seen| {
                seen.len() == connections
            })
            .await;
            let shards = rounds(&client, CALLERS, 20).await;
            assert!(shards.len() <= connections, "{shards:?}");
            until_there_are(connections as u64, &server).await;
            if connections == 1 {
                assert_eq!(server.metrics().accepted, accepted + 1);
            }
            drop(client);
            until_there_are(0, &server).await;
        }
    });
}

#[test]
fn a_client_without_connections_is_refused() {
    let client = Client::builder().connections_max(0);
    let refused = client.connect_lazy("tcp://127.0.0.1:1").unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    for part in ["connections_max is 0", "at least 1"] {
        assert!(refused.message().contains(part), "{refused}");
    }
}

fn a_server_that_restarts_is_reached_with_all_its_shards_again(engine: Engine) {
    let address = unix("restart", engine);
    let server = serve(engine, 4, &address);
    run(async {
        let client = Client::builder().wait_for_ready(true);
        let client = HereClient::new(client.connect(&address).await.unwrap());
        load(&client, CALLERS, false, |seen| seen.len() == 4).await;
        // They call on while it restarts.
        let is_back = Arc::new(AtomicBool::new(false));
        let calling = tokio::spawn({
            let is_back = Arc::clone(&is_back);
            async move {
                let is_enough = move |_: &_| is_back.load(Ordering::SeqCst);
                load(&client, CALLERS, true, is_enough).await;
                client
            }
        });
        let restart = move || {
            server.shut_down();
            server.wait().expect("it ends");
            serve(engine, 4, &address)
        };
        let server = tokio::task::spawn_blocking(restart).await.unwrap();
        is_back.store(true, Ordering::SeqCst);
        let client = calling.await.unwrap();
        load(&client, CALLERS, false, |seen| seen.len() == 4).await;
        until_there_are(4, &server).await;
    });
}
