//! What handlers await of tokio's works on both engines, and ends with the call.

use std::sync::Arc;
use std::time::Duration;

use ringcall::{BlockingClient, Client, Code, Context, Engine, Reply, Request, Server, Status};
use tokio::sync::Notify;

#[ringcall::service(name = "tokio.v1")]
trait Tokio {
    /// Waits for a timer, and for a task that waits for another.
    async fn wait(millis: u32) -> u32;
    /// Asks the server at this address to wait.
    async fn relay(address: String) -> u32;
    /// Waits for ever, and says when it is dropped.
    async fn hang();
    /// Leaves a task behind, which waits so often and then says that it has ended.
    async fn leave_behind(waits: u32);
}

#[derive(Clone, Default)]
struct Handlers {
    dropped: Arc<Notify>,
    left_behind_ended: Arc<Notify>,
}

struct TellDrop(Arc<Notify>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl TokioHandler for Handlers {
    async fn wait(&self, _cx: &Context, millis: Request<u32>) -> Result<Reply<u32>, Status> {
        let time = Duration::from_millis(millis.to_native().into());
        tokio::time::sleep(time).await;
        let spawned = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            7
        });
        Ok(spawned
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .into())
    }

    async fn relay(&self, _cx: &Context, address: Request<String>) -> Result<Reply<u32>, Status> {
        let other = TokioClient::new(Client::connect(&address).await?);
        Ok(other.wait(1).await?.to_native().into())
    }

    async fn hang(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        let _tell = TellDrop(Arc::clone(&self.dropped));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(().into())
    }

    async fn leave_behind(&self, _cx: &Context, waits: Request<u32>) -> Result<Reply<()>, Status> {
        let (ended, waits) = (Arc::clone(&self.left_behind_ended), waits.to_native());
        tokio::spawn(async move {
            for _ in 0..waits {
                tokio::time::sleep(Duration::from_micros(1)).await;
            }
            ended.notify_one();
        });
        Ok(().into())
    }
}

fn server(engine: Engine, handlers: &Handlers) -> Server {
    let handlers = handlers.clone();
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(move |_| TokioServer::new(handlers.clone()))
        .expect("starts")
}

#[test]
fn timers_tasks_and_clients_of_tokio_work_in_handlers() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let handlers = Handlers::default();
        let (server, other) = (server(engine, &handlers), server(engine, &handlers));
        let client = BlockingClient::connect(&server.addresses()[0]).expect("connects");
        let tokio = TokioClient::new(client);
        assert_eq!(tokio.wait(2).wait().expect("waits").to_native(), 7);
        let address = other.addresses()[0].as_str();
        assert_eq!(
            tokio.relay(address).wait().expect("is relayed").to_native(),
            7
        );
    }
}

#[test]
fn a_handler_that_waits_for_tokio_is_dropped_with_its_call() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let handlers = Handlers::default();
        let server = server(engine, &handlers);
        let client = BlockingClient::connect(&server.addresses()[0]).expect("connects");
        let tokio = TokioClient::new(client);
        let answer = tokio.hang().deadline(Duration::from_millis(20)).wait();
        assert_eq!(
            answer.expect_err("no answer").code(),
            Code::DeadlineExceeded
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(handlers.dropped.notified());
        server.shut_down();
        server.wait().expect("no shard has failed");
    }
}

#[test]
fn a_task_that_a_handler_leaves_behind_goes_on_while_the_shard_sleeps() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let handlers = Handlers::default();
        let server = server(engine, &handlers);
        let client = BlockingClient::connect(&server.addresses()[0]).expect("connects");
        let tokio = TokioClient::new(client);
        tokio.leave_behind(20).wait().expect("is left behind");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(handlers.left_behind_ended.notified());
    }
}

#[test]
fn a_factory_that_fails_says_why() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let failed = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .engine(engine)
            .serve(|_| -> Result<TokioServer<Handlers>, std::io::Error> {
                Err(std::io::Error::other("the table is gone"))
            });
        let why = failed.expect_err("no services").to_string();
        assert!(
            why.contains("shard 0") && why.contains("the table is gone"),
            "{why}"
        );
    }
}
