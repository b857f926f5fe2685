//! One way to call, for all clients.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ringcall::{
    BlockingClient, Client, Encode, Encoder, Engine, Limits, LocalRuntime, Response, Shard, Status,
    rkyv,
};

use crate::raw::PATIENCE;

#[ringcall::service(name = "fault.v1")]
pub trait Fault {
    /// One number in, one out.
    async fn one(number: u64) -> u64;
    /// Returns what it was given.
    async fn echo(bytes: Vec<u8>) -> Vec<u8>;
}

/// A client, and what becomes of it between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// tokio's client; its runtime has a thread of its own.
    Tokio,
    /// tokio's client; its runtime stands still between calls.
    TokioIdle,
    /// The client for scripts.
    Script,
    /// A shard's client; the shard goes on between calls.
    Local(Engine),
    /// A shard's client; its thread is held between calls.
    LocalHeld(Engine),
}

pub const KINDS: [Kind; 7] = [
    Kind::Tokio,
    Kind::TokioIdle,
    Kind::Script,
    Kind::Local(Engine::Uring),
    Kind::Local(Engine::Epoll),
    Kind::LocalHeld(Engine::Uring),
    Kind::LocalHeld(Engine::Epoll),
];

/// A request that can't be encoded: the program's own code panics.
pub struct Panics;

/// What a panic carries: it panics again when it is dropped.
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload of a panic panics when it is dropped");
    }
}

impl Encode<Vec<u8>> for Panics {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), rkyv::rancor::Failure> {
        // Some bytes are there already.
        Encode::<u64>::encode(&7_u64, encoder)?;
        std::panic::panic_any(Bomb)
    }
}

/// What a client is told to do.
enum Order {
    Call(u64, Option<Duration>),
    /// Makes a call that panics while it is encoded.
    Panic,
}

/// A client of some kind on a thread of its own.
pub struct Caller {
    kind: Kind,
    orders: Option<Sender<Order>>,
    outcomes: Receiver<Result<u64, Status>>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    pub fn new(kind: Kind, address: &str) -> Self {
        Self::with(kind, address, Setup::default())
    }

    /// One that is set up so.
    pub fn with(kind: Kind, address: &str, setup: Setup) -> Self {
        let (orders, to_do) = channel();
        let (done, outcomes) = channel();
        let address = address.to_owned();
        let thread = std::thread::spawn(move || run(kind, &address, setup, to_do, &done));
        Self {
            kind,
            orders: Some(orders),
            outcomes,
            thread: Some(thread),
        }
    }

    /// Begins a call.
    pub fn begin(&self, number: u64, deadline: Option<Duration>) {
        self.order(Order::Call(number, deadline));
    }

    /// What the call has ended with that was begun first.
    pub fn outcome(&self) -> Result<u64, Status> {
        let outcome = self.outcomes.recv_timeout(PATIENCE);
        outcome.unwrap_or_else(|_| panic!("{:?} does not end a call", self.kind))
    }

    pub fn call(&self, number: u64) -> Result<u64, Status> {
        self.begin(number, None);
        self.outcome()
    }

    /// A call that must succeed.
    pub fn calls(&self, number: u64) {
        let outcome = self.call(number);
        assert_eq!(outcome, Ok(number), "{:?}", self.kind);
    }

    /// A call whose request panics while it is encoded; says that it did.
    pub fn panics(&self) {
        self.order(Order::Panic);
        assert_eq!(self.outcome(), Ok(0), "{:?}", self.kind);
    }

    fn order(&self, order: Order) {
        let orders = self.orders.as_ref().expect("not dropped");
        orders.send(order).expect("the client's thread lives");
    }
}

/// Ends the client.
impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.orders.take());
        let ended = self.thread.take().expect("not dropped").join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn catch<T>(call: impl FnOnce() -> T) -> Result<u64, Status> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    let payload = caught.err().expect("the panic reaches the caller");
    assert!(payload.is::<Bomb>());
    std::mem::forget(payload);
    Ok(0)
}

fn number<T>(response: Result<T, Status>, read: impl FnOnce(&T) -> u64) -> Result<u64, Status> {
    response.map(|response| read(&response))
}

/// How a client is set up, whatever kind it is of.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    /// `None` if the program says nothing.
    pub default_deadline: Option<Duration>,
}

