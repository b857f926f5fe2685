//! The demonstration's load, on a shard of this process.

use std::io;
use std::sync::mpsc::Sender;
use std::time::Instant;

use ringcall::{Idle, LocalRuntime, Shard, Status};

use super::plan::Step;
use super::report::Measured;
use crate::load::cpu_time::ProcessClock;
use crate::load::{Driver, Pace};
use crate::samples::stats::{ShardStats, StatsClient};

/// What is told to who waits for the load.
pub(super) enum Event {
    /// The step of this number begins.
    Begin(usize),
    /// All is over.
    End(Result<Box<Measured>, String>),
}

/// Starts a thread that runs all steps, one after the other.
pub(super) fn start(
    steps: Vec<Step>,
    cpu: Option<usize>,
    server: ProcessClock,
    events: Sender<Event>,
) -> io::Result<()> {
    // With a CPU of its own it never sleeps, so that waking up is no part of what it measures.
    let (idle, pace) = match cpu {
        Some(_) => (Idle::Spin, Pace::Spin),
        None => (Idle::Park, Pace::Sleep),
    };
    let run = move || {
        let told = events.clone();
        let runtime = LocalRuntime::builder().cpu(cpu).idle(idle);
        let result = runtime.run(move |shard| async move {
            let driver = Driver {
                shard,
                pace,
                server,
            };
            run_all(&driver, &steps, &told).await
        });
        let result = result.unwrap_or_else(|error| Err(error.to_string()));
        let result = result.map(Box::new);
        // Who has given up waiting has no use for the results.
        events.send(Event::End(result)).ok();
    };
    std::thread::Builder::new().name("load".into()).spawn(run)?;
    Ok(())
}

async fn run_all(
    driver: &Driver,
    steps: &[Step],
    events: &Sender<Event>,
) -> Result<Measured, String> {
    let statistics = || async {
        let stats = read_statistics(&driver.shard, &steps[0].load.address).await;
        stats.map_err(|status| format!("the server's statistics: {status}"))
    };
    let before = statistics().await?;
    let own_clock = ProcessClock::of(std::process::id()).map_err(cpu_time_error)?;
    let (start, own_cpu) = (Instant::now(), own_clock.now().map_err(cpu_time_error)?);
    let mut outcomes = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        if events.send(Event::Begin(number)).is_err() {
            return Err("nobody waits for the results any more".into());
        }
        let outcome = driver.run(&step.load).await;
        outcomes.push(outcome.map_err(|error| format!("{step}: {error}"))?);
    }
    let own_cpu = own_clock.now().map_err(cpu_time_error)? - own_cpu;
    Ok(Measured {
        outcomes,
        load_cpus: own_cpu.div_duration_f64(start.elapsed()),
        before,
        after: statistics().await?,
    })
}

fn cpu_time_error(error: io::Error) -> String {
    format!("can't read this process's CPU time: {error}")
}

async fn read_statistics(shard: &Shard, address: &str) -> Result<ShardStats, Status> {
    let stats = StatsClient::new(shard.client(address)?);
    Ok(stats.read().await?.to_owned())
}
