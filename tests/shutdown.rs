//! Servers that are shut down at any moment end at once, and finish what was called.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ringcall::{
    Code, Context, Engine, Idle, LocalClient, LocalRuntime, Reply, Request, Server, ServerBuilder,
    Status,
};
use tokio::sync::Semaphore;

use raw::PATIENCE;
use rig::on_both_engines;

on_both_engines!(
    a_server_ends_whenever_it_is_told_to,
    a_handler_that_calls_on_is_finished,
    a_call_that_expires_behind_another_is_not_executed,
    while_it_drains_nobody_connects,
    a_drain_may_last_for_ever,
);

#[ringcall::service(name = "gate.v1")]
trait Gate {
    /// Answers when the gate is opened.
    async fn pass(number: u32) -> u32;
    /// Holds the shard for so many milliseconds.
    async fn hold(ms: u32);
}

/// Tells who arrives.
struct Keeper {
    arrived: Sender<u32>,
    opened: Arc<Semaphore>,
}

impl GateHandler for Keeper {
    async fn pass(&self, _cx: &Context, number: Request<u32>) -> Result<Reply<u32>, Status> {
        self.arrived.send(number.to_native()).ok();
        let _open = self.opened.acquire().await;
        Ok(number.into())
    }

    async fn hold(&self, _cx: &Context, ms: Request<u32>) -> Result<Reply<()>, Status> {
        self.arrived.send(ms.to_native()).ok();
        let until = Instant::now() + Duration::from_millis(ms.to_native().into());
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(().into())
    }
}

#[ringcall::service(name = "gateway.v1")]
trait Gateway {
    /// Asks the gate.
    async fn forward(number: u32) -> u32;
}

struct Forward(GateClient<LocalClient>);

impl GatewayHandler for Forward {
    async fn forward(&self, _cx: &Context, number: Request<u32>) -> Result<Reply<u32>, Status> {
        Ok(self.0.pass(number.to_native()).await?.into())
    }
}

/// No test waits so long: a server that needs this time to end has missed something.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

fn builder(engine: Engine) -> ServerBuilder {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(NonZeroUsize::MIN)
        .engine(engine)
        .drain_timeout(DRAIN_TIMEOUT)
}

/// Calls from another thread.
fn pass(address: &str, number: u32) -> thread::JoinHandle<Result<u32, Status>> {
    let address = address.to_owned();
    thread::spawn(move || {
        let client = GateClient::connect_blocking(&address)?;
        let answer = client.pass(number).wait()?;
        Ok(answer.to_native())
    })
}

/// Whoever connects is refused at once and can turn to another server; a call in flight ends.
fn while_it_drains_nobody_connects(engine: Engine) {
    let (server, arrivals, opened) = gate(engine);
    let address = server.addresses()[0].clone();
    let calling = pass(&address, 1);
    arrivals.recv().expect("it arrives");
    server.shut_down();
    let socket_address = address.strip_prefix("tcp://").unwrap();
    // The shard closes its listener in its next turn, which resets whoever connects just then.
    let socket_address = socket_address.to_owned();
    let is_accepted = move || {
        let connected = std::net::TcpStream::connect(&socket_address);
        connected.map_or_else(
            |error| error.kind() != ErrorKind::ConnectionRefused,
            |_| true,
        )
    };
    ends("accepting", move || while is_accepted() {});
    opened.add_permits(1);
    assert_eq!(calling.join().unwrap().expect("is answered"), 1);
    server.wait().expect("no shard has failed");
}

fn a_drain_may_last_for_ever(engine: Engine) {
    let (arrived, arrivals) = channel();
    let opened = Arc::new(Semaphore::new(0));
    let keep = Arc::clone(&opened);
    let server = builder(engine)
        .drain_timeout(Duration::MAX)
        .serve(move |_| {
            GateServer::new(Keeper {
                arrived: arrived.clone(),
                opened: Arc::clone(&keep),
            })
        })
        .expect("starts");
    let calling = pass(&server.addresses()[0], 2);
    arrivals.recv().expect("it arrives");
    server.shut_down();
    opened.add_permits(1);
    assert_eq!(calling.join().unwrap().expect("is answered"), 2);
    server.wait().expect("no shard has failed");
}

