//! tokio within handlers and local runtimes: the same on both engines.

use std::time::Duration;

use ringcall::{Client, Context, Engine, LocalRuntime, Reply, Request, ServeError, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::rig::on_both_engines;
use crate::serve;

on_both_engines!(
    everything_of_tokio_works_in_a_handler,
    everything_of_tokio_works_in_a_local_runtime,
    everything_of_tokio_works_in_a_factory,
    a_local_runtime_works_within_tokio,
    a_local_runtime_within_a_task_outlasts_its_budget,
    a_shard_is_woken_by_tokio_while_it_sleeps,
    a_local_runtime_on_a_shard_is_refused,
);

#[ringcall::service(name = "alike.v1")]
trait Alike {
    /// Uses tokio in this way, and answers 7.
    async fn seven(way: u64) -> u64;
    /// Runs a local runtime, and answers why that fails.
    async fn nest() -> String;
}

struct Handlers;

impl AlikeHandler for Handlers {
    async fn seven(&self, _cx: &Context, way: Request<u64>) -> Result<Reply<u64>, Status> {
        Ok(seven(way.to_native()).await.into())
    }

    async fn nest(&self, _cx: &Context) -> Result<Reply<String>, Status> {
        let nested = LocalRuntime::builder().run(|_| async {});
        let failed = nested.expect_err("it is refused");
        assert!(matches!(failed, ServeError::RuntimeOnShard));
        Ok(failed.to_string().into())
    }
}

/// Ways to use tokio that need no thread to be let go, and those that hold the thread.
const AWAITED: std::ops::Range<u64> = 0..7;
const BLOCKING: std::ops::Range<u64> = 7..11;

async fn seven(way: u64) -> u64 {
    let moment = Duration::from_millis(2);
    match way {
        0 => tokio::time::sleep(moment).await,
        1 => return tokio::spawn(after(moment)).await.expect("no panic"),
        2 => {
            let blocking = tokio::task::spawn_blocking(|| Handle::current().block_on(seven(0)));
            return blocking.await.expect("no panic");
        }
        3 => return by_socket().await,
        4 => {
            let never = std::future::pending::<()>();
            let late = tokio::time::timeout(moment, never).await;
            assert!(late.is_err());
        }
        5 => return within_a_local_set().await,
        6 => {
            let mut ticks = tokio::time::interval(moment);
            for _ in 0..7 {
                ticks.tick().await;
            }
        }
        7 => return Handle::current().block_on(async { 7 }),
        8 => return Handle::current().block_on(after(moment)),
        9 => return Runtime::new().expect("a runtime").block_on(by_socket()),
        10 => {
            let runtime = Builder::new_current_thread().enable_all().build();
            return runtime.expect("a runtime").block_on(after(moment));
        }
        other => panic!("no way {other}"),
    }
    7
}

async fn after(time: Duration) -> u64 {
    tokio::time::sleep(time).await;
    7
}

async fn within_a_local_set() -> u64 {
    let set = tokio::task::LocalSet::new();
    let inner = async {
        let task = tokio::task::spawn_local(after(Duration::from_millis(2)));
        task.await.expect("no panic")
    };
    set.run_until(inner).await
}

async fn by_socket() -> u64 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("listens");
    let address = listener.local_addr().expect("it has one");
    let answers = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("accepts");
        let number = socket.read_u64().await.expect("reads");
        socket.write_u64(number + 1).await.expect("writes");
    });
    let mut socket = tokio::net::TcpStream::connect(address)
        .await
        .expect("connects");
    socket.write_u64(6).await.expect("writes");
    let number = socket.read_u64().await.expect("reads");
    answers.await.expect("no panic");
    number
}

fn everything_of_tokio_works_in_a_handler(engine: Engine) {
    let server = serve(engine, |builder| builder, |_| AlikeServer::new(Handlers));
    let client = AlikeClient::connect_blocking(&server.addresses()[0]).expect("connects");
    for way in AWAITED.chain(BLOCKING) {
        let answer = client.seven(way).wait().expect("answers").to_native();
        assert_eq!(answer, 7, "way {way}");
    }
    assert_eq!(server.metrics().panics, 0);
}

