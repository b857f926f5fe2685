//! Drives a client library: as many tasks as there are calls in flight, on one thread.
//!
//! Each caller has its own task and waits for an answer before it calls again, as programs do. The
//! tasks run on a current-thread runtime, which for one CPU is the fastest that tokio has.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::task::JoinSet;

use crate::client::recorder::Recorder;
use crate::client::{Outcome, Plan, ReadUsage};
use crate::work::Call;

/// A connection of a client library; clones of it share the connection.
pub trait Calling: Clone + Send + 'static {
    /// Makes one call and checks that it was answered.
    fn call(&mut self, call: &Call) -> impl Future<Output = Result<(), String>> + Send;
}

/// What the tasks of a run share.
struct Run {
    is_over: AtomicBool,
    tally: Mutex<Tally>,
}

struct Tally {
    calls: u64,
    recorder: Recorder,
}

impl Run {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("recording never panics")
    }
}

/// A runtime of one thread, as clients and servers use it.
pub fn current_thread() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Keeps the plan's calls in flight over connections made by `connect`, and measures.
pub fn run<C: Calling>(
    plan: &Plan,
    usage: ReadUsage<'_>,
    connect: impl AsyncFn() -> io::Result<C>,
) -> io::Result<Outcome> {
    current_thread()?.block_on(async {
        let run = Arc::new(Run {
            is_over: AtomicBool::new(false),
            tally: Mutex::new(Tally {
                calls: 0,
                recorder: Recorder::new(),
            }),
        });
        let mut callers = JoinSet::new();
        for connection in 0..plan.cell.connections {
            let client = connect().await?;
            for number in 0..plan.cell.depth {
                let call = Call::of(plan.work, connection * plan.cell.depth + number);
                callers.spawn(keep_calling(client.clone(), call, Arc::clone(&run)));
            }
        }
        tokio::select! {
            outcome = measure(plan, usage, &run) => {
                let outcome = outcome?;
                run.is_over.store(true, Ordering::Relaxed);
                while let Some(ended) = callers.join_next().await {
                    ended.map_err(io::Error::other)?.map_err(io::Error::other)?;
                }
                Ok(outcome)
            }
            why = first_failure(&mut callers) => Err(io::Error::other(why)),
        }
    })
}

async fn keep_calling<C: Calling>(mut client: C, call: Call, run: Arc<Run>) -> Result<(), String> {
    while !run.is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        client.call(&call).await?;
        let latency_ns = begin.elapsed().as_nanos() as u64;
        let mut tally = run.tally();
        tally.calls += 1;
        tally.recorder.record(latency_ns);
    }
    Ok(())
}

async fn measure(plan: &Plan, usage: ReadUsage<'_>, run: &Run) -> io::Result<Outcome> {
    tokio::time::sleep(plan.warm_up).await;
    let before = usage()?;
    {
        let mut tally = run.tally();
        tally.calls = 0;
        tally.recorder.reset();
    }
    let begin = Instant::now();
    tokio::time::sleep(plan.measured).await;
    let elapsed = begin.elapsed();
    let load = usage()?.since(&before, elapsed);
    let mut tally = run.tally();
    if tally.calls == 0 {
        return Err(io::Error::other(format!(
            "the server has answered nothing for {elapsed:?}"
        )));
    }
    Ok(Outcome {
        calls: tally.calls,
        elapsed,
        latency_ns: std::mem::replace(&mut tally.recorder, Recorder::new()).finish(),
        load,
    })
}

/// Ends when a caller fails; callers end otherwise only when the run is over.
async fn first_failure(callers: &mut JoinSet<Result<(), String>>) -> String {
    while let Some(ended) = callers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(panicked) => return panicked.to_string(),
        }
    }
    std::future::pending().await
}

/// Time that one connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
