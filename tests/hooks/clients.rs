//! What a client's hook is asked and told, with every client alike.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use ringcall::{
    BlockingClient, CallOptions, CallOutcome, Client, ClientHook, Code, Context, Engine,
    LocalRuntime, MethodDescriptor, Reply, Request, Server, Status,
};

use crate::raw::PATIENCE;
use crate::rig::on_both_engines;

#[ringcall::service(name = "told.v1")]
trait Told {
    /// Returns what it was given.
    async fn echo(number: u64) -> u64;
    /// Never answers.
    async fn hang();
    /// NOT_FOUND.
    async fn missing();
}

struct Answers;

impl ToldHandler for Answers {
    async fn echo(&self, _cx: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        Ok(number.to_native().into())
    }

    async fn hang(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        std::future::pending().await
    }

    async fn missing(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        Err(Status::not_found("no such thing"))
    }
}

#[derive(Debug, PartialEq)]
enum Event {
    /// Method, and the deadline that was set.
    Before(&'static str, Option<Duration>),
    /// Method, code, and whether it was said to be given up.
    After(&'static str, Code, bool),
}

/// Tells the test what it sees; gives calls that have no deadline one.
struct Stamps {
    events: Sender<Event>,
    /// What it gives.
    deadline: Option<Duration>,
    /// Whether it panics before calls, and after them.
    panics: [bool; 2],
}

impl ClientHook for Stamps {
    fn before(&self, method: &'static MethodDescriptor, options: &mut CallOptions) {
        let before = Event::Before(method.name, options.deadline());
        self.events.send(before).expect("the test listens");
        assert!(!self.panics[0], "on purpose: before");
        if options.deadline().is_none() {
            options.set_deadline(self.deadline);
        }
    }

    fn after(
        &self,
        method: &'static MethodDescriptor,
        outcome: CallOutcome<'_>,
        latency: Duration,
    ) {
        assert!(
            latency > Duration::ZERO && latency < PATIENCE,
            "{latency:?}"
        );
        let is_cancelled = outcome == CallOutcome::Cancelled;
        let after = Event::After(method.name, outcome.code(), is_cancelled);
        self.events.send(after).expect("the test listens");
        assert!(!self.panics[1], "on purpose: after");
    }
}

/// A call to make.
#[derive(Clone, Copy, Debug)]
enum Order {
    Echo(u64),
    Missing,
    Hang,
    HangFor(Duration),
    /// Begun, and dropped.
    GiveUp,
    /// Prepared, and dropped.
    Forget,
}

/// Makes calls, whatever makes a call of it.
macro_rules! make {
    ($client:expr, $order:expr, $end:ident) => {
        match $order {
            Order::Echo(number) => $end!($client.echo(number)).map(|it| it.to_native()),
            Order::Missing => $end!($client.missing()).map(|_| 0),
            Order::Hang => $end!($client.hang()).map(|_| 0),
            Order::HangFor(time) => $end!($client.hang().deadline(time)).map(|_| 0),
            Order::GiveUp => {
                let mut call = Box::pin($client.hang());
                let begun = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending()));
                assert!(begun.await);
                Ok(0)
            }
            Order::Forget => {
                drop($client.hang());
                Ok(0)
            }
        }
    };
}

macro_rules! awaited {
    ($call:expr) => {
        $call.await
    };
}

type Outcomes = Vec<Result<u64, Code>>;

