//! Who lives in the world: a service, and callers that use it in all ways.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use ringcall::__private::hooked;
use ringcall::{
    CallInfo, CallOutcome, CallTimings, Context, IntoServices, LocalClient, Reply, Request,
    ServerHook, Service, Shard, Status,
};

use super::ledger::{Ledger, Phase};

#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// The call.
    pub id: u64,
    /// Tells payloads apart.
    pub seed: u64,
    /// Bytes of content, or microseconds.
    pub wanted: u32,
    pub content: Vec<u8>,
}

#[ringcall::service(name = "world.v1")]
pub trait Inhabitant {
    /// Returns what it was given.
    async fn echo(parcel: Parcel) -> Parcel;
    /// Returns what it was given, after four times as many microseconds as are wanted.
    async fn wait(parcel: Parcel) -> Parcel;
    /// Returns as many bytes as are wanted.
    async fn make(parcel: Parcel) -> Parcel;
}

type Books = Rc<RefCell<Ledger>>;

struct Handler {
    books: Books,
}

/// A handler that runs or waits.
struct Running<'a>(&'a Books);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().handlers -= 1;
    }
}

/// Timers fire up to a tick late.
const TIMER_NS: u64 = 1_000_000;

impl Handler {
    fn begin(&self, cx: &Context, id: u64) -> Running<'_> {
        self.books.borrow_mut().execute(id, cx.call().remaining());
        Running(&self.books)
    }

    fn made(&self, parcel: Parcel) -> Result<Reply<Parcel>, Status> {
        self.books.borrow_mut().made(parcel.id);
        Ok(parcel.into())
    }
}

fn owned(parcel: &Request<Parcel>) -> Parcel {
    Parcel {
        id: parcel.id.to_native(),
        seed: parcel.seed.to_native(),
        wanted: parcel.wanted.to_native(),
        content: parcel.content.as_slice().to_vec(),
    }
}

impl InhabitantHandler for Handler {
    async fn echo(&self, cx: &Context, parcel: Request<Parcel>) -> Result<Reply<Parcel>, Status> {
        let _running = self.begin(cx, parcel.id.to_native());
        self.made(owned(&parcel))
    }

    async fn wait(&self, cx: &Context, parcel: Request<Parcel>) -> Result<Reply<Parcel>, Status> {
        let _running = self.begin(cx, parcel.id.to_native());
        let begun_ns = self.books.borrow().now_ns();
        let due_ns = cx
            .call()
            .remaining()
            .map(|left| begun_ns + left.as_nanos() as u64);
        for _ in 0..4 {
            cx.sleep(Duration::from_micros(u64::from(parcel.wanted.to_native())))
                .await;
            let mut books = self.books.borrow_mut();
            let now_ns = books.now_ns();
            if due_ns.is_some_and(|due_ns| now_ns > due_ns + TIMER_NS) {
                let id = parcel.id.to_native();
                books.violated(|| format!("the handler of call {id} goes on after its deadline"));
            }
        }
        self.made(owned(&parcel))
    }

    async fn make(&self, cx: &Context, parcel: Request<Parcel>) -> Result<Reply<Parcel>, Status> {
        let _running = self.begin(cx, parcel.id.to_native());
        let mut made = owned(&parcel);
        made.content = content(made.seed, made.wanted as usize);
        self.made(made)
    }
}

/// The services of a server.
pub fn services(books: &Books) -> impl Fn(&Shard) -> Vec<Box<dyn Service>> + 'static {
    let books = Rc::clone(books);
    move |_| {
        // What the last life of this server ran has gone with it.
        let books = Rc::clone(&books);
        let hook = Rc::new(Doorkeeper {
            books: Rc::clone(&books),
            inside: RefCell::default(),
        });
        let services = IntoServices::into_services(InhabitantServer::new(Handler { books }));
        hooked(services.expect("the services are right"), hook)
    }
}

/// Whoever the hook lets in comes out once: also when the connection ends, or the server dies.
struct Doorkeeper {
    books: Books,
    /// Calls that were let through and have not ended, by connection and id.
    inside: RefCell<BTreeSet<(String, u64)>>,
}

impl ServerHook for Doorkeeper {
    fn on_call(&self, call: &CallInfo) -> Result<(), Status> {
        let (peer, id) = (call.peer().to_owned(), call.id());
        let mut books = self.books.borrow_mut();
        books.watched += 1;
        if !self.inside.borrow_mut().insert((peer, id)) {
            books.violated(|| format!("the hook was asked twice about {call:?}"));
        }
        Ok(())
    }

    fn on_done(&self, call: &CallInfo, outcome: CallOutcome<'_>, timings: CallTimings) {
        let key = (call.peer().to_owned(), call.id());
        let mut books = self.books.borrow_mut();
        if !self.inside.borrow_mut().remove(&key) {
            return books.violated(|| format!("the hook was told twice of {call:?}: {outcome:?}"));
        }
        books.watched -= 1;
        let CallTimings {
            arrived,
            started,
            done,
            ..
        } = timings;
        if !(arrived <= started && started <= done && done.as_nanos() as u64 == books.now_ns()) {
            books.violated(|| format!("the hook was told wrong times of {call:?}: {timings:?}"));
        }
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        let inside = self.inside.borrow();
        if !inside.is_empty() {
            let mut books = self.books.borrow_mut();
            books.violated(|| format!("the hook was never told the end of {inside:?}"));
        }
    }
}

fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut content = vec![0; bytes];
    rng.fill(&mut content);
    content
}

