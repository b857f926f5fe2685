//! The clients, against real servers on both engines and against hostile ones.

use std::time::Duration;

use ringcall::{Context, Engine, Reply, Request, Server, Status};

#[ringcall::service(name = "clients.v1")]
trait Probe {
    /// Returns what it was given.
    async fn echo(text: String) -> String;
    /// Waits for this many milliseconds, then answers with them.
    async fn later(ms: u64) -> u64;
}

struct Impl;

impl ProbeHandler for Impl {
    async fn echo(&self, _cx: &Context, text: Request<String>) -> Result<Reply<String>, Status> {
        Ok(Reply::of(text.as_str()))
    }

    async fn later(&self, cx: &Context, ms: Request<u64>) -> Result<Reply<u64>, Status> {
        cx.sleep(Duration::from_millis(ms.to_native())).await;
        Ok(ms.to_native().into())
    }
}

const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| ProbeServer::new(Impl))
        .expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_in_the_order_in_which_they_are_done() {
    for engine in ENGINES {
        let server = server(engine);
        let client = ProbeClient::connect(&server.addresses()[0]).await.unwrap();
        let slow = async {
            assert_eq!(*client.later(100).await.unwrap(), 100);
            std::time::Instant::now()
        };
        let fast = async {
            assert_eq!(*client.echo("fast").await.unwrap(), "fast");
            std::time::Instant::now()
        };
        let (slow, fast) = tokio::join!(slow, fast);
        assert!(fast < slow);
    }
}

#[test]
fn a_script_calls_without_a_runtime() {
    for engine in ENGINES {
        let server = server(engine);
        let client = ProbeClient::connect_blocking(&server.addresses()[0]).unwrap();
        assert_eq!(*client.echo("hello").wait().unwrap(), "hello");
        assert_eq!(*client.later(1).wait().unwrap(), 1);
    }
}