fn run(
    kind: Kind,
    address: &str,
    setup: Setup,
    orders: Receiver<Order>,
    done: &Sender<Result<u64, Status>>,
) {
    quieten();
    match kind {
        Kind::Tokio => by_tokio(
            tokio::runtime::Builder::new_multi_thread(),
            address,
            setup,
            orders,
            done,
        ),
        Kind::TokioIdle => {
            by_tokio(
                tokio::runtime::Builder::new_current_thread(),
                address,
                setup,
                orders,
                done,
            );
        }
        Kind::Script => by_script(address, setup, orders, done),
        Kind::Local(engine) => on_a_shard(engine, false, address, setup, orders, done),
        Kind::LocalHeld(engine) => on_a_shard(engine, true, address, setup, orders, done),
    }
}

/// Panics on purpose say nothing.
fn quieten() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload().is::<Bomb>() {
                default(panic);
            }
        }));
    });
}

fn by_tokio(
    mut builder: tokio::runtime::Builder,
    address: &str,
    setup: Setup,
    orders: Receiver<Order>,
    done: &Sender<Result<u64, Status>>,
) {
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let mut client = Client::builder();
    if setup.default_deadline.is_some() {
        client = client.default_deadline(setup.default_deadline);
    }
    let client = client.connect_lazy(address).unwrap();
    let client = FaultClient::new(client);
    for order in orders {
        let outcome = match order {
            Order::Call(value, deadline) => runtime.block_on(async {
                let call = client.one(value);
                let response = match deadline {
                    Some(time) => call.deadline(time).await,
                    None => call.await,
                };
                number(response, |number: &Response<u64>| number.to_native())
            }),
            Order::Panic => catch(|| runtime.block_on(client.echo(Panics)).map(drop)),
        };
        done.send(outcome).unwrap();
    }
    // The runtime goes on until the connections are closed.
    drop(client);
    runtime.block_on(tokio::task::yield_now());
}

fn by_script(
    address: &str,
    setup: Setup,
    orders: Receiver<Order>,
    done: &Sender<Result<u64, Status>>,
) {
    // This one connects at once; the others at their first call.
    let mut client = None;
    for order in orders {
        let client = match &client {
            Some(client) => client,
            None => match BlockingClient::connect(address) {
                Ok(mut made) => {
                    if setup.default_deadline.is_some() {
                        made = made.default_deadline(setup.default_deadline);
                    }
                    client.insert(FaultClient::new(made))
                }
                Err(status) => {
                    done.send(Err(status)).unwrap();
                    continue;
                }
            },
        };
        let outcome = match order {
            Order::Call(value, deadline) => {
                let call = client.one(value);
                let response = match deadline {
                    Some(time) => call.deadline(time).wait(),
                    None => call.wait(),
                };
                number(response, |number: &Response<u64>| number.to_native())
            }
            Order::Panic => catch(|| client.echo(Panics).wait().map(drop)),
        };
        done.send(outcome).unwrap();
    }
}

fn on_a_shard(
    engine: Engine,
    is_held: bool,
    address: &str,
    setup: Setup,
    orders: Receiver<Order>,
    done: &Sender<Result<u64, Status>>,
) {
    let (address, done) = (address.to_owned(), done.clone());
    let main = move |shard: Shard| async move {
        let mut client = shard.client(&address).unwrap();
        if setup.default_deadline.is_some() {
            client = client.default_deadline(setup.default_deadline);
        }
        let client = FaultClient::new(client);
        while let Some(order) = next(&shard, &orders, is_held).await {
            let outcome = match order {
                Order::Call(value, deadline) => {
                    let call = client.one(value);
                    let response = match deadline {
                        Some(time) => call.deadline(time).await,
                        None => call.await,
                    };
                    response.map(|number| number.to_native())
                }
                Order::Panic => catch(|| {
                    let mut call = Box::pin(async { client.echo(Panics).await.map(drop) });
                    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                    call.as_mut().poll(&mut cx).is_ready()
                }),
            };
            done.send(outcome).unwrap();
        }
    };
    let runtime = LocalRuntime::builder().engine(engine);
    runtime.limits(Limits::default()).run(main).expect("runs");
}

/// The next order, for which the shard's thread waits, or which it looks for again and again.
async fn next(shard: &Shard, orders: &Receiver<Order>, is_held: bool) -> Option<Order> {
    use std::sync::mpsc::TryRecvError;
    if is_held {
        return orders.recv().ok();
    }
    loop {
        match orders.try_recv() {
            Ok(order) => return Some(order),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => shard.sleep(Duration::from_millis(1)).await,
        }
    }
}
