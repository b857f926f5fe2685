//! Which CPUs the two sides run on, and how much time a process spent on one.

use std::io;
use std::time::Duration;

use procfs::process::Process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One CPU for the server and another for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// CPU of the server process.
    pub server: usize,
    /// CPU of the client.
    pub client: usize,
}

impl Placement {
    /// The first two CPUs that this process may use; `taskset` chooses others. `None` when it may
    /// use only one: two sides that are pinned to the same CPU would wait for each other's slice.
    pub fn choose() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        Ok(cpus
            .next()
            .zip(cpus.next())
            .map(|(server, client)| Self { server, client }))
    }
}

/// Keeps the calling thread, and the threads and processes that it starts, on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Time that all live threads of a process have spent on a CPU, in user code and in the kernel.
///
/// It comes from the scheduler's own nanosecond sums; those lag behind a running thread by at most
/// one tick of the kernel, a few milliseconds.
pub fn time_of(pid: u32) -> io::Result<Duration> {
    let process = Process::new(pid as i32).map_err(io::Error::other)?;
    let mut total_ns = 0;
    for task in process.tasks().map_err(io::Error::other)? {
        let schedstat = task.and_then(|task| task.schedstat());
        total_ns += schedstat.map_err(io::Error::other)?.sum_exec_runtime;
    }
    Ok(Duration::from_nanos(total_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_costs_time() {
        let before = time_of(std::process::id()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(time_of(std::process::id()).unwrap() > before);
    }
}
