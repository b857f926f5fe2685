//! Panics cost the call in which they happen, wherever that is: its shard and all other calls live.

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use ringcall::{Code, Context, Engine, LocalRuntime, Reply, Request, Server, Status};

use crate::raw::{Frame, RESPONSE, RawPeer};
use crate::rig::{eventually, on_both_engines};
use crate::serve;

on_both_engines!(
    a_panic_whose_payload_panics_too_fails_its_call_alone,
    a_drop_that_panics_at_cancellation_harms_nobody,
    a_reply_that_panics_when_dropped_was_sent_once,
    a_body_whose_owner_panics_was_sent,
    a_panic_in_what_was_spawned_harms_nobody,
    a_panic_in_a_task_of_tokio_harms_neither_call_nor_other_tasks,
    a_waker_that_panics_harms_nobody,
    a_waker_of_a_local_call_that_panics_harms_nobody,
);

#[ringcall::service(name = "panics.v1")]
trait Panics {
    /// Panics with a payload that panics too, in one of the ways below.
    async fn throw(how: u64) -> u64;
    /// Waits for ever with a value that panics when it is dropped.
    async fn hold(how: u64) -> u64;
    /// Answers with a value that panics when it is dropped.
    async fn answer(how: u64) -> Loud;
    /// Answers with bytes whose owner panics when it is dropped.
    async fn body(bytes: u64) -> Vec<u8>;
    /// Spawns what panics.
    async fn spawn(how: u64);
    /// Spawns what panics on tokio's runtime.
    async fn spawn_on_tokio(how: u64) -> u64;
    /// Waits with a waker that panics.
    async fn wait(how: u64);
    /// Returns what it was given.
    async fn echo(number: u64) -> u64;
}

const AT_ONCE: u64 = 0;
const AFTER_A_SLEEP: u64 = 1;
const BEFORE_THE_FUTURE: u64 = 2;
const IN_AN_INNER_DROP: u64 = 3;
const ALL_WAYS: [u64; 4] = [AT_ONCE, AFTER_A_SLEEP, BEFORE_THE_FUTURE, IN_AN_INNER_DROP];

/// Panics when it is dropped, with a payload that does so again.
pub struct Chain(pub u32);

impl Drop for Chain {
    fn drop(&mut self) {
        match self.0 {
            0 => panic!("on purpose: the last of a chain"),
            more => panic_any(Chain(more - 1)),
        }
    }
}

/// A message that panics when it is dropped on a shard.
#[ringcall::message]
pub struct Loud {
    pub number: u64,
    pub text: String,
}

impl Drop for Loud {
    fn drop(&mut self) {
        if std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("ringcall"))
        {
            panic_any(Chain(1));
        }
    }
}

fn loud(number: u64) -> Loud {
    let text = "loud".to_owned();
    Loud { number, text }
}

/// Owns bytes, and panics when these are not needed any more.
struct LoudOwner(Vec<u8>);

impl AsRef<[u8]> for LoudOwner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for LoudOwner {
    fn drop(&mut self) {
        panic_any(Chain(1));
    }
}

struct PanicsAtWake;

impl Wake for PanicsAtWake {
    fn wake(self: Arc<Self>) {
        panic_any(Chain(1));
    }
}

struct PanicsWhenDropped(Chain);

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {
        panic!("on purpose: {}", self.0.0);
    }
}

struct Handlers;

impl PanicsHandler for Handlers {
    fn throw(
        &self,
        cx: &Context,
        how: Request<u64>,
    ) -> impl Future<Output = Result<Reply<u64>, Status>> {
        let (how, cx) = (how.to_native(), cx.clone());
        if how == BEFORE_THE_FUTURE {
            panic_any(Chain(2));
        }
        async move {
            match how {
                AFTER_A_SLEEP => cx.sleep(Duration::from_millis(1)).await,
                IN_AN_INNER_DROP => drop(Chain(2)),
                _ => (),
            }
            panic_any(Chain(2))
        }
    }

    async fn hold(&self, _cx: &Context, how: Request<u64>) -> Result<Reply<u64>, Status> {
        let _chain = Chain(how.to_native() as u32);
        pending().await
    }

    async fn answer(&self, cx: &Context, how: Request<u64>) -> Result<Reply<Loud>, Status> {
        if how.to_native() == AFTER_A_SLEEP {
            cx.sleep(Duration::from_millis(1)).await;
        }
        Ok(loud(how.to_native()).into())
    }

    async fn body(&self, _cx: &Context, bytes: Request<u64>) -> Result<Reply<Vec<u8>>, Status> {
        let owner = LoudOwner(vec![7; bytes.to_native() as usize]);
        Ok(Reply::from_bytes(Bytes::from_owner(owner)))
    }

