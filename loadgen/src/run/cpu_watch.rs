//! Who else has used the CPUs of a load: other programs, and the host of a virtual machine.

use std::time::{Duration, Instant};

use procfs::{CurrentSI, KernelStats};

use crate::load::cpu_time::ProcessClock;

/// Shares of the CPUs of generator and server in the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OtherUse {
    /// What other programs used; `None`: not known.
    pub(super) programs_ratio: Option<f64>,
    /// What the host took.
    pub(super) host_ratio: f64,
}

/// Looks at these CPUs at both ends of the window.
#[derive(Debug)]
pub(super) struct CpuWatch {
    cpus: Vec<usize>,
    /// This process, and the server's if it is known.
    clocks: Vec<ProcessClock>,
    /// Whether the server's process is known. Otherwise it would be taken for another program.
    knows_server: bool,
    begun: Option<Instant>,
    warmup: Duration,
    looks: Option<(Look, Look)>,
}

/// What had been used up to one moment, in seconds of one CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    at: Instant,
    busy_s: f64,
    host_s: f64,
    ours_s: f64,
}

impl CpuWatch {
    pub(super) fn new(cpus: Vec<usize>, server_pid: Option<u32>, warmup: Duration) -> Self {
        let pids = server_pid.into_iter().chain([std::process::id()]);
        Self {
            cpus,
            knows_server: server_pid.is_some(),
            clocks: pids.filter_map(|pid| ProcessClock::of(pid).ok()).collect(),
            begun: None,
            warmup,
            looks: None,
        }
    }

    /// Warm-up begins.
    pub(super) fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// Looks, once the window has begun. The last time that this is called should be at its end.
    pub(super) fn look(&mut self) {
        let has_begun = self.begun.is_some_and(|at| at.elapsed() >= self.warmup);
        let Some(look) = has_begun.then(|| self.now()).flatten() else {
            return;
        };
        match &mut self.looks {
            None => self.looks = Some((look, look)),
            Some((_, last)) => *last = look,
        }
    }

    /// What was seen; `None` where the system does not tell, or there was no time to look.
    pub(super) fn finish(self) -> Option<OtherUse> {
        let (first, last) = self.looks?;
        let mut other_use = other_use(self.cpus.len(), &first, &last)?;
        other_use.programs_ratio = other_use.programs_ratio.filter(|_| self.knows_server);
        Some(other_use)
    }

    fn now(&self) -> Option<Look> {
        let per_s = procfs::ticks_per_second() as f64;
        let all = KernelStats::current().ok()?.cpu_time;
        let (mut busy, mut host) = (0, 0);
        for cpu in &self.cpus {
            let time = all.get(*cpu)?;
            // Not interrupts, whose time may or may not be in the clocks of processes.
            busy += time.user + time.nice + time.system;
            host += time.steal.unwrap_or(0);
        }
        let ours = self.clocks.iter().map(|clock| clock.now().ok());
        Some(Look {
            at: Instant::now(),
            busy_s: busy as f64 / per_s,
            host_s: host as f64 / per_s,
            ours_s: ours.sum::<Option<Duration>>()?.as_secs_f64(),
        })
    }
}

fn other_use(cpus: usize, first: &Look, last: &Look) -> Option<OtherUse> {
    let all_s = (last.at - first.at).as_secs_f64() * cpus as f64;
    let programs_s = (last.busy_s - first.busy_s) - (last.ours_s - first.ours_s);
    (all_s > 0.0).then(|| OtherUse {
        programs_ratio: Some((programs_s / all_s).clamp(0.0, 1.0)),
        host_ratio: ((last.host_s - first.host_s) / all_s).clamp(0.0, 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_others() {
        let at = Instant::now();
        let first = Look {
            at,
            busy_s: 10.0,
            host_s: 1.0,
            ours_s: 5.0,
        };
        let last = Look {
            at: at + Duration::from_secs(2),
            busy_s: 13.5,
            host_s: 1.2,
            ours_s: 8.0,
        };
        let OtherUse {
            programs_ratio,
            host_ratio,
        } = other_use(2, &first, &last).unwrap();
        assert!((programs_ratio.unwrap() - 0.125).abs() < 1e-9 && (host_ratio - 0.05).abs() < 1e-9);
        assert_eq!(other_use(2, &first, &first), None);
    }

    #[test]
    fn this_machine_tells() {
        let mut watch = CpuWatch::new(vec![0], None, Duration::ZERO);
        watch.look();
        assert_eq!(watch.looks, None, "the load has not begun");
        watch.begin();
        watch.look();
        let first = watch.looks.unwrap().0;
        while first.at.elapsed() < Duration::from_millis(1) {
            watch.look();
        }
        watch.look();
        let last = watch.looks.unwrap().1;
        assert!(last.at > first.at && last.ours_s > first.ours_s && last.busy_s > 0.0);
        let seen = watch.finish().expect("it was looked at twice");
        assert_eq!(seen.programs_ratio, None, "the server is not known");
    }
}
