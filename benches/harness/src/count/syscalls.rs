//! System calls of another process: counted by the kernel where that is permitted, by `strace`
//! elsewhere.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tempfile::NamedTempFile;

/// System calls of a process, and who counted them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Syscalls {
    /// How many there were.
    pub count: u64,
    /// Who counted them.
    pub counter: SyscallCounter,
}

/// Who counts system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyscallCounter {
    /// The kernel, at its tracepoint: it slows the server down a little.
    Tracepoint,
    /// `strace -c`, which stops the server at each of them.
    Strace,
}

impl fmt::Display for SyscallCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tracepoint => "the kernel's tracepoint",
            Self::Strace => "`strace -c`, under which servers are slower and so batches larger",
        })
    }
}

/// Counts the system calls of a process from its start to its stop.
pub enum Tracer {
    /// A counter for each thread that the process had at the start, and those that it starts.
    Kernel(Vec<Counter>),
    /// It stops the process at every system call: servers get slower and so their batches larger.
    Strace(Strace),
}

impl Tracer {
    /// Starts to count; `None` when this machine has no way to.
    pub fn start(pid: u32) -> io::Result<Option<Self>> {
        if let Ok(counters) = kernel_counters(pid) {
            return Ok(Some(Self::Kernel(counters)));
        }
        Ok(Strace::start(pid)?.map(Self::Strace))
    }

    /// Stops, and says how many there were.
    pub fn stop(self) -> io::Result<Syscalls> {
        let (count, counter): (io::Result<u64>, _) = match self {
            Self::Kernel(mut counters) => (
                counters.iter_mut().map(Counter::read).sum(),
                SyscallCounter::Tracepoint,
            ),
            Self::Strace(strace) => (strace.stop(), SyscallCounter::Strace),
        };
        Ok(Syscalls {
            count: count?,
            counter,
        })
    }
}

/// Needs the right to see tracepoints, which root has, and a kernel with system call tracing.
fn kernel_counters(pid: u32) -> io::Result<Vec<Counter>> {
    let id = TRACE_FOLDERS
        .iter()
        .find_map(|folder| fs::read_to_string(format!("{folder}/raw_syscalls/sys_enter/id")).ok())
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no tracepoint for system calls"))?;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    threads
        .map(|thread| {
            let thread = thread?.file_name();
            let thread = thread.to_string_lossy().parse().map_err(io::Error::other)?;
            Builder::new(Tracepoint::with_id(id))
                .observe_pid(thread)
                .any_cpu()
                // Threads that it starts later count too.
                .inherit(true)
                // The tracepoint is hit inside the kernel.
                .include_kernel()
                .enabled(true)
                .build()
        })
        .collect()
}

/// A running `strace -c`.
pub struct Strace {
    child: Child,
    summary: NamedTempFile,
}

impl Strace {
    fn start(pid: u32) -> io::Result<Option<Self>> {
        let summary = NamedTempFile::with_prefix("ringcall-strace-")?;
        let spawned = Command::new("strace")
            .args(["-c", "-f", "-p", &pid.to_string(), "-o"])
            .arg(summary.path())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Its first line says that it has attached, or why it can't.
        let mut said = String::new();
        let stderr = child.stderr.take().expect("stderr is piped");
        BufReader::new(stderr).read_line(&mut said)?;
        if said.contains("attached") {
            return Ok(Some(Self { child, summary }));
        }
        child.wait()?;
        Ok(None)
    }

    fn stop(mut self) -> io::Result<u64> {
        // INT makes it detach and write its summary.
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        let summary = fs::read_to_string(self.summary.path())?;
        total_calls(&summary).ok_or_else(|| io::Error::other(format!("strace said: {summary}")))
    }
}

/// The number of calls in the last line of a summary. One that saw none is empty.
fn total_calls(summary: &str) -> Option<u64> {
    let Some(total) = summary.lines().rfind(|line| line.ends_with(" total")) else {
        return summary.trim().is_empty().then_some(0);
    };
    // % time, seconds, microseconds per call, calls; then errors, if there were any.
    total.split_whitespace().nth(3)?.parse().ok()
}

/// Where the kernel lists its tracepoints: by itself, and inside debugfs.
const TRACE_FOLDERS: [&str; 2] = [
    "/sys/kernel/tracing/events",
    "/sys/kernel/debug/tracing/events",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_ends_with_the_total() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 62.50    0.000010           0        12           write
 37.50    0.000006           0         8         3 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000016           0        20         3 total
";
        assert_eq!(total_calls(summary), Some(20));
        assert_eq!(
            total_calls(&summary.replace("3 total", "  total")),
            Some(20)
        );
        assert_eq!(total_calls(""), Some(0));
        assert_eq!(total_calls("strace: nonsense"), None);
    }

    #[test]
    fn calls_of_another_process_are_counted() {
        // `cat` reads and writes once for each line.
        let mut shell = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        let mut echo = || {
            let mut line = String::new();
            io::Write::write_all(&mut input, b"line\n").unwrap();
            output.read_line(&mut line).unwrap();
        };
        echo();
        let tracer = Tracer::start(shell.id()).unwrap();
        (0..100).for_each(|_| echo());
        // A machine on which nobody may trace has nothing to test here.
        let counted = tracer.map(|tracer| tracer.stop().unwrap());
        drop(input);
        shell.wait().unwrap();
        // It writes for each line; the read after the last one may not have begun yet.
        assert!(
            counted.is_none_or(|calls| (199..1000).contains(&calls.count)),
            "{counted:?}"
        );
    }
}