fn everything_of_tokio_works_in_a_factory(engine: Engine) {
    let made = |_: &ringcall::Shard| {
        let sevens = AWAITED.map(|way| Handle::current().block_on(seven(way)));
        assert!(sevens.into_iter().all(|seven| seven == 7));
        AlikeServer::new(Handlers)
    };
    let server = serve(engine, |builder| builder, made);
    assert!(server.is_running());
}

fn everything_of_tokio_works_in_a_local_runtime(engine: Engine) {
    for way in AWAITED.chain(BLOCKING) {
        let runtime = LocalRuntime::builder().engine(engine);
        let answer = runtime.run(move |_| seven(way)).expect("runs");
        assert_eq!(answer, 7, "way {way}");
    }
    assert!(Handle::try_current().is_err(), "all is as it was before");
}

fn a_local_runtime_works_within_tokio(engine: Engine) {
    let run = move || {
        let mut sum = 0;
        // What holds the thread is forbidden by tokio, within its runtime, and so it is here.
        for way in AWAITED {
            let runtime = LocalRuntime::builder().engine(engine);
            sum += runtime.run(move |_| seven(way)).expect("runs");
        }
        let outer = Handle::current();
        assert_eq!(outer.id(), Handle::current().id());
        sum
    };
    let expected = 7 * (AWAITED.end - AWAITED.start);
    let many = Runtime::new().expect("a runtime");
    let one = Builder::new_current_thread().enable_all().build();
    for runtime in [many, one.expect("a runtime")] {
        assert_eq!(runtime.block_on(async { run() }), expected);
        let whole = runtime.block_on(async {
            let blocking = tokio::task::spawn_blocking(run).await.expect("no panic");
            let task = tokio::spawn(async move { run() }).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            blocking + task.expect("no panic")
        });
        assert_eq!(whole, 2 * expected);
    }
}

/// A task of tokio's may do so much before it must give way; a shard never gives way to the task that it
/// runs in.
fn a_local_runtime_within_a_task_outlasts_its_budget(engine: Engine) {
    const MESSAGES: u64 = 5000;
    let run = move || {
        LocalRuntime::builder().engine(engine).run(|_| async {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            let mut sum = 0;
            for _ in 0..MESSAGES {
                sender.send(1).expect("the receiver is there");
                sum += receiver.recv().await.expect("the sender is there");
            }
            sum
        })
    };
    let runtime = Runtime::new().expect("a runtime");
    let sum = runtime.block_on(async { run() });
    assert_eq!(sum.expect("runs"), MESSAGES);
    let sum = runtime.block_on(async { tokio::spawn(async move { run() }).await });
    assert_eq!(sum.expect("no panic").expect("runs"), MESSAGES);
}

/// Each answer comes after three waits that only tokio's thread ends.
fn a_shard_is_woken_by_tokio_while_it_sleeps(engine: Engine) {
    let park = |builder: ringcall::ServerBuilder| builder.idle(ringcall::Idle::Park);
    let server = serve(engine, park, |_| AlikeServer::new(Handlers));
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(&server.addresses()[0])
            .await
            .expect("connects");
        let client = AlikeClient::new(client);
        for round in 0..100 {
            let answer = client.seven(round % 2).deadline(Duration::from_secs(20));
            assert_eq!(answer.await.expect("answers").to_native(), 7);
        }
    });
}

fn a_local_runtime_on_a_shard_is_refused(engine: Engine) {
    let server = serve(engine, |builder| builder, |_| AlikeServer::new(Handlers));
    let client = AlikeClient::connect_blocking(&server.addresses()[0]).expect("connects");
    let text = client.nest().wait().expect("answers").as_str().to_owned();
    assert!(text.contains("a thread of its own"), "{text}");
    let nested = LocalRuntime::builder().engine(engine).run(move |_| async {
        LocalRuntime::builder()
            .run(|_| async {})
            .map_err(|error| error.to_string())
    });
    assert_eq!(nested.expect("runs"), Err(text));
    let again = LocalRuntime::builder()
        .engine(engine)
        .run(|_| async { 1 })
        .expect("runs");
    assert_eq!(again, 1);
}
