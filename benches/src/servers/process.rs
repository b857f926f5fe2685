//! One server in a process of its own, and the few lines that parent and child exchange.
//!
//! The child prints the address that it listens on, serves until its standard input closes, prints
//! its counters and ends. A parent that dies closes the pipe too, so no server is left behind.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::{Counters, Peer, Task, find};
use crate::address::Address;
use crate::cpu;
use crate::idle::Idle;

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
    #[arg(long)]
    idle: Idle,
    /// The CPU that it is pinned to
    #[arg(long)]
    cpu: Option<usize>,
}

impl Serve {
    /// The child's whole life.
    pub fn run(&self) -> io::Result<()> {
        if let Some(cpu) = self.cpu {
            cpu::pin(cpu)?;
        }
        let peer = find(&self.peer).map_err(io::Error::other)?;
        let mut announce = |address: &Address| say(&Line::Listening(address.to_string()));
        let stdin = io::stdin();
        let task = Task {
            address: &self.listen,
            idle: self.idle,
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
    fn fresh(self) -> Address {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        match self {
            Self::Tcp => Address::Tcp(([127, 0, 0, 1], 0).into()),
            Self::Unix => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("ringcall-bench-{}-{number}.sock", std::process::id());
                Address::Unix(std::env::temp_dir().join(name))
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

/// A running server. Dropping it stops it.
pub struct ServerProcess {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: Address,
    socket_file: Option<PathBuf>,
}

impl ServerProcess {
    /// Starts this program again as a server, and waits until it listens.
    ///
    /// `subcommand` names the [`Serve`] command of this program.
    pub fn start(
        subcommand: &str,
        peer: &dyn Peer,
        transport: Transport,
        idle: Idle,
        cpu: Option<usize>,
    ) -> io::Result<Self> {
        let address = transport.fresh();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([subcommand, "--peer", peer.name()])
            .args(["--listen", &address.to_string()])
            .args(["--idle", &idle.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut server = Self {
            child,
            lines: BufReader::new(stdout),
            address,
            socket_file: None,
        };
        match server.next_line()? {
            Line::Listening(address) => {
                server.address = address.parse().map_err(io::Error::other)?
            }
            Line::Counters(_) => return Err(io::Error::other("the server ended at once")),
        }
        if let Address::Unix(path) = &server.address {
            server.socket_file = Some(path.clone());
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
        if let Some(path) = &self.socket_file
            && let Err(error) = std::fs::remove_file(path)
        {
            eprintln!("removing {}: {error}", path.display());
        }
    }
}

/// Time that a server may take to start, and to end.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
