//! The sample server in a process of its own.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::placement::pin;
use crate::results::Protocol;

/// A running `loadgen serve`. However this process ends, so does the server: its standard input
/// closes.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    addresses: Vec<String>,
}

/// The server that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions {
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// How many shards it has.
    pub(crate) shards: usize,
    /// Where they run; `None`: anywhere.
    pub(crate) cpus: Option<Vec<usize>>,
    /// What its shards do when they have nothing to do, as `serve --idle` takes it.
    pub(crate) idle: String,
}

impl ServerProcess {
    /// Starts this program again as a server, with a shard on each of the CPUs that are given, or
    /// else so many that are not pinned, and waits until it listens.
    pub(crate) fn start(listen: &[String], options: &ServerOptions) -> Result<Self, String> {
        let mut child =
            spawn(listen, options).map_err(|error| format!("can't start it: {error}"))?;
        let stdout = child
            .stdout
            .take()
            .ok_or("its standard output is missing")?;
        let mut server = Self {
            child,
            addresses: Vec::new(),
        };
        let lines = lines_of(stdout).map_err(|error| error.to_string())?;
        let until = Instant::now() + PATIENCE;
        while server.addresses.len() < listen.len() {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => server
                    .addresses
                    .extend(line.strip_prefix("listening ").map(str::to_owned)),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("it does not listen after {PATIENCE:?}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = server.end().map_err(|error| error.to_string())?;
                    return Err(format!("it ended at its start: {status}"));
                }
            }
        }
        Ok(server)
    }

    /// Where it listens, in the order of what was asked for.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Lets it finish and waits for its end.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        match self.end() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("it did not end well: {status}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Closes its input and waits; kills it when it stays.
    fn end(&mut self) -> io::Result<ExitStatus> {
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("loadgen: can't end the server's process: {error}");
        }
    }
}

fn spawn(listen: &[String], options: &ServerOptions) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["serve", "--exit-with-stdin"])
        .args(["--shards", &options.shards.to_string()])
        .args(["--protocol", &options.protocol.to_string()])
        .args(["--idle", &options.idle])
        .args([
            "--pin",
            if options.cpus.is_some() {
                "true"
            } else {
                "false"
            },
        ])
        .arg("--listen")
        .args(listen)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The terminal's Ctrl-C is for the generator, which then ends its server: one that ended at
        // once would make the calls in flight fail.
        .process_group(0);
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn");
    }
    // A process inherits the CPUs of the thread that starts it, so that one is pinned first.
    let cpus = options.cpus.clone();
    let start = move || {
        cpus.map_or(Ok(()), |cpus| pin(&cpus))?;
        command.spawn()
    };
    let starter = thread::Builder::new().name("starter".into()).spawn(start)?;
    starter
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
}

/// The lines that the server prints, read by a thread so that waiting for them can end.
fn lines_of(stdout: ChildStdout) -> io::Result<Receiver<String>> {
    let (sender, lines) = channel();
    let read = move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                // All addresses are known. Stopping to read would break the server's pipe.
                continue;
            }
        }
    };
    thread::Builder::new()
        .name("server output".into())
        .spawn(read)?;
    Ok(lines)
}

/// Time that the server has to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What shards do when they have nothing to do, unless something else is asked for.
pub(crate) const IDLE_USUAL: &str = "spin:50us";
