//! Panics where a server starts and ends: in its factory, in the drop of its services, and in the future of
//! a local runtime.

use std::future::pending;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringcall::{Context, Engine, LocalRuntime, Reply, ServeError, Server, Status};

use crate::panics::Chain;
use crate::rig::on_both_engines;
use crate::{quieten_shards, serve};

on_both_engines!(
    services_that_panic_when_dropped_end_in_peace,
    a_factory_that_panics_is_named_in_the_error,
    a_local_runtime_whose_future_panics_returns_an_error,
);

/// A service that panics when it is dropped, and counts that.
struct LoudService(Arc<AtomicU64>);

#[ringcall::service(name = "lasting.v1")]
trait Lasting {
    async fn first() -> u64;
    async fn second() -> u64;
}

#[ringcall::service(name = "longer.v1")]
trait Longer {
    async fn third() -> u64;
}

impl LastingHandler for LoudService {
    async fn first(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        Ok(1.into())
    }

    async fn second(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        Ok(2.into())
    }
}

impl LongerHandler for LoudService {
    async fn third(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        Ok(3.into())
    }
}

impl Drop for LoudService {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic_any(Chain(2));
    }
}

fn services_that_panic_when_dropped_end_in_peace(engine: Engine) {
    let dropped = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&dropped);
    let server = serve(
        engine,
        |builder| builder,
        move |_| {
            (
                LastingServer::new(LoudService(Arc::clone(&counted))),
                LongerServer::new(LoudService(Arc::clone(&counted))),
            )
        },
    );
    let address = server.addresses()[0].clone();
    let client = LastingClient::connect_blocking(&address).expect("connects");
    assert_eq!(client.second().wait().expect("answers").to_native(), 2);
    drop(client);
    server.shut_down();
    server.wait().expect("no shard has failed");
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

fn a_factory_that_panics_is_named_in_the_error(engine: Engine) {
    quieten_shards();
    for shards in [1, 3] {
        let failed = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .shards(shards.try_into().expect("not zero"))
            .engine(engine)
            .serve(move |shard| {
                if shard.id() + 1 == shards {
                    panic!("on purpose: the factory of {}", shard.id());
                }
                // What it leaves behind is dropped all the same.
                shard.spawn(pending());
                LastingServer::new(LoudService(Arc::default()))
            });
        let text = failed.expect_err("no services").to_string();
        let named = format!("the factory of {}", shards - 1);
        assert!(text.contains(&named) && text.contains("panicked"), "{text}");
    }
    let failed = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().expect("not zero"))
        .engine(engine)
        .serve(|_| -> LastingServer<LoudService> { panic_any(Chain(2)) });
    let text = failed.expect_err("no services").to_string();
    assert!(text.contains("panicked"), "{text}");
    let failed = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .engine(engine)
        .serve(|_| Err::<LastingServer<LoudService>, _>(LoudError));
    let text = failed.expect_err("no services").to_string();
    assert!(text.contains("panicked: on purpose"), "{text}");
}

/// An error that panics when it is dropped.
struct LoudError;

impl std::fmt::Display for LoudError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a loud error")
    }
}

impl Drop for LoudError {
    fn drop(&mut self) {
        panic!("on purpose: an error is dropped");
    }
}

/// When a future panics.
#[derive(Clone, Copy, PartialEq)]
enum When {
    AtOnce,
    AfterASleep,
    BeforeTheFuture,
}

fn a_local_runtime_whose_future_panics_returns_an_error(engine: Engine) {
    quieten_shards();
    let run = move |when| {
        LocalRuntime::builder().engine(engine).run(move |shard| {
            if when == When::BeforeTheFuture {
                panic_any(Chain(2));
            }
            async move {
                if when == When::AfterASleep {
                    shard.sleep(Duration::from_millis(1)).await;
                }
                panic_any(Chain(2))
            }
        })
    };
    let quiet = std::thread::Builder::new().name("quiet".into());
    let results =
        quiet.spawn(move || [When::AtOnce, When::AfterASleep, When::BeforeTheFuture].map(run));
    for result in results.expect("a thread").join().expect("no panic") {
        let result: Result<(), ServeError> = result;
        assert!(matches!(result, Err(ServeError::Shards(_))), "{result:?}");
    }
}