/// The callers of a client's shard: each makes its calls one after the other.
pub fn callers(
    books: &Books,
    servers: &[SocketAddr],
    content_bytes_max: usize,
    rng: &mut Rng,
) -> impl Fn(&Shard) + 'static {
    let plan = Plan {
        servers: servers.to_vec(),
        callers: rng.usize(1..40),
        calls: rng.usize(1..12),
        content_bytes_max: rng.usize(1..=content_bytes_max),
        pause_us_max: rng.u64(1..3_000),
        deadlines: rng.f64() * rng.f64(),
        cancels: rng.f64() * rng.f64(),
        seed: rng.u64(..),
    };
    let books = Rc::clone(books);
    move |shard| plan.begin(shard, &books)
}

struct Plan {
    servers: Vec<SocketAddr>,
    callers: usize,
    calls: usize,
    content_bytes_max: usize,
    pause_us_max: u64,
    deadlines: f64,
    cancels: f64,
    seed: u64,
}

impl Plan {
    fn begin(&self, shard: &Shard, books: &Books) {
        for server in &self.servers {
            let client = shard.client(&format!("tcp://{server}"));
            let client = client.expect("an address of the world");
            books.borrow_mut().last_callers += 1;
            for number in 0..self.callers {
                books.borrow_mut().callers += 1;
                let caller = Caller {
                    shard: shard.clone(),
                    client: InhabitantClient::new(client.clone()),
                    books: Rc::clone(books),
                    rng: Rng::with_seed(self.seed ^ number as u64 ^ u64::from(server.port())),
                    content_bytes_max: self.content_bytes_max,
                    pause_us_max: self.pause_us_max,
                    deadlines: self.deadlines,
                    cancels: self.cancels,
                };
                shard.spawn(caller.live(self.calls, number == 0));
            }
        }
    }
}

struct Caller {
    shard: Shard,
    client: InhabitantClient<LocalClient>,
    books: Books,
    rng: Rng,
    content_bytes_max: usize,
    pause_us_max: u64,
    deadlines: f64,
    cancels: f64,
}

impl Caller {
    async fn live(mut self, calls: usize, calls_last: bool) {
        for _ in 0..calls {
            let pause = Duration::from_micros(self.rng.u64(0..self.pause_us_max));
            self.shard.sleep(pause).await;
            self.call().await;
        }
        self.books.borrow_mut().callers -= 1;
        if calls_last {
            self.until(Phase::LastCalls).await;
            // No attempt to connect waits longer than that for its time.
            self.shard.sleep(Duration::from_secs(6)).await;
            self.last_call().await;
            self.books.borrow_mut().last_callers -= 1;
        }
        // The connection stays until all have ended.
        self.until(Phase::Close).await;
    }

    async fn until(&self, phase: Phase) {
        while self.books.borrow().phase < phase {
            self.shard.sleep(Duration::from_millis(20)).await;
        }
    }

    /// However it went before, this one is answered.
    async fn last_call(&mut self) {
        let id = self.books.borrow_mut().begin_last();
        let parcel = Parcel {
            id,
            seed: 0,
            wanted: 0,
            content: Vec::new(),
        };
        let outcome = self.client.echo(&parcel).await;
        let mut books = self.books.borrow_mut();
        match outcome {
            Ok(answer) => books.answered(id, answer.id.to_native() == id),
            Err(status) => {
                books.violated(|| {
                    format!("a client's last call fails, on a healthy server: {status}")
                });
            }
        }
    }

    async fn call(&mut self) {
        let begun = self.books.borrow_mut().begin();
        let Some(id) = begun else {
            return;
        };
        let seed = self.rng.u64(..);
        let bytes = if self.rng.u8(..) < 200 {
            self.rng.usize(0..64)
        } else {
            self.rng.usize(0..self.content_bytes_max)
        };
        let what = self.rng.u8(0..4);
        let patience =
            (self.rng.f64() < self.cancels).then(|| Duration::from_micros(self.rng.u64(0..20_000)));
        let timeout = (self.rng.f64() < self.deadlines)
            .then(|| Duration::from_micros(self.rng.u64(1..200_000)));
        let wanted = match (what, patience) {
            // It ends only because nobody waits for it.
            (0, Some(_)) if self.rng.bool() => u32::MAX,
            (0, _) => self.rng.u32(0..50_000),
            _ => self.rng.usize(0..self.content_bytes_max.min(60_000)) as u32,
        };
        let parcel = Parcel {
            id,
            seed,
            wanted,
            content: content(seed, bytes),
        };
        let call = match what {
            0 => self.client.wait(&parcel),
            1 => self.client.make(&parcel),
            _ => self.client.echo(&parcel),
        };
        let call = match timeout {
            Some(timeout) => {
                self.books.borrow_mut().set_deadline(id, timeout);
                call.deadline(timeout)
            }
            None => call,
        };
        let outcome = match patience {
            Some(patience) => first_of(call, self.shard.sleep(patience)).await,
            None => Some(call.await),
        };
        let mut books = self.books.borrow_mut();
        match outcome {
            None => books.give_up(id),
            Some(Err(status)) => books.failed(id, status),
            Some(Ok(answer)) => {
                let expected = match what {
                    1 => content(seed, wanted as usize),
                    _ => parcel.content,
                };
                let is_right = answer.id.to_native() == id
                    && answer.seed.to_native() == seed
                    && answer.content.as_slice() == expected;
                books.answered(id, is_right);
            }
        }
    }
}

/// What a future gives, unless the time is over before.
async fn first_of<T>(future: impl Future<Output = T>, time: impl Future<Output = ()>) -> Option<T> {
    let (mut future, mut time) = (pin!(future), pin!(time));
    std::future::poll_fn(
        |cx| match (future.as_mut().poll(cx), time.as_mut().poll(cx)) {
            (Poll::Ready(value), _) => Poll::Ready(Some(value)),
            (Poll::Pending, Poll::Ready(())) => Poll::Ready(None),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        },
    )
    .await
}
