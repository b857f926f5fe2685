//! What is called, and callers that make a client do so at the same time.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};

use ringcall::{Context, Reply, Request, Status};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::raw::PATIENCE;

#[ringcall::service(name = "here.v1")]
pub trait Here {
    /// The number of the shard that answers. From the label [`STAYS`] on, only when it is told to.
    async fn here(label: u64) -> u64;
}

/// Calls with this label are not answered at once.
pub const STAYS: u64 = 1000;

pub struct Shard;

impl HereHandler for Shard {
    async fn here(&self, cx: &Context, label: Request<u64>) -> Result<Reply<u64>, Status> {
        assert!(label.to_native() < STAYS);
        Ok((cx.shard().id() as u64).into())
    }
}

/// Runs a test on a runtime with two threads. A test that takes too long has failed.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let in_time = async { tokio::time::timeout(PATIENCE, test).await };
    runtime.block_on(in_time).expect("the test hangs")
}

/// The shard that answers a call.
pub async fn here(client: &HereClient) -> Result<u64, Status> {
    Ok(client.here(0).await?.to_native())
}

/// Callers that call one call after the other until `is_enough`, and the shards that have answered them
/// by then. What fails is called again if `may_fail`.
pub async fn load(
    client: &HereClient,
    callers: usize,
    may_fail: bool,
    is_enough: impl Fn(&BTreeSet<u64>) -> bool + Clone + Send + 'static,
) -> BTreeSet<u64> {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (client, seen, is_enough) = (client.clone(), Arc::clone(&seen), is_enough.clone());
        tasks.spawn(async move {
            loop {
                match here(&client).await {
                    Ok(shard) => {
                        let mut seen = seen.lock().expect("no caller panics");
                        seen.insert(shard);
                        if is_enough(&seen) {
                            return;
                        }
                    }
                    Err(status) => assert!(may_fail, "{status}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no caller panics");
    }
    Arc::into_inner(seen)
        .expect("all callers have ended")
        .into_inner()
        .expect("no caller panics")
}

/// So many rounds of calls by each of so many callers.
pub async fn rounds(client: &HereClient, callers: usize, rounds: usize) -> BTreeSet<u64> {
    let left = Arc::new(Semaphore::new(callers * rounds));
    load(client, callers, false, move |_| match left.try_acquire() {
        Ok(permit) => {
            permit.forget();
            false
        }
        Err(_) => true,
    })
    .await
}
