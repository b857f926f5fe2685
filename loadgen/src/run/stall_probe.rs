//! Pauses of the server's CPUs, as a thread sees them that wants to wake up there twice in a millisecond.
//!
//! The server can't tell them: while its CPU stands still, or wakes up late from its sleep because the host
//! of a virtual machine has given it to others, it looks like a server that is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::load::cpu_time::ProcessClock;
use crate::results::Pauses;
use crate::target::placement::pin;

/// A thread on each of the server's CPUs. Dropping it ends them.
#[derive(Debug)]
pub(super) struct StallProbe {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<Vec<Wake>>>>,
}

/// What was seen in a window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stalls {
    /// How many pauses of a millisecond or longer, and how long.
    pub(super) pauses: Pauses,
    /// When each began and ended, and others half as long, since the beginning of the window.
    pub(super) spans: Vec<(Duration, Duration)>,
}

/// A wake-up that was late.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wake {
    at: Instant,
    late: Duration,
}

impl StallProbe {
    /// Looks at these CPUs. Where this process may not go before others, it sees nothing: it would take
    /// a busy server for a pause.
    ///
    /// `server` is the process whose only busy thread is on the CPU, if that is known: where it has used
    /// the time itself, in a long system call, the CPU did not stand still.
    pub(super) fn start(cpus: &[usize], server: Option<u32>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let clock = server.and_then(|pid| ProcessClock::of(pid).ok());
        let spawn = |&cpu| {
            let is_over = Arc::clone(&is_over);
            let thread = thread::Builder::new().name(format!("stalls {cpu}"));
            thread.spawn(move || watch(cpu, &is_over, clock)).ok()
        };
        let threads = cpus.iter().filter_map(spawn).collect();
        Self { is_over, threads }
    }

    /// The pauses of the window; `None` where it could not look.
    pub(super) fn finish(mut self, from: Instant, length: Duration) -> Option<Stalls> {
        self.is_over.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let seen = threads.into_iter().map(|thread| thread.join().ok()?);
        let seen: Vec<Vec<Wake>> = seen.collect::<Option<_>>()?;
        let is_in_window = |wake: &&Wake| wake.at >= from && wake.at < from + length;
        let mut pauses = Pauses::default();
        let mut spans = Vec::new();
        for wake in seen.iter().flatten().filter(is_in_window) {
            if wake.late >= PAUSE_MIN {
                pauses += Pauses::one(wake.late.as_nanos() as u64);
            }
            let until = wake.at - from;
            spans.push((until.saturating_sub(wake.late), until));
        }
        (!seen.is_empty()).then(|| Stalls {
            pauses: pauses.per_thread(seen.len()),
            spans,
        })
    }
}

impl Drop for StallProbe {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// `None`: it may not be on that CPU, or not go before others there.
fn watch(cpu: usize, is_over: &AtomicBool, server: Option<ProcessClock>) -> Option<Vec<Wake>> {
    pin(&[cpu]).ok()?;
    rustix::process::setpriority_process(None, NICE_MIN).ok()?;
    let mut late_wakes = Vec::new();
    let used = || {
        server
            .and_then(|clock| clock.now().ok())
            .unwrap_or_default()
    };
    let mut used_before = used();
    let mut due = Instant::now() + STEP;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        let used_now = used();
        let is_pause = late >= SPAN_MIN && !is_own_work(used_now.saturating_sub(used_before), late);
        if is_pause && late_wakes.len() < WAKES_MAX {
            late_wakes.push(Wake { at: now, late });
        }
        used_before = used_now;
        due = now + STEP;
    }
    Some(late_wakes)
}

/// Whether the server has used so much CPU time since the wake-up before that a late one is its doing. It may
/// have used the step before as well.
fn is_own_work(used: Duration, late: Duration) -> bool {
    used >= late.mul_f64(0.9) && used > STEP.mul_f64(1.05)
}

/// Before all others.
const NICE_MIN: i32 = -20;
/// How often it wakes up, which takes some thousandths of a CPU. No pause is missed that is this much
/// longer than the shortest that counts.
const STEP: Duration = Duration::from_micros(500);
/// As for the generator's threads. Shorter ones may be what the kernel does for a busy server.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// From here on a stretch of time is no longer quiet.
const SPAN_MIN: Duration = Duration::from_micros(500);
/// Half an hour on a machine that hardly runs.
const WAKES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pauses_of_the_window_count() {
        let from = Instant::now();
        let ms = Duration::from_millis;
        let wakes = [(5, 2), (15, 3), (25, 10), (40, 7)];
        let wakes = wakes.map(|(at, late)| Wake {
            at: from + ms(at),
            late: ms(late),
        });
        // Too short to be counted.
        let short = Wake {
            at: from + ms(20),
            late: SPAN_MIN,
        };
        let wakes = [&wakes[..], &[short]].concat();
        let probe = StallProbe {
            is_over: Arc::default(),
            threads: vec![thread::spawn(move || Some(wakes))],
        };
        let Stalls { pauses, spans } = probe.finish(from + ms(10), ms(20)).unwrap();
        assert_eq!((pauses.count, pauses.total_ns), (2, 13_000_000));
        assert_eq!(pauses.longest_ns, 10_000_000);
        let short = (ms(10) - SPAN_MIN, ms(10));
        assert_eq!(spans, [(ms(2), ms(5)), (ms(5), ms(15)), short]);
    }

    #[test]
    fn a_server_that_had_the_cpu_itself_did_not_stand_still() {
        let us = Duration::from_micros;
        // It ran before the pause, and not in it.
        assert!(!is_own_work(us(500), us(600)) && !is_own_work(us(500), us(5000)));
        // A long system call, after a busy or an idle step.
        assert!(is_own_work(us(1100), us(600)) && is_own_work(us(2000), us(2000)));
        assert!(!is_own_work(us(1000), us(2000)), "half of the time");
    }

    #[test]
    fn one_that_may_not_look_says_nothing() {
        let probe = StallProbe {
            is_over: Arc::default(),
            threads: vec![thread::spawn(|| None)],
        };
        assert_eq!(probe.finish(Instant::now(), Duration::MAX / 4), None);
        let nowhere = StallProbe::start(&[], None);
        assert_eq!(nowhere.finish(Instant::now(), Duration::from_secs(1)), None);
    }

    #[test]
    fn it_looks_until_it_is_told_to_end() {
        let probe = StallProbe::start(&ringcall::environment().cpus[..1], None);
        let is_over = Arc::downgrade(&probe.is_over);
        assert_eq!(is_over.strong_count(), 2, "the probe and its thread");
        probe.finish(Instant::now(), Duration::from_secs(60));
        assert_eq!(is_over.strong_count(), 0, "both are gone");
    }
}
