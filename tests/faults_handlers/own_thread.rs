//! A server that is dropped or waited for by one of its own handlers ends, and says what to do.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, Once};

use ringcall::{
    BlockingClient, Context, Engine, Reply, Request, ServeError, Server, ServerBuilder, Status,
};

use crate::raw::PATIENCE;
use crate::rig::{eventually, on_both_engines};
use crate::serve;

on_both_engines!(
    a_server_that_is_dropped_by_its_own_ends,
    a_server_that_its_own_service_holds_ends,
    a_server_that_its_watchdog_drops_ends,
    waiting_for_a_server_within_it_is_an_error,
    a_server_dropped_by_another_ends_before_the_drop_returns,
);

#[ringcall::service(name = "own.v1")]
trait Own {
    /// Drops the server in this way.
    async fn end(way: u64) -> u64;
    /// Holds the thread until the server is dropped by another.
    async fn hold() -> u64;
    /// Waits for the server, and answers what is wrong with that.
    async fn wait() -> String;
}

const IN_THE_HANDLER: u64 = 0;
const AFTER_A_WAIT: u64 = 1;
const IN_WHAT_IS_SPAWNED: u64 = 2;
const IN_A_TASK_OF_TOKIO: u64 = 3;
const ON_A_THREAD_FOR_BLOCKING_WORK: u64 = 4;
const WITHIN_BLOCK_ON: u64 = 5;
const WAYS: u64 = 6;

/// Where a server lies that its handlers can reach.
type Place = Arc<Mutex<Option<Server>>>;

struct Handlers {
    server: Place,
    /// Closed when the last shard has dropped its services.
    _ended: Sender<()>,
}

fn take(place: &Place) -> Server {
    let taken = place.lock().expect("not poisoned").take();
    taken.expect("it is dropped once")
}

impl OwnHandler for Handlers {
    async fn end(&self, cx: &Context, way: Request<u64>) -> Result<Reply<u64>, Status> {
        let place = Arc::clone(&self.server);
        let end = move || drop(take(&place));
        match way.to_native() {
            IN_THE_HANDLER => end(),
            AFTER_A_WAIT => {
                tokio::task::yield_now().await;
                end();
            }
            IN_WHAT_IS_SPAWNED => cx.spawn(async move { end() }),
            IN_A_TASK_OF_TOKIO => {
                let task = tokio::spawn(async move { end() });
                task.await.map_err(|_| Status::internal("it panicked"))?;
            }
            ON_A_THREAD_FOR_BLOCKING_WORK => drop(tokio::task::spawn_blocking(end)),
            WITHIN_BLOCK_ON => tokio::runtime::Handle::current().block_on(async { end() }),
            other => panic!("no way {other}"),
        }
        Ok(7.into())
    }

    async fn hold(&self, _cx: &Context) -> Result<Reply<u64>, Status> {
        eventually("it is dropped", || {
            self.server.lock().expect("not poisoned").is_none()
        });
        Ok(7.into())
    }

    async fn wait(&self, _cx: &Context) -> Result<Reply<String>, Status> {
        let waited = take(&self.server).wait();
        assert!(matches!(waited, Err(ServeError::WaitOnOwnThread)));
        Ok(waited
            .map_err(|error| error.to_string())
            .expect_err("asserted")
            .into())
    }
}

/// A server that its own handlers can drop, its address, and what is closed when it has ended.
fn server_in_reach(engine: Engine) -> (String, Place, Receiver<()>) {
    let place = Place::default();
    let (ended, has_ended) = channel();
    let given = Mutex::new(Some((Arc::clone(&place), ended)));
    let one_shard = |builder: ServerBuilder| builder;
    let server = serve(engine, one_shard, move |_| {
        let (server, _ended) = given.lock().expect("not poisoned").take().expect("once");
        OwnServer::new(Handlers { server, _ended })
    });
    let address = server.addresses()[0].clone();
    *place.lock().expect("not poisoned") = Some(server);
    (address, place, has_ended)
}