fn gate(engine: Engine) -> (Server, std::sync::mpsc::Receiver<u32>, Arc<Semaphore>) {
    let (arrived, arrivals) = channel();
    let opened = Arc::new(Semaphore::new(0));
    let keep = Arc::clone(&opened);
    let server = builder(engine)
        .serve(move |_| {
            GateServer::new(Keeper {
                arrived: arrived.clone(),
                opened: Arc::clone(&keep),
            })
        })
        .expect("the gate listens");
    (server, arrivals, opened)
}

/// Waits for the end of something that another thread does.
fn ends<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = channel();
    thread::spawn(move || done.send(act()).ok());
    match ended.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(_) => panic!("{what} did not end"),
    }
}

/// From before its first turn to long after its last.
fn a_server_ends_whenever_it_is_told_to(engine: Engine) {
    for round in 0..150_u64 {
        let idle = match round % 3 {
            0 => Idle::Park,
            1 => Idle::SpinThenPark(Duration::from_micros(20)),
            _ => Idle::default(),
        };
        let (arrived, _arrivals) = channel();
        let server = builder(engine).idle(idle).serve(move |_| {
            GateServer::new(Keeper {
                arrived: arrived.clone(),
                opened: Arc::new(Semaphore::new(0)),
            })
        });
        let server = server.expect("it listens");
        let moment = Instant::now() + Duration::from_nanos(round * 7919 % 200_000);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        server.shut_down();
        ends(&format!("the server of round {round}"), move || {
            server.wait()
        })
        .expect("no shard has failed");
    }
}

#[test]
fn a_runtime_ends_with_its_future() {
    for _ in 0..20 {
        let shards = ends("the runtime", || {
            LocalRuntime::builder().run(|shard| async move { shard.count() })
        });
        assert_eq!(shards.expect("it runs"), 1);
    }
}

fn a_handler_that_calls_on_is_finished(engine: Engine) {
    let (gate, arrivals, opened) = gate(engine);
    let target = gate.addresses()[0].clone();
    let gateway = builder(engine)
        .serve(move |shard| {
            let client = shard.client(&target).expect("an address");
            GatewayServer::new(Forward(GateClient::new(client)))
        })
        .expect("the gateway listens");
    let address = gateway.addresses()[0].clone();
    let call = thread::spawn(move || {
        let client = GatewayClient::connect_blocking(&address).expect("it listens");
        client.forward(7).wait().map(|answer| answer.to_owned())
    });
    assert_eq!(arrivals.recv_timeout(PATIENCE), Ok(7));
    gateway.shut_down();
    // New callers are refused as soon as the shard has begun to drain; the old one goes on.
    let address = gateway.addresses()[0].clone();
    ends("accepting", move || {
        while GatewayClient::connect_blocking(&address).is_ok_and(|client| {
            client
                .forward(8)
                .deadline(Duration::from_millis(5))
                .wait()
                .is_err_and(|status| status.code() == Code::DeadlineExceeded)
        }) {}
    });
    opened.add_permits(100);
    assert_eq!(call.join().expect("no panic"), Ok(7));
    ends("the gateway", move || gateway.wait()).expect("no shard has failed");
}

fn a_call_that_expires_behind_another_is_not_executed(engine: Engine) {
    let (gate, arrivals, _) = gate(engine);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let expired = runtime.block_on(async {
        let client = GateClient::connect(&gate.addresses()[0]).await?;
        // Known to the server before they count.
        client.hold(0).await?;
        let (first, second) = tokio::join!(
            client.hold(120),
            client.hold(1).deadline(Duration::from_millis(30)),
        );
        first?;
        second.map(|_| ())
    });
    assert_eq!(
        expired.map_err(|status| status.code()),
        Err(Code::DeadlineExceeded)
    );
    ends("the gate", move || {
        gate.shut_down();
        gate.wait()
    })
    .expect("no shard has failed");
    assert_eq!(arrivals.try_iter().collect::<Vec<_>>(), [0, 120]);
}
