//! CPU time that a process has used.

use std::io;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// The clock that counts the CPU time of a process, in its own code and in the kernel, all threads
/// together, to the nanosecond.
#[derive(Clone, Copy, Debug)]
pub struct ProcessClock(ClockId);

impl ProcessClock {
    /// The clock of a process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid as i32);
        Ok(Self(ClockId::pid_cpu_clock_id(pid)?))
    }

    /// The time up to now.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn now(&self) -> io::Result<Duration> {
        Ok(self.0.now()?.into())
    }
}

/// CPU time that the calling thread has used. Where the kernel accounts for a host that takes CPUs away,
/// that time is not in it.
pub fn own_thread() -> Duration {
    // A thread has this clock as long as it runs.
    ClockId::CLOCK_THREAD_CPUTIME_ID
        .now()
        .map_or(Duration::ZERO, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    #[test]
    fn work_is_counted() {
        let clock = ProcessClock::of(std::process::id()).unwrap();
        let (start, before) = (Instant::now(), clock.now().unwrap());
        while clock.now().unwrap() < before + Duration::from_millis(20) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no time is counted"
            );
        }
    }

    #[test]
    fn the_clock_of_a_thread_stands_still_while_it_sleeps() {
        let before = own_thread();
        std::thread::spawn(|| while own_thread() < Duration::from_millis(5) {})
            .join()
            .unwrap();
        let others = own_thread() - before;
        assert!(others < Duration::from_millis(5), "{others:?}");
    }

    #[test]
    fn another_process_has_a_clock_until_it_ends() {
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let clock = ProcessClock::of(other.id()).unwrap();
        assert!(clock.now().unwrap() < Duration::from_secs(10));
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(clock.now().is_err());
    }
}
