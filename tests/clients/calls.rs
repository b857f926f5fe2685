//! Calls on a server that behaves.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringcall::{Client, Code, Encode, Encoder, Limits};

use crate::service::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_end_in_the_order_in_which_they_are_done() {
    for engine in ENGINES {
        let server = server(engine);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let (mut order, done) = (Vec::new(), std::sync::Mutex::new(Vec::new()));
        let call = async |ms: u64| {
            assert_eq!(*client.later(ms).await.unwrap(), ms);
            done.lock().unwrap().push(ms);
        };
        in_time(async { tokio::join!(call(150), call(0), call(70)) }).await;
        order.append(&mut done.lock().unwrap());
        assert_eq!(order, [0, 70, 150]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_any_size_arrive_whole_from_many_tasks() {
    for engine in ENGINES {
        let name = format!("unix:@ringcall-clients-{}-{engine:?}", std::process::id());
        for listen in ["tcp://127.0.0.1:0", &name] {
            let server = start(builder(engine, listen), &told().0);
            let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
            let sizes = [0, 1, 100, 4000, 16_384, 16_400, 70_000, 1_000_000];
            let tasks = (0..24_usize).map(|task| {
                let client = client.clone();
                tokio::spawn(async move {
                    for round in 0..4 {
                        let size = sizes[(task + round) % sizes.len()];
                        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + task) as u8).collect();
                        let echoed = client.blob(&bytes).await.unwrap();
                        assert!(*echoed == *bytes, "task {task}, {size} bytes");
                    }
                })
            });
            let tasks: Vec<_> = tasks.collect();
            for task in tasks {
                in_time(task).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failure_of_the_handler_arrives_with_its_details() {
    for engine in ENGINES {
        let server = server(engine);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let status = in_time(client.missing()).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            (status.message(), status.details()),
            ("no such thing", &[1, 2, 3][..])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deadline_ends_the_call_here_and_the_handler_there() {
    for engine in ENGINES {
        let (told, mut events) = told();
        let server = start(builder(engine, "tcp://127.0.0.1:0"), &told);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let begin = Instant::now();
        let status = in_time(client.hang().deadline(Duration::from_millis(80))).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(begin.elapsed() >= Duration::from_millis(80));
        assert_eq!(in_time(events.recv()).await, Some(Event::Began));
        assert_eq!(in_time(events.recv()).await, Some(Event::Dropped));
        let passed = in_time(client.hang().deadline(Duration::ZERO)).await;
        assert_eq!(passed.unwrap_err().code(), Code::DeadlineExceeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_server_is_told_the_time_that_remains() {
    for engine in ENGINES {
        let server = server(engine);
        let address = &server.addresses()[0];
        let client = Client::builder()
            .default_deadline(Some(Duration::from_secs(7)))
            .connect(address);
        let client = ProbeClient::new(client.await.unwrap());
        let by_default = in_time(client.remaining()).await.unwrap().to_owned();
        assert!((5_000_000..=7_000_000).contains(&by_default.unwrap()));
        let own = client.remaining().deadline(Duration::from_secs(60));
        let own = in_time(own).await.unwrap().to_owned();
        assert!((55_000_000..=60_000_000).contains(&own.unwrap()));
        let none = ProbeClient::connect(address).await.unwrap();
        assert_eq!(in_time(none.remaining()).await.unwrap().to_owned(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropping_a_call_drops_its_handler() {
    for engine in ENGINES {
        let (told, mut events) = told();
        let server = start(builder(engine, "tcp://127.0.0.1:0"), &told);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        {
            let call = client.hang();
            tokio::select! {
                result = call => panic!("hang has answered: {result:?}"),
                began = in_time(events.recv()) => assert_eq!(began, Some(Event::Began)),
            }
        }
        assert_eq!(in_time(events.recv()).await, Some(Event::Dropped));
        // A call that was never polled was never sent.
        drop(client.hang());
        assert_eq!(*in_time(client.echo("next")).await.unwrap(), "next");
        assert!(events.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_beyond_the_limit_wait_for_their_turn() {
    for engine in ENGINES {
        let (told, _events) = told();
        let server = start(builder(engine, "tcp://127.0.0.1:0"), &told);
        let mut limits = Limits::default();
        limits.calls_in_flight_max = 4;
        let client = Client::builder()
            .limits(limits)
            .connect(&server.addresses()[0]);
        let client = ProbeClient::new(client.await.unwrap());
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.later(2).await.map(|ms| *ms) })
            })
            .collect();
        // One that waits has a deadline nevertheless, and one that gives up lets the others on.
        let hanging: Vec<_> = (0..4).map(|_| Box::pin(client.hang())).collect();
        for task in tasks {
            assert_eq!(in_time(task).await.unwrap().unwrap(), 2);
        }
        assert_eq!(told.running_max.load(Ordering::SeqCst), 4);
        let mut hanging = hanging;
        for call in &mut hanging {
            assert!(is_pending(call).await);
        }
        let status = in_time(client.echo("waits").deadline(Duration::from_millis(50))).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("not sent"), "{status}");
        hanging.pop();
        assert_eq!(*in_time(client.echo("goes")).await.unwrap(), "goes");
    }
}

async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn large_requests_wait_while_too_many_bytes_are_queued() {
    for engine in ENGINES {
        let server = server(engine);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let bytes = vec![7; 1 << 20];
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let (client, bytes) = (client.clone(), bytes.clone());
                tokio::spawn(async move { client.blob(bytes).await.map(|echoed| echoed.len()) })
            })
            .collect();
        for call in calls {
            assert_eq!(in_time(call).await.unwrap(), Ok(1 << 20));
        }
    }
}

/// The same service by name, with other types and a method more.
mod other {
    #[ringcall::service(name = "probe.v1")]
    pub trait Other {
        /// Has other types there.
        async fn echo(number: u32) -> u32;
        /// Does not exist there.
        async fn unknown();
        /// Is the same.
        async fn later(ms: u64) -> u64;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn methods_that_the_server_defines_differently_are_refused_one_by_one() {
    for engine in ENGINES {
        let server = server(engine);
        let client = Client::connect(&server.addresses()[0]).await.unwrap();
        let client = other::OtherClient::new(client);
        let differs = in_time(client.echo(1)).await.unwrap_err();
        assert_eq!(differs.code(), Code::FailedPrecondition);
        assert!(differs.message().contains("probe.v1/echo"), "{differs}");
        let unknown = in_time(client.unknown()).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented);
        assert_eq!(*in_time(client.later(1)).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_is_too_long_is_refused_and_harms_nothing() {
    for engine in ENGINES {
        let mut limits = Limits::default();
        limits.payload_bytes_max = 64 * 1024;
        let server = start(
            builder(engine, "tcp://127.0.0.1:0").limits(limits),
            &told().0,
        );
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let status = in_time(client.blob(vec![0; 70_000])).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(
            in_time(client.blob(vec![0; 60_000])).await.unwrap().len(),
            60_000
        );
    }
}

struct Panics;

impl Encode<String> for Panics {
    fn encode(&self, _encoder: &mut Encoder<'_>) -> Result<(), ringcall::rkyv::rancor::Failure> {
        panic!("on purpose: an encoder panics")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_panic_while_a_request_is_serialised_harms_no_other_call() {
    for engine in ENGINES {
        let (told, mut events) = told();
        let server = start(builder(engine, "tcp://127.0.0.1:0"), &told);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let in_flight = tokio::spawn({
            let client = client.clone();
            async move { client.later(100).await.map(|ms| *ms) }
        });
        assert_eq!(in_time(events.recv()).await, Some(Event::Began));
        let panicking = tokio::spawn({
            let client = client.clone();
            async move { client.echo(Panics).await.map(drop) }
        });
        assert!(in_time(panicking).await.unwrap_err().is_panic());
        assert_eq!(*in_time(client.echo("next")).await.unwrap(), "next");
        assert_eq!(in_time(in_flight).await.unwrap().unwrap(), 100);
        assert_eq!(server.metrics().accepted, 1, "on one connection");
    }
}

#[test]
fn a_script_calls_without_a_runtime() {
    for engine in ENGINES {
        let (told, mut events) = told();
        let server = start(builder(engine, "tcp://127.0.0.1:0"), &told);
        let client = ProbeClient::connect_blocking(&server.addresses()[0]).unwrap();
        assert_eq!(*client.echo("hello").wait().unwrap(), "hello");
        assert_eq!(*client.later(1).wait().unwrap(), 1);
        for size in [0, 100, 16_400, 3_000_000] {
            assert_eq!(client.blob(vec![3; size]).wait().unwrap().len(), size);
        }
        assert_eq!(client.missing().wait().unwrap_err().code(), Code::NotFound);
        assert_eq!(client.remaining().wait().unwrap().to_owned(), None);
        let timed = client.remaining().deadline(Duration::from_secs(30));
        let remaining = timed.wait().unwrap().to_owned().unwrap();
        assert!((20_000_000..=30_000_000).contains(&remaining));
        let late = client.hang().deadline(Duration::from_millis(50)).wait();
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(*client.echo("again").wait().unwrap(), "again");
        while events.blocking_recv().expect("it is dropped") != Event::Dropped {}
    }
}

#[test]
fn threads_take_turns_on_a_blocking_client() {
    let server = server(ringcall::Engine::Epoll);
    let client = ProbeClient::connect_blocking(&server.addresses()[0]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(*client.echo("x").wait().unwrap(), "x");
                }
            });
        }
    });
}

#[test]
fn calls_work_on_any_executor_and_end_with_their_runtime() {
    let server = server(ringcall::Engine::Epoll);
    let address = &server.addresses()[0];
    let unmade = Client::builder().connect_lazy(address).unwrap();
    let unmade = ProbeClient::new(unmade);
    let status = block_on(unmade.echo("x")).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(ProbeClient::connect(address)).unwrap();
    assert_eq!(*block_on(client.echo("plain")).unwrap(), "plain");
    let late = block_on(client.hang().deadline(Duration::from_millis(20)));
    assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
    drop(runtime);
    let status = block_on(client.echo("x")).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

/// The least executor: parks the thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
        {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
