//! What the server's process uses while it is measured.

use std::time::{Duration, Instant};

use procfs::ProcError;
use procfs::process::Process;

use super::cpu_time::ProcessClock;
use super::generator::Event;

/// The server's process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerSample {
    /// Since the beginning of the window.
    pub at: Duration,
    /// CPU time, in its own code and in the kernel, to the nanosecond.
    pub cpu: Duration,
    /// CPU time in its own code, in steps of 10 ms.
    pub cpu_user_s: f64,
    /// CPU time in the kernel, in steps of 10 ms.
    pub cpu_system_s: f64,
    /// Context switches because it waited.
    pub voluntary_switches: u64,
    /// Context switches because its CPU was wanted for something else.
    pub involuntary_switches: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u64,
}

/// Looks at the server's process at both ends of the window and after each interval.
#[derive(Debug)]
pub(super) struct ServerProbe {
    process: Process,
    clock: ProcessClock,
    window_from: Instant,
    duration: Duration,
    interval: Duration,
    /// The first look and the latest.
    samples: Option<(ServerSample, ServerSample)>,
    rss_bytes_max: u64,
    /// Looks that were made.
    looks: u32,
}

impl ServerProbe {
    pub(super) fn new(
        pid: u32,
        window_from: Instant,
        duration: Duration,
        interval: Duration,
    ) -> Result<Self, String> {
        let process = Process::new(pid as i32);
        let process = process.map_err(|error| format!("the server's process {pid}: {error}"))?;
        let clock = ProcessClock::of(pid);
        Ok(Self {
            process,
            clock: clock.map_err(|error| format!("the CPU time of process {pid}: {error}"))?,
            window_from,
            duration,
            interval,
            samples: None,
            rss_bytes_max: 0,
            looks: 0,
        })
    }

    /// When to look next; `None`: the window is over.
    pub(super) fn due(&self) -> Option<Instant> {
        let at = (self.interval * self.looks).min(self.duration);
        let has_ended = self.looks > 0 && self.interval * (self.looks - 1) >= self.duration;
        (!has_ended).then(|| self.window_from + at)
    }

    /// Looks if it is time. A process that has ended is no failure here: calls fail.
    pub(super) fn look_if_due(
        &mut self,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return Ok(());
        }
        self.looks += 1;
        let Ok(sample) = self.look() else {
            return Ok(());
        };
        self.rss_bytes_max = self.rss_bytes_max.max(sample.rss_bytes);
        match &mut self.samples {
            None => self.samples = Some((sample, sample)),
            Some((_, latest)) => {
                let before = std::mem::replace(latest, sample);
                observe(Event::Server(&before, &sample))?;
            }
        }
        Ok(())
    }

    /// The first look, the last, and the largest resident memory of all.
    pub(super) fn finish(self) -> Option<(ServerSample, ServerSample, u64)> {
        let (first, last) = self.samples?;
        (last.at > first.at).then_some((first, last, self.rss_bytes_max))
    }

    fn look(&self) -> Result<ServerSample, ProcError> {
        let at = self.window_from.elapsed();
        let cpu = self
            .clock
            .now()
            .map_err(|error| ProcError::Io(error, None))?;
        let stat = self.process.stat()?;
        let per_s = procfs::ticks_per_second() as f64;
        let (mut voluntary_switches, mut involuntary_switches) = (0, 0);
        for task in self.process.tasks()?.flatten() {
            let status = task.status()?;
            voluntary_switches += status.voluntary_ctxt_switches.unwrap_or(0);
            involuntary_switches += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
        Ok(ServerSample {
            at,
            cpu,
            cpu_user_s: stat.utime as f64 / per_s,
            cpu_system_s: stat.stime as f64 / per_s,
            voluntary_switches,
            involuntary_switches,
            rss_bytes: stat.rss * procfs::page_size(),
            threads: stat.num_threads as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_due_at_both_ends_and_between() {
        let from = Instant::now();
        let (duration, interval) = (Duration::from_secs(5), Duration::from_secs(2));
        let mut probe = ServerProbe::new(std::process::id(), from, duration, interval).unwrap();
        let mut due_s = Vec::new();
        while let Some(due) = probe.due() {
            due_s.push((due - from).as_secs());
            probe.looks += 1;
        }
        assert_eq!(due_s, [0, 2, 4, 5]);
    }

    #[test]
    fn this_process_is_seen() {
        let from = Instant::now();
        let moment = Duration::from_nanos(1);
        let mut probe = ServerProbe::new(std::process::id(), from, moment, moment).unwrap();
        let mut seen = Vec::new();
        while probe.due().is_some() {
            let tell = &mut |event: Event<'_>| {
                if let Event::Server(before, after) = event {
                    seen.push((*before, *after));
                }
                Ok(())
            };
            probe.look_if_due(tell).unwrap();
        }
        assert_eq!(seen.len(), 1);
        let (before, after) = seen[0];
        assert!(after.cpu > before.cpu && after.at > before.at);
        assert!(after.rss_bytes > 100_000 && after.threads >= 1, "{after:?}");
        assert!(probe.finish().is_some());
    }
}