fn has_ended(address: &str, ended: &Receiver<()>) {
    let closed = ended.recv_timeout(PATIENCE);
    assert_eq!(
        closed,
        Err(RecvTimeoutError::Disconnected),
        "the services are dropped"
    );
    let address = address.trim_start_matches("tcp://");
    eventually("nobody listens", || TcpStream::connect(address).is_err());
}

fn a_server_that_is_dropped_by_its_own_ends(engine: Engine) {
    let log = Log::get();
    for way in 0..WAYS {
        let (address, _, ended) = server_in_reach(engine);
        let client = OwnClient::new(BlockingClient::connect(&address).expect("connects"));
        // A call that is in flight is answered.
        let answer = client.end(way).wait();
        assert_eq!(answer.expect("answers").to_native(), 7, "way {way}");
        // A peer that stays would be given a second to read the last words.
        drop(client);
        has_ended(&address, &ended);
    }
    assert!(log.text().contains("Call Server::shut_down there instead"));
}

fn a_server_that_its_own_service_holds_ends(engine: Engine) {
    let (address, place, ended) = server_in_reach(engine);
    let client = OwnClient::new(BlockingClient::connect(&address).expect("connects"));
    // The service is the last that holds it, and drops it with itself on the shard's thread.
    place
        .lock()
        .expect("not poisoned")
        .as_ref()
        .expect("it is there")
        .shut_down();
    drop(place);
    drop(client);
    has_ended(&address, &ended);
}

/// Whoever takes what is logged runs on the thread that logs: on the watchdog's, when a handler stalls.
fn a_server_that_its_watchdog_drops_ends(engine: Engine) {
    let log = Log::get();
    let (address, place, ended) = server_in_reach(engine);
    log.drops.lock().expect("not poisoned").push(place);
    let client = OwnClient::new(BlockingClient::connect(&address).expect("connects"));
    assert_eq!(client.hold().wait().expect("answers").to_native(), 7);
    drop(client);
    has_ended(&address, &ended);
}

fn waiting_for_a_server_within_it_is_an_error(engine: Engine) {
    let (address, _, ended) = server_in_reach(engine);
    let client = OwnClient::new(BlockingClient::connect(&address).expect("connects"));
    let answer = client.wait().wait().expect("answers");
    assert!(
        answer.contains("Call Server::shut_down"),
        "{}",
        answer.as_str()
    );
    drop(client);
    has_ended(&address, &ended);
}

/// A handler of one server drops the other: that one ends as it does on any thread.
fn a_server_dropped_by_another_ends_before_the_drop_returns(engine: Engine) {
    let (address, place, ended) = server_in_reach(engine);
    let (_, other_place, other_ended) = server_in_reach(engine);
    let own = place.lock().expect("not poisoned").take();
    let other = other_place.lock().expect("not poisoned").take();
    *place.lock().expect("not poisoned") = other;
    let client = OwnClient::new(BlockingClient::connect(&address).expect("connects"));
    let answer = client.end(IN_THE_HANDLER).wait();
    assert_eq!(answer.expect("answers").to_native(), 7);
    let closed = other_ended.try_recv();
    assert_eq!(closed, Err(TryRecvError::Disconnected));
    drop((client, own));
    has_ended(&address, &ended);
}

/// What is logged by this process.
#[derive(Clone, Default)]
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    /// Servers that are dropped when the log tells of a stall.
    drops: Arc<Mutex<Vec<Place>>>,
}

impl Log {
    fn get() -> Self {
        static LOG: Mutex<Option<Log>> = Mutex::new(None);
        static ONCE: Once = Once::new();
        let mut log = LOG.lock().expect("not poisoned");
        let log = log.get_or_insert_default().clone();
        let writer = log.clone();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .with_ansi(false)
                .init();
        });
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("not poisoned")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let mut all = self.text.lock().expect("not poisoned");
        all.extend_from_slice(text);
        drop(all);
        if String::from_utf8_lossy(text).contains("holds the CPU")
            && std::thread::current().name() == Some("ringcall-watch")
        {
            let places = std::mem::take(&mut *self.drops.lock().expect("not poisoned"));
            for place in places {
                let server = place.lock().expect("not poisoned").take();
                drop(server);
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
