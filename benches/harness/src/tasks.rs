//! Drives a client library: a task for each call in flight, on one thread.
//!
//! In a closed loop each caller has its own task and waits for an answer before it calls again, as
//! programs do. The tasks run on a current-thread runtime, which for one CPU is the fastest that
//! tokio has.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use loadgen::load::arrival::Arrival;
use loadgen::load::dealer::Dealer;
use loadgen::load::plan::Part;
use loadgen::load::schedule::Schedule;
use loadgen::load::work::{Method, Payload, ServiceTime, Workload};
use tokio::runtime;
use tokio::task::JoinSet;

use crate::client::recorder::Recorder;
use crate::client::{Arrivals, Open, Outcome, Plan, ReadUsage};
use crate::descriptors;
use crate::work::Call;

/// Whether an answer carries as many bytes as it should.
pub fn check_bytes(answered: Option<usize>, wanted: usize) -> Result<(), String> {
    match answered {
        Some(bytes) if bytes == wanted => Ok(()),
        Some(bytes) => Err(format!("an answer of {bytes} bytes instead of {wanted}")),
        None => Err("the key was not found".into()),
    }
}

/// A connection of a client library; clones of it share the connection.
pub trait AsyncCaller: Clone + Send + 'static {
    /// Makes one call and checks that the answer is as long as it should be.
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

