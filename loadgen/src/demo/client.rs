//! The demonstration's load, on a thread of this process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::plan::Step;
use super::report::Measured;
use crate::load::cpu_time::ProcessClock;
use crate::results::Completion;
use crate::samples::stats::{ShardStats, StatsClient};

/// What is told to who waits for the load.
pub(super) enum Event {
    /// The step of this number begins.
    Begin(usize),
    /// All is over.
    End(Result<Box<Measured>, String>),
}

/// Starts a thread that runs all steps, one after the other, until `stop` is set.
pub(super) fn start(
    steps: Vec<Step>,
    cpu: Option<usize>,
    server_pid: u32,
    stop: &Arc<AtomicBool>,
    events: Sender<Event>,
) -> io::Result<()> {
    let stop = Arc::clone(stop);
    let run = move || {
        let result = run_all(&steps, cpu, server_pid, &stop, &events);
        // Who has given up waiting has no use for the results.
        events.send(Event::End(result.map(Box::new))).ok();
    };
    std::thread::Builder::new()
        .name("steps".into())
        .spawn(run)?;
    Ok(())
}

fn run_all(
    steps: &[Step],
    cpu: Option<usize>,
    server_pid: u32,
    stop: &AtomicBool,
    events: &Sender<Event>,
) -> Result<Measured, String> {
    let before = read_statistics(&steps[0].load.address)?;
    let own_clock = ProcessClock::of(std::process::id()).map_err(cpu_time_error)?;
    let (start, own_cpu) = (Instant::now(), own_clock.now().map_err(cpu_time_error)?);
    let mut outcomes = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        if events.send(Event::Begin(number)).is_err() {
            return Err("nobody waits for the results any more".into());
        }
        let plan = step.load.plan(cpu, server_pid);
        let outcome = plan
            .run(stop, &mut |_| Ok(()))
            .map_err(|error| format!("{step}: {error}"))?;
        if outcome.completion == Completion::Interrupted {
            return Err("interrupted".into());
        }
        if outcome.record.total().counts.ok == 0 {
            let first = outcome.record.failures.first();
            let why = first.map_or("no call has ended in time", |failure| &failure.text);
            return Err(format!("{step}: no call was answered: {why}"));
        }
        outcomes.push(outcome);
    }
    let own_cpu = own_clock.now().map_err(cpu_time_error)? - own_cpu;
    Ok(Measured {
        outcomes,
        load_cpus: own_cpu.div_duration_f64(start.elapsed()),
        before,
        after: read_statistics(&steps[0].load.address)?,
    })
}

fn cpu_time_error(error: io::Error) -> String {
    format!("can't read this process's CPU time: {error}")
}

fn read_statistics(address: &str) -> Result<ShardStats, String> {
    let read = || {
        StatsClient::connect_blocking(address)?
            .read()
            .wait()
            .map(|stats| stats.to_owned())
    };
    read().map_err(|status| format!("the server's statistics: {status}"))
}