/// Makes the calls with a client of each kind, and gives what each said, and what its hook has heard.
fn with_every_client(
    engine: Engine,
    orders: &[Order],
    deadline: Option<Duration>,
    panics: [bool; 2],
) -> Vec<(Outcomes, Vec<Event>)> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().expect("not zero"))
        .pinned(false)
        .engine(engine)
        .serve(|_| ToldServer::new(Answers))
        .expect("starts");
    let address = server.addresses()[0].clone();
    let hook = || {
        let (events, heard) = channel();
        let hook = Arc::new(Stamps {
            events,
            deadline,
            panics,
        });
        (hook, heard)
    };
    let all = |heard: Receiver<Event>| heard.iter().collect::<Vec<_>>();
    let mut found = Vec::new();

    let (stamps, heard) = hook();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let outcomes = runtime.block_on(async {
        let client = Client::builder().hook(stamps).connect(&address);
        let client = ToldClient::new(client.await.expect("connects"));
        let mut outcomes = Vec::new();
        for order in orders {
            let made: Result<u64, Status> = make!(client, *order, awaited);
            outcomes.push(made.map_err(|status| status.code()));
        }
        outcomes
    });
    drop(runtime);
    found.push((outcomes, all(heard)));

    let (stamps, heard) = hook();
    let (to, own) = (address.clone(), orders.to_vec());
    let outcomes = LocalRuntime::builder()
        .engine(engine)
        .run(|shard| async move {
            let client = shard.client(&to).expect("an address").hook(stamps);
            let client = ToldClient::new(client);
            let mut outcomes = Vec::new();
            for order in own {
                let made: Result<u64, Status> = make!(client, order, awaited);
                outcomes.push(made.map_err(|status| status.code()));
            }
            outcomes
        });
    found.push((outcomes.expect("runs"), all(heard)));

    let (stamps, heard) = hook();
    let client = BlockingClient::connect(&address)
        .expect("connects")
        .hook(stamps);
    let client = ToldClient::new(client);
    let outcomes = orders.iter().map(|order| {
        let made = match *order {
            Order::Echo(number) => client.echo(number).wait().map(|it| it.to_native()),
            Order::Missing => client.missing().wait().map(|_| 0),
            Order::Hang => client.hang().wait().map(|_| 0),
            Order::HangFor(time) => client.hang().deadline(time).wait().map(|_| 0),
            // It is made at once or not at all.
            Order::GiveUp | Order::Forget => {
                drop(client.hang());
                Ok(0)
            }
        };
        made.map_err(|status| status.code())
    });
    let outcomes = outcomes.collect();
    drop(client);
    found.push((outcomes, all(heard)));
    found
}

const TICK: Duration = Duration::from_millis(20);

fn a_hook_hears_of_each_call_and_stamps_deadlines(engine: Engine) {
    let orders = [
        Order::Echo(7),
        Order::Missing,
        Order::Forget,
        Order::Hang,
        Order::HangFor(TICK / 2),
    ];
    let late = Err(Code::DeadlineExceeded);
    for (outcomes, heard) in with_every_client(engine, &orders, Some(TICK), [false; 2]) {
        assert_eq!(outcomes, [Ok(7), Err(Code::NotFound), Ok(0), late, late]);
        let (echo, missing, hang) = ("told.v1/echo", "told.v1/missing", "told.v1/hang");
        assert_eq!(
            heard,
            [
                Event::Before(echo, None),
                Event::After(echo, Code::Ok, false),
                Event::Before(missing, None),
                Event::After(missing, Code::NotFound, false),
                Event::Before(hang, None),
                Event::After(hang, Code::DeadlineExceeded, false),
                Event::Before(hang, Some(TICK / 2)),
                Event::After(hang, Code::DeadlineExceeded, false),
            ]
        );
    }
}

fn a_call_that_is_dropped_is_told_once_as_given_up(engine: Engine) {
    let orders = [Order::GiveUp, Order::Echo(1)];
    let mut found = with_every_client(engine, &orders, None, [false; 2]);
    // A script's call can't be given up.
    found.pop();
    for (outcomes, heard) in found {
        assert_eq!(outcomes, [Ok(0), Ok(1)]);
        assert_eq!(
            heard,
            [
                Event::Before("told.v1/hang", None),
                Event::After("told.v1/hang", Code::Cancelled, true),
                Event::Before("told.v1/echo", None),
                Event::After("told.v1/echo", Code::Ok, false),
            ]
        );
    }
}

fn a_panic_before_a_call_fails_it_and_one_after_it_does_nothing(engine: Engine) {
    let orders = [Order::Echo(3), Order::Echo(4)];
    let (before, after) = (
        || Event::Before("told.v1/echo", None),
        || Event::After("told.v1/echo", Code::Ok, false),
    );
    for (outcomes, heard) in with_every_client(engine, &orders, None, [true, false]) {
        assert_eq!(outcomes, [Err(Code::Internal), Err(Code::Internal)]);
        assert_eq!(heard, [before(), before()]);
    }
    for (outcomes, heard) in with_every_client(engine, &orders, None, [false, true]) {
        assert_eq!(outcomes, [Ok(3), Ok(4)]);
        assert_eq!(heard, [before(), after(), before(), after()]);
    }
}

on_both_engines!(
    a_hook_hears_of_each_call_and_stamps_deadlines,
    a_call_that_is_dropped_is_told_once_as_given_up,
    a_panic_before_a_call_fails_it_and_one_after_it_does_nothing,
);