impl Tally {
    /// An answer has come to a call that began, or was due, then. Says when.
    fn count(&mut self, begin: Instant) -> Instant {
        let end = Instant::now();
        self.calls += 1;
        self.recorder.record((end - begin).as_nanos() as u64);
        end
    }
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

/// Makes the plan's calls over connections made by `connect`, and measures.
pub fn run<C: AsyncCaller>(
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
        let mut clients = Vec::with_capacity(plan.cell.connections);
        for _ in 0..plan.cell.connections {
            clients.push(connect().await.map_err(descriptors::explain)?);
        }
        let mut callers = JoinSet::new();
        match plan.arrivals {
            Arrivals::Closed => start_callers(plan, &clients, &run, &mut callers),
            Arrivals::Open(open) => {
                let call = Call::of(plan.work, 0);
                let (schedule, slow) = (schedule(open, plan), Call::Spin(open.slow_us));
                callers.spawn(call_when_due(
                    schedule,
                    slow,
                    clients,
                    call,
                    Arc::clone(&run),
                ));
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

type Callers = JoinSet<Result<(), String>>;

/// A caller for each call in flight.
fn start_callers<C: AsyncCaller>(
    plan: &Plan,
    clients: &[C],
    run: &Arc<Run>,
    callers: &mut Callers,
) {
    let depth = plan.cell.depth;
    for (connection, client) in clients.iter().enumerate() {
        for number in 0..depth {
            let call = Call::of(plan.work, connection * depth + number);
            callers.spawn(keep_calling(client.clone(), call, Arc::clone(run)));
        }
    }
}

async fn keep_calling<C: AsyncCaller>(
    mut client: C,
    call: Call,
    run: Arc<Run>,
) -> Result<(), String> {
    // A call begins when the one before has ended: reading the clock twice would be a tenth of its time.
    let mut begin = Instant::now();
    while !run.is_over.load(Ordering::Relaxed) {
        client.call(&call).await?;
        begin = run.tally().count(begin);
    }
    Ok(())
}

/// The calls of an open loop, as the load generator plans them: for longer than any run goes on.
fn schedule(open: Open, plan: &Plan) -> Schedule {
    let mut methods = vec![(Method::Echo, 1.0 - open.slow_share)];
    if open.slow_share > 0.0 {
        methods.push((Method::Spin, open.slow_share));
    }
    let workload = Workload {
        methods,
        // What a call that is not slow carries is the plan's.
        payload: Payload::Fixed(0),
        service_time: Some(ServiceTime::Fixed(Duration::from_micros(
            open.slow_us.into(),
        ))),
    };
    let until = plan.warm_up + plan.measured + 2 * SILENCE_MAX;
    let (rate, seed) = (open.calls_per_s, open.seed);
    let threads = 1;
    let dealer = Dealer::new(
        &Arrival::Poisson,
        rate,
        until,
        &workload,
        seed,
        Part::WHOLE,
        threads,
    );
    let (mut schedules, feeder) = dealer.start();
    if let Some(feeder) = feeder {
        std::thread::spawn(|| feeder.run());
    }
    schedules.remove(0)
}

/// The place of the slow method in the workload.
const SLOW: u8 = 1;

/// Makes calls when they are due, in turn over all connections. It looks at the clock all the time,
/// for tokio's timers are exact to a millisecond only.
async fn call_when_due<C: AsyncCaller>(
    mut schedule: Schedule,
    slow: Call,
    clients: Vec<C>,
    call: Call,
    run: Arc<Run>,
) -> Result<(), String> {
    let mut calls = JoinSet::new();
    let begin = Instant::now();
    for (planned, connection) in schedule.calls().zip((0..clients.len()).cycle()) {
        let due = begin + Duration::from_nanos(planned.intended_ns);
        // At least once, so that a client that is late still reads answers.
        loop {
            while let Some(ended) = calls.try_join_next() {
                ended.map_err(|panicked| panicked.to_string())??;
            }
            if run.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::task::yield_now().await;
            if Instant::now() >= due {
                break;
            }
        }
        let is_slow = planned.work.method == SLOW;
        let call = if is_slow { slow.clone() } else { call.clone() };
        let (mut client, run) = (clients[connection].clone(), Arc::clone(&run));
        calls.spawn(async move {
            client.call(&call).await?;
            if !is_slow {
                run.tally().count(due);
            }
            Ok::<_, String>(())
        });
    }
    Err("the run took longer than any was planned to".into())
}

async fn measure(plan: &Plan, usage: ReadUsage<'_>, run: &Run) -> io::Result<Outcome> {
    let callers = match plan.arrivals {
        Arrivals::Closed => (plan.cell.connections * plan.cell.depth) as u64,
        Arrivals::Open(_) => 1,
    };
    tokio::time::sleep(plan.warm_up).await;
    until_answered(run, callers).await;
    let before = usage()?;
    {
        let mut tally = run.tally();
        tally.calls = 0;
        tally.recorder.reset();
    }
    let begin = Instant::now();
    tokio::time::sleep(plan.measured).await;
    until_answered(run, 2 * callers).await;
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

/// Goes on until so many calls were answered. Where thousands are in flight a call can take longer
/// than a run is meant to, and a run that ended before would have seen only the quick ones.
async fn until_answered(run: &Run, calls: u64) {
    let give_up = Instant::now() + SILENCE_MAX;
    while run.tally().calls < calls && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends when a caller fails; callers end otherwise only when the run is over.
async fn first_failure(callers: &mut Callers) -> String {
    while let Some(ended) = callers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(panicked) => return panicked.to_string(),
        }
    }
    std::future::pending().await
}

/// Time after which a run ends, however few calls were answered.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Time that one connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{Work, Workload};

    #[test]
    fn an_open_loop_has_as_many_calls_as_asked_for_and_a_share_of_slow_ones() {
        let open = |slow_share| Open {
            calls_per_s: 1000.0,
            slow_share,
            slow_us: 10,
            seed: 7,
        };
        let plan = Plan {
            cell: "1x1".parse().unwrap(),
            work: Work {
                workload: Workload::Echo,
                payload_bytes: 64,
            },
            arrivals: Arrivals::Open(open(0.1)),
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(1),
        };
        let slow_of = |open| {
            let calls: Vec<_> = schedule(open, &plan).calls().collect();
            assert!((40_000..44_000).contains(&calls.len()), "{}", calls.len());
            calls.iter().filter(|call| call.work.method == SLOW).count()
        };
        assert!((3800..4600).contains(&slow_of(open(0.1))));
        assert_eq!(slow_of(open(0.0)), 0);
    }
}
