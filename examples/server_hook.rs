//! A server's hook: it counts calls, refuses those of a method that is switched off, and those that are too
//! many at once.
//!
//! ```sh
//! cargo run --release --example server_hook
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use ringcall::{
    CallInfo, CallOutcome, CallTimings, Code, Context, Reply, Request, Server, ServerHook, Status,
};

/// A house with a lift.
#[ringcall::service(name = "lift.v1")]
trait Lift {
    /// Goes to a floor, and tells which it is.
    async fn go(floor: u32) -> u32;
    /// Rings the bell.
    async fn ring();
}

struct Cabin;

impl LiftHandler for Cabin {
    async fn go(&self, cx: &Context, floor: Request<u32>) -> Result<Reply<u32>, Status> {
        cx.sleep(Duration::from_millis(20)).await;
        Ok(floor.to_native().into())
    }

    async fn ring(&self, _cx: &Context) -> Result<Reply<()>, Status> {
        Ok(().into())
    }
}

/// What may be done. One for all shards, so it counts with atomics; one for each could do without.
#[derive(Default)]
struct Doorman {
    under_way: AtomicU32,
    answered: AtomicU32,
    refused: AtomicU32,
}

impl Doorman {
    const UNDER_WAY_MAX: u32 = 4;
    const SWITCHED_OFF: &[&str] = &["lift.v1/ring"];

    fn judge(&self, call: &CallInfo) -> Result<(), Status> {
        let name = call.method().name;
        if Self::SWITCHED_OFF.contains(&name) {
            return Err(Status::permission_denied(format!("{name} is switched off")));
        }
        let take = |count| (count < Self::UNDER_WAY_MAX).then_some(count + 1);
        match self.under_way.fetch_update(Relaxed, Relaxed, take) {
            Ok(_) => Ok(()),
            Err(count) => Err(Status::resource_exhausted(format!(
                "{count} calls are under way already; try again later"
            ))),
        }
    }
}

impl ServerHook for Doorman {
    fn on_call(&self, call: &CallInfo) -> Result<(), Status> {
        let judged = self.judge(call);
        self.refused.fetch_add(u32::from(judged.is_err()), Relaxed);
        judged
    }

    // Once for each call that was let through, however it ends.
    fn on_done(&self, call: &CallInfo, outcome: CallOutcome<'_>, timings: CallTimings) {
        self.under_way.fetch_sub(1, Relaxed);
        let is_answered = outcome == CallOutcome::Answered;
        self.answered.fetch_add(u32::from(is_answered), Relaxed);
        println!(
            "{} of {}: {} after {:.0?}",
            call.method().name,
            call.peer(),
            outcome.code(),
            timings.handled()
        );
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let doorman = Arc::new(Doorman::default());
    let hook = Arc::clone(&doorman);
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .hook(move |_shard| Arc::clone(&hook))
        .serve(|_shard| LiftServer::new(Cabin))?;
    let lift = LiftClient::connect(&server.addresses()[0]).await?;

    let rung = lift.ring().await.expect_err("it is switched off");
    println!("ring: {rung}");
    assert_eq!(rung.code(), Code::PermissionDenied);

    // Six at once: four find room.
    let (a, b, c, d, e, f) = tokio::join!(
        lift.go(1),
        lift.go(2),
        lift.go(3),
        lift.go(4),
        lift.go(5),
        lift.go(6)
    );
    let all = [a, b, c, d, e, f];
    let arrived = all.iter().flatten().count();
    for status in all.iter().filter_map(|went| went.as_ref().err()) {
        println!("go: {status}");
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
    assert_eq!(arrived, 4);
    // There is room again.
    assert_eq!(lift.go(7).await?.to_native(), 7);

    server.shut_down();
    server.wait()?;
    let (answered, refused) = (
        doorman.answered.load(Relaxed),
        doorman.refused.load(Relaxed),
    );
    println!("{answered} answered, {refused} refused");
    assert_eq!((answered, refused), (5, 3));
    assert_eq!(doorman.under_way.load(Relaxed), 0);
    Ok(())
}
