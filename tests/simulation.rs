//! Seeded worlds in which whatever may go wrong does.
//!
//! `SEEDS=n` says how many (2 000 by default, without optimisation 60), `FIRST=n` the first. `SEED=n` replays one and tells its
//! story line by line.

#[path = "support/sim/mod.rs"]
mod sim;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use sim::{Covered, Scope};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text}; it must be a number")),
    )
}

/// Without optimisation a world takes twenty times as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 2000 };

/// Runs a seed twice, and sees that both runs are the same.
fn run_twice(seed: u64) -> Result<Covered, String> {
    let first = sim::run_caught(seed, &Scope::default())?;
    let second = sim::run_caught(seed, &Scope::default())?;
    if first != second {
        return Err(format!("two runs differ: {first:?} and {second:?}"));
    }
    Ok(first)
}

#[test]
fn every_world_keeps_its_promises() {
    sim::quieten_panics();
    if let Some(seed) = number("SEED") {
        let outcome = sim::run_caught(
            seed,
            &Scope {
                is_told: true,
                ..Scope::default()
            },
        );
        println!("seed {seed}: {outcome:#?}");
        outcome.expect("keeps its promises");
        return;
    }
    let (first, count) = (
        number("FIRST").unwrap_or(1),
        number("SEEDS").unwrap_or(SEEDS),
    );
    let (next, begun) = (AtomicU64::new(first), Instant::now());
    let (covered, failed) = (Mutex::new(Covered::default()), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match run_twice(seed) {
                        Ok(run) => covered
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .add(&run),
                        Err(why) => failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((seed, why)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("not poisoned");
    failed.sort_unstable();
    let covered = covered.into_inner().expect("not poisoned");
    println!(
        "{count} seeds from {first} on, each twice, in {:.1} s; {} failed",
        begun.elapsed().as_secs_f64(),
        failed.len()
    );
    println!("{covered:#?}");
    for (seed, why) in failed.iter().take(10) {
        println!("seed {seed}: {why}");
    }
    if let Some((seed, _)) = failed.first() {
        println!("{}", sim::shrunk(*seed));
        panic!(
            "{} of {count} seeds failed; SEED={seed} replays the first",
            failed.len()
        );
    }
    assert!(
        covered.calls > 10 * count,
        "worlds with hardly a call prove nothing"
    );
}
