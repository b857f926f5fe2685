//! CPU time that a process has used.

use std::time::Duration;

use procfs::process::Process;
use procfs::{ProcResult, ticks_per_second};

/// Reads the CPU time of a process, all its threads together.
#[derive(Clone, Copy, Debug)]
pub struct ProcessClock {
    pid: u32,
}

impl ProcessClock {
    /// Of this process.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// The time up to now.
    ///
    /// The scheduler's own sums count nanoseconds and lag behind a running thread by at most one
    /// tick of the kernel, a few milliseconds. A kernel without them tells ticks of 10 ms.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn now(&self) -> ProcResult<Duration> {
        let process = Process::new(self.pid as i32)?;
        scheduled(&process).or_else(|_| ticks(&process))
    }
}

fn scheduled(process: &Process) -> ProcResult<Duration> {
    let mut total_ns = 0;
    for task in process.tasks()? {
        total_ns += task?.schedstat()?.sum_exec_runtime;
    }
    Ok(Duration::from_nanos(total_ns))
}

fn ticks(process: &Process) -> ProcResult<Duration> {
    let stat = process.stat()?;
    let seconds = (stat.utime + stat.stime) as f64 / ticks_per_second() as f64;
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn both_sources_see_work() {
        let process = Process::myself().unwrap();
        let before = (scheduled(&process).unwrap(), ticks(&process).unwrap());
        let start = Instant::now();
        while ticks(&process).unwrap() <= before.1 {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no CPU time is counted"
            );
        }
        assert!(scheduled(&process).unwrap() > before.0);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_time() {
        assert!(ProcessClock::new(i32::MAX as u32).now().is_err());
    }
}