    async fn spawn(&self, cx: &Context, how: Request<u64>) -> Result<Reply<()>, Status> {
        let (how, shard) = (how.to_native(), cx.shard());
        cx.spawn(async move {
            let _chain = (how == IN_AN_INNER_DROP).then_some(Chain(2));
            if how == AFTER_A_SLEEP {
                shard.sleep(Duration::from_millis(1)).await;
            }
            if how != IN_AN_INNER_DROP {
                panic_any(Chain(2));
            }
        });
        Ok(().into())
    }

    async fn spawn_on_tokio(&self, _cx: &Context, how: Request<u64>) -> Result<Reply<u64>, Status> {
        let how = how.to_native();
        let bystander = tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            7
        });
        let task = tokio::spawn(async move {
            let _chain = (how == IN_AN_INNER_DROP).then_some(Chain(2));
            if how == AFTER_A_SLEEP {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if how != IN_AN_INNER_DROP {
                panic_any(Chain(2));
            }
        });
        // Nobody asks what became of it. Should it have ended by now, its payload is dropped, and panics,
        // here instead of on tokio's thread.
        if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| drop(task))) {
            std::mem::forget(thrown);
        }
        let told = bystander.await;
        Ok(told
            .map_err(|error| Status::internal(error.to_string()))?
            .into())
    }

    async fn wait(&self, cx: &Context, how: Request<u64>) -> Result<Reply<()>, Status> {
        let (time, waker) = match how.to_native() {
            AFTER_A_SLEEP => (1, Waker::from(Arc::new(PanicsAtWake))),
            _ => (
                1_000_000,
                Waker::from(Arc::new(PanicsWhenDropped(Chain(1)))),
            ),
        };
        let mut sleep = pin!(cx.sleep(Duration::from_millis(time)));
        let mut polled = false;
        poll_fn(|_| {
            assert!(!std::mem::replace(&mut polled, true), "nothing wakes it");
            sleep
                .as_mut()
                .poll(&mut std::task::Context::from_waker(&waker))
        })
        .await;
        Ok(().into())
    }

    async fn echo(&self, _cx: &Context, number: Request<u64>) -> Result<Reply<u64>, Status> {
        Ok(number.to_native().into())
    }
}

/// A server, a client that is to be harmed and one that is not.
struct Rig {
    server: Server,
    client: PanicsClient<ringcall::BlockingClient>,
    bystander: PanicsClient<ringcall::BlockingClient>,
}

impl Rig {
    fn start(engine: Engine) -> Self {
        let server = serve(engine, |builder| builder, |_| PanicsServer::new(Handlers));
        let address = &server.addresses()[0];
        let connect = || PanicsClient::connect_blocking(address).expect("connects");
        let (client, bystander) = (connect(), connect());
        bystander.echo(1).wait().expect("answers");
        Self {
            client,
            bystander,
            server,
        }
    }

    /// Both connections are served as before, and so many panics were counted.
    fn goes_on_after(&self, panics: u64) {
        for client in [&self.client, &self.bystander] {
            assert_eq!(client.echo(5).wait().expect("answers").to_native(), 5);
        }
        eventually("the panics are counted", || {
            self.server.metrics().panics == panics
        });
        assert!(self.server.is_running());
        let metrics = self.server.metrics();
        assert_eq!((metrics.connections, metrics.in_flight), (2, 0));
    }

    fn ends(self) {
        // Peers that stay would be given a second to read the last words.
        drop((self.client, self.bystander));
        self.server.shut_down();
        self.server.wait().expect("no shard has failed");
    }
}

fn a_panic_whose_payload_panics_too_fails_its_call_alone(engine: Engine) {
    let rig = Rig::start(engine);
    for (count, how) in (1..).zip(ALL_WAYS) {
        let answer = rig.client.throw(how).wait();
        assert_eq!(answer.expect_err("it fails").code(), Code::Internal);
        rig.goes_on_after(count);
    }
    rig.ends();
}

fn a_drop_that_panics_at_cancellation_harms_nobody(engine: Engine) {
    let rig = Rig::start(engine);
    for depth in 0..3 {
        let late = rig.client.hold(depth).deadline(Duration::from_millis(200));
        let status = late.wait().expect_err("it fails");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        rig.goes_on_after(depth + 1);
    }
    // With its connection, and with the server.
    let address = rig.server.addresses()[0].clone();
    let caller = std::thread::spawn(move || {
        let leaving = PanicsClient::connect_blocking(&address).expect("connects");
        leaving.hold(2).deadline(Duration::from_millis(200)).wait()
    });
    assert!(caller.join().expect("no panic").is_err());
    rig.goes_on_after(4);
    rig.ends();
}

