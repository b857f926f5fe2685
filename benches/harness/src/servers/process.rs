//! One server in a process of its own, and the few lines that parent and child exchange.
//!
//! The child prints the address that it listens on, serves until its standard input closes, prints
//! its counters and ends. A parent that dies closes the pipe too, so no server is left behind.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{self, Child, ChildStdout, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use loadgen::target::placement::pin;
use loadgen::units::{format_idle, parse_idle};
use ringcall::Idle;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::{Counters, Peer, Task, find};
use crate::address::Address;
use crate::count::allocator;
use crate::count::page::Page;
use crate::descriptors;
use crate::options;
use crate::point::Point;
use crate::work::{Work, Workload};

/// What a bench that measures servers can be told to do instead.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs one server until standard input closes
    #[command(hide = true)]
    Serve(Serve),
}

/// The whole of a bench that measures servers: it is one of them when its command says so.
pub fn run_bench<Options: Parser>(
    bench: &str,
    command: impl FnOnce(&Options) -> Option<&Command>,
    measure: impl FnOnce(&Options) -> io::Result<()>,
) -> ExitCode {
    let options: Options = options::begin(bench);
    let result = match command(&options) {
        Some(Command::Serve(serve)) => serve.run(),
        None => measure(&options),
    };
    options::end(bench, result)
}

/// What the child is told on its command line.
#[derive(Debug, Args)]
pub struct Serve {
    /// Which server to run
    #[arg(long)]
    peer: String,
    /// Where it listens
    #[arg(long)]
    listen: Address,
    /// How it waits
    #[arg(long, value_parser = parse_idle)]
    idle: Idle,
    /// What it will be asked
    #[arg(long, value_enum)]
    workload: Workload,
    /// How much of it
    #[arg(long)]
    payload_bytes: usize,
    /// The CPUs that it is pinned to; none for those that it finds
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// A page for its counters
    #[arg(long)]
    counters: Option<PathBuf>,
}

impl Serve {
    /// The child's whole life.
    pub fn run(&self) -> io::Result<()> {
        if !self.cpus.is_empty() {
            pin(&self.cpus)?;
        }
        if let Some(page) = &self.counters {
            allocator::count_into(page)?;
        }
        let peer = find(&self.peer).map_err(io::Error::other)?;
        let mut announce = |address: &Address| say(&Line::Listening(address.to_string()));
        let stdin = io::stdin();
        let task = Task {
            address: &self.listen,
            idle: self.idle,
            work: Work {
                workload: self.workload,
                payload_bytes: self.payload_bytes,
            },
            cpus: self.cpus.len().max(1),
            stop: stdin.as_fd(),
        };
        let counters = peer.serve(&task, &mut announce)?;
        say(&Line::Counters(counters))
    }
}

/// What the child prints, one JSON object per line.
#[derive(Serialize, Deserialize)]
enum Line {
    Listening(String),
    Counters(Counters),
}

fn say(line: &Line) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, line)?;
    writeln!(stdout)?;
    stdout.flush()
}

/// Which kind of socket a server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP over the loopback interface.
    Tcp,
    /// A unix stream socket.
    Unix,
}

impl Transport {
    /// An address that nobody else uses.
    pub(super) fn fresh(self) -> Address {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        match self {
            Self::Tcp => Address::Tcp(([127, 0, 0, 1], 0).into()),
            Self::Unix => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                Address::Unix(format!("ringcall-bench-{}-{number}", std::process::id()))
            }
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        })
    }
}

/// How a server process is started.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// What it will be asked.
    pub point: Point,
    /// CPUs that it is pinned to; none: where the system puts it.
    pub cpus: &'a [usize],
    /// Where it counts, if it is to.
    pub counters: Option<&'a Page>,
}

/// The command of every bench that runs one server.
pub const SERVE: &str = "serve";

/// A running server. Dropping it stops it.
pub struct ServerProcess {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: Address,
}

impl ServerProcess {
    /// Starts this program again as a server, and waits until it listens.
    pub fn start(peer: &dyn Peer, start: &Start<'_>) -> io::Result<Self> {
        let Point {
            work,
            transport,
            cell,
        } = start.point;
        let address = transport.fresh();
        let mut command = process::Command::new(std::env::current_exe()?);
        command
            .args([SERVE, "--peer", peer.name()])
            .args(["--listen", &address.to_string()])
            .args(["--idle", &format_idle(cell.idle)])
            .args(["--workload", &work.workload.to_string()])
            .args(["--payload-bytes", &work.payload_bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if !start.cpus.is_empty() {
            let cpus: Vec<_> = start.cpus.iter().map(usize::to_string).collect();
            command.args(["--cpus", &cpus.join(",")]);
        }
        if let Some(page) = start.counters {
            command.arg("--counters").arg(page.path());
        }
        let mut child = command.spawn().map_err(descriptors::explain)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut server = Self {
            child,
            lines: BufReader::new(stdout),
            address,
        };
        match server.next_line()? {
            Line::Listening(address) => {
                server.address = address.parse().map_err(io::Error::other)?
            }
            Line::Counters(_) => return Err(io::Error::other("the server ended at once")),
        }
        Ok(server)
    }

    /// Where clients connect to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server and returns what it counted.
    pub fn stop(mut self) -> io::Result<Counters> {
        drop(self.child.stdin.take());
        match self.next_line()? {
            Line::Counters(counters) => Ok(counters),
            Line::Listening(_) => Err(io::Error::other("the server announced itself twice")),
        }
    }

    fn next_line(&mut self) -> io::Result<Line> {
        let mut text = String::new();
        // IN: bytes to read, or the end. Lines come one at a time, so none waits in our buffer.
        let mut readable = [PollFd::new(self.lines.get_ref(), PollFlags::IN)];
        if poll(&mut readable, Some(&PATIENCE))? == 0 {
            return Err(io::Error::other("the server says nothing"));
        }
        if self.lines.read_line(&mut text)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!("the server ended: {status}")));
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits for the end of a child whose input is closed; one that stays is killed.
    fn reap(&mut self) -> io::Result<()> {
        let until = Instant::now() + Duration::try_from(PATIENCE).map_err(io::Error::other)?;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= until {
                self.child.kill()?;
                self.child.wait()?;
                return Err(io::Error::other("it did not end by itself and was killed"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.reap() {
            eprintln!("ending a server: {error}");
        }
    }
}

/// Time that a server may take to start, and to end.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
