//! Runs the program as a user does.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod measured;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program with these arguments.
pub fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Output {
    loadgen(arguments).output().expect("the program runs")
}

/// What it has written to standard error.
pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A `loadgen serve` or `loadgen agent` that runs. Dropping it kills it.
pub struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts it with these arguments besides `serve`.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = loadgen(&["serve"]);
        command.args(arguments);
        Self::run(command)
    }

    /// Starts an agent, which says where it listens as well.
    pub fn agent() -> Self {
        Self::run(loadgen(&[
            "agent",
            "--listen",
            "tcp://127.0.0.1:0",
            "--pin",
            "none",
        ]))
    }

    fn run(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        Self {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    /// The next address that it says it listens on.
    pub fn address(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening ");
        address.expect("an address").trim_end().to_owned()
    }

    /// A way to send it a signal.
    pub fn signal(&self, signal: Signal) -> impl FnOnce() + 'static {
        let pid = Pid::from_child(&self.child);
        move || kill_process(pid, signal).expect("it runs")
    }

    /// Waits for its end; returns how it ended and what it printed besides the addresses.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        (status, rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().expect("killed");
            self.child.wait().expect("reaped");
        }
    }
}