fn a_reply_that_panics_when_dropped_was_sent_once(engine: Engine) {
    let rig = Rig::start(engine);
    for (count, how) in (1..).zip([AT_ONCE, AFTER_A_SLEEP, AT_ONCE]) {
        let answer = rig.client.answer(how).wait().expect("it was answered");
        assert_eq!((answer.number, &*answer.text), (how.into(), "loud"));
        rig.goes_on_after(count);
    }
    // A client passes over a second answer to a call that has ended, so look at the wire.
    let mut peer = RawPeer::open(&rig.server.addresses()[0]);
    let methods = PanicsServer::<Handlers>::DESCRIPTOR.methods;
    let asked = ["panics.v1/answer", "panics.v1/echo"].map(|name| {
        let method = methods.iter().find(|method| method.name == name);
        let method = method.expect("it is one");
        (method.name, method.fingerprint)
    });
    let indices: Vec<u16> = peer
        .resolve(&asked)
        .into_iter()
        .map(|(_, index)| index)
        .collect();
    for (call_id, how) in [(1, AT_ONCE), (3, AFTER_A_SLEEP)] {
        for (call_id, index) in (call_id..).zip(&indices) {
            peer.send(&Frame::request(*index, call_id, &how.to_le_bytes()));
            let answer = peer.read();
            assert_eq!((answer.kind, answer.call_id), (RESPONSE, call_id));
        }
    }
    drop(peer);
    eventually("it has gone", || rig.server.metrics().connections == 2);
    rig.goes_on_after(5);
    rig.ends();
}

fn a_body_whose_owner_panics_was_sent(engine: Engine) {
    let rig = Rig::start(engine);
    // Sent from where it lies; over many sends.
    for bytes in [20_000, 3_000_000] {
        let answer = rig.client.body(bytes).wait().expect("it was answered");
        assert_eq!(answer.len() as u64, bytes);
        rig.goes_on_after(0);
    }
    // Copied while the handler runs.
    assert_eq!(
        rig.client.body(10).wait().expect_err("it fails").code(),
        Code::Internal
    );
    rig.goes_on_after(1);
    // Longer than the peer accepts, and given up with the connection.
    assert_eq!(
        rig.client
            .body(100 << 20)
            .wait()
            .expect_err("it fails")
            .code(),
        Code::Internal
    );
    rig.goes_on_after(2);
    rig.ends();
}

fn a_panic_in_what_was_spawned_harms_nobody(engine: Engine) {
    let rig = Rig::start(engine);
    for (count, how) in (1..).zip([AT_ONCE, AFTER_A_SLEEP, IN_AN_INNER_DROP]) {
        rig.client.spawn(how).wait().expect("answers");
        rig.goes_on_after(count);
    }
    rig.ends();
}

fn a_panic_in_a_task_of_tokio_harms_neither_call_nor_other_tasks(engine: Engine) {
    let rig = Rig::start(engine);
    for _ in 0..3 {
        for how in [AT_ONCE, AFTER_A_SLEEP, IN_AN_INNER_DROP] {
            let answer = rig.client.spawn_on_tokio(how).wait();
            assert_eq!(answer.expect("the other task goes on").to_native(), 7);
            rig.goes_on_after(0);
        }
    }
    rig.ends();
}

fn a_waker_that_panics_harms_nobody(engine: Engine) {
    let rig = Rig::start(engine);
    for (count, how) in (1..).zip([AFTER_A_SLEEP, AT_ONCE]) {
        let late = rig.client.wait(how).deadline(Duration::from_millis(30));
        let status = late.wait().expect_err("nothing wakes it");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        rig.goes_on_after(count);
    }
    rig.ends();
}

/// A future that waits for a response with a waker that panics.
fn a_waker_of_a_local_call_that_panics_harms_nobody(engine: Engine) {
    let other = serve(engine, |builder| builder, |_| PanicsServer::new(Handlers));
    let address = other.addresses()[0].clone();
    let run = move || {
        LocalRuntime::builder()
            .engine(engine)
            .run(move |shard| async move {
                let client = PanicsClient::new(shard.client(&address).expect("an address"));
                client.echo(1).await.expect("answers");
                let mut lost = pin!(client.echo(2));
                let waker = Waker::from(Arc::new(PanicsAtWake));
                let polled = lost
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(&waker));
                assert!(polled.is_pending());
                client.echo(3).await.expect("answers").to_native()
                    + poll_fn(|cx| match lost.as_mut().poll(cx) {
                        Poll::Ready(answer) => Poll::Ready(answer),
                        Poll::Pending => panic!("the answer came before the other"),
                    })
                    .await
                    .expect("answers")
                    .to_native()
            })
    };
    let quiet = std::thread::Builder::new().name("quiet".into());
    let sum = quiet.spawn(run).expect("a thread").join();
    assert_eq!(sum.expect("no panic").expect("no failure"), 5, "{engine:?}");
}
