//! A client's hook: it gives each call a deadline that has none, and tells how long calls have taken.
//!
//! ```sh
//! cargo run --release --example client_hook
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use ringcall::{
    CallOptions, CallOutcome, Client, ClientHook, Code, Context, MethodDescriptor, Reply, Server,
    Status,
};

/// An oracle, which takes its time.
#[ringcall::service(name = "oracle.v1")]
trait Oracle {
    /// How many milliseconds it was given to answer; `None`: as long as it likes.
    #[idempotent]
    async fn patience() -> Option<u64>;
    /// Never answers.
    async fn meaning() -> String;
}

struct Pythia;

impl OracleHandler for Pythia {
    async fn patience(&self, cx: &Context) -> Result<Reply<Option<u64>>, Status> {
        let left = cx.call().remaining();
        Ok(left.map(|left| left.as_millis() as u64).into())
    }

    async fn meaning(&self, _cx: &Context) -> Result<Reply<String>, Status> {
        std::future::pending().await
    }
}

/// No call waits for ever; what may be asked twice need not wait long.
#[derive(Default)]
struct Patience {
    stamped: AtomicU32,
    late: AtomicU32,
}

impl ClientHook for Patience {
    fn before(&self, method: &'static MethodDescriptor, options: &mut CallOptions) {
        if options.deadline().is_none() {
            let ms = if method.idempotent { 500 } else { 100 };
            options.set_deadline(Some(Duration::from_millis(ms)));
            self.stamped.fetch_add(1, Relaxed);
        }
    }

    fn after(
        &self,
        method: &'static MethodDescriptor,
        outcome: CallOutcome<'_>,
        latency: Duration,
    ) {
        let is_late = outcome.code() == Code::DeadlineExceeded;
        self.late.fetch_add(u32::from(is_late), Relaxed);
        println!("{}: {} after {latency:.0?}", method.name, outcome.code());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| OracleServer::new(Pythia))?;
    let hook = Arc::new(Patience::default());
    let client = Client::builder()
        .hook(Arc::clone(&hook))
        .connect(&server.addresses()[0])
        .await?;
    let oracle = OracleClient::new(client);

    let stamped = oracle.patience().await?.to_owned();
    println!("the hook gives {stamped:?} ms");
    assert!(stamped.is_some_and(|ms| ms <= 500), "{stamped:?}");

    // A deadline of its own stays.
    let minute = Duration::from_secs(60);
    let own = oracle.patience().deadline(minute).await?.to_owned();
    println!("the call gives {own:?} ms");
    assert!(own.is_some_and(|ms| ms > 500), "{own:?}");

    let late = oracle.meaning().await.expect_err("it never answers");
    println!("meaning: {late}");
    assert_eq!(late.code(), Code::DeadlineExceeded);

    assert_eq!(
        (hook.stamped.load(Relaxed), hook.late.load(Relaxed)),
        (2, 1)
    );
    Ok(())
}
