//! The servers that are compared.
//!
//! To add one: write a file with a type that implements [`Peer`], and name it in [`ALL`]. Either the
//! client of this package drives it ([`Frames`]), or the client that it comes with ([`OwnClient`]).

mod glommio;
pub mod process;
pub mod raw;
pub mod raw_epoll;
pub mod ringcall;
mod store;
mod tarpc;
pub mod tonic;

use std::io;
use std::os::fd::BorrowedFd;

use ::ringcall::Idle;
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::address::Address;
use crate::client::handshake;
use crate::client::{Outcome, Plan, ReadUsage};
use crate::point::Point;
use crate::wire::{self, Answer};
use crate::work::{Work, Workload};

/// Every server, the baseline first.
pub static ALL: [&dyn Peer; 9] = [
    &raw::Raw,
    &ringcall::URING,
    &raw_epoll::RawEpoll,
    &ringcall::EPOLL,
    &glommio::Glommio,
    &ringcall::TOKIO,
    &tarpc::Tarpc,
    &tonic::ONE_THREAD,
    &tonic::THREAD_PER_CONNECTION,
];

/// A server, and how it is called.
pub trait Peer: Sync {
    /// Its name in tables and on the command line.
    fn name(&self) -> &'static str;

    /// Listens, announces the address that it got, and serves until told to stop. It runs in a
    /// process of its own, which is already pinned.
    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters>;

    /// Who drives it.
    fn caller(&self) -> Caller<'_>;

    /// Whether it has what a point of the grid asks for. By default a peer offers all workloads on
    /// all sockets, and waits by sleeping in the kernel.
    fn takes_part(&self, point: &Point) -> bool {
        point.cell.idle == Idle::Park
    }

    /// Descriptors that it holds for each connection; cells for which they don't suffice are left out.
    fn descriptors_per_connection(&self) -> usize {
        1
    }
}

/// Who drives a server.
pub enum Caller<'a> {
    /// The client of this package, which sends frames that were encoded before.
    Frames(&'a dyn Frames),
    /// The client that belongs to it.
    Own(&'a dyn OwnClient),
}

/// What the client of this package must know to call a server.
pub trait Frames {
    /// Frames that a client sends first, each answered by one frame before any request goes out.
    fn preamble(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// A request frame for a connection on which the preamble was answered with `answers`. Those
    /// of one workload are equally long. The client patches the call id.
    fn request(&self, work: Work, _number: usize, answers: &[Answer]) -> io::Result<Vec<u8>> {
        assert!(answers.is_empty(), "there was no preamble");
        Ok(wire::request(0, &wire::any_payload(work.payload_bytes)))
    }

    /// Payload of each response.
    fn answer_bytes(&self, work: Work) -> io::Result<usize> {
        Ok(work.payload_bytes)
    }
}

impl Caller<'_> {
    /// Says on a connected socket what makes it a connection that could call, and does not.
    pub fn greet(&self, socket: &Socket) -> io::Result<()> {
        match self {
            Self::Frames(frames) => handshake::run(socket, *frames).map(drop),
            Self::Own(own) => own.greet(socket),
        }
    }
}

/// A client that is as much a part of the comparison as its server.
pub trait OwnClient {
    /// Says on a connected socket what makes it a connection that could call, and does not.
    fn greet(&self, socket: &Socket) -> io::Result<()>;

    /// Connects, makes the plan's calls, and disconnects.
    fn run(&self, plan: &Plan, address: &Address, usage: ReadUsage<'_>) -> io::Result<Outcome>;
}

/// What a server is to do.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Where to listen.
    pub address: &'a Address,
    /// How to wait.
    pub idle: Idle,
    /// What it will be asked.
    pub work: Work,
    /// CPUs that it may use.
    pub cpus: usize,
    /// A pipe to which nothing is written: the server stops when the other end closes.
    pub stop: BorrowedFd<'a>,
}

/// Waits on a tokio runtime until the other end of the pipe closes.
async fn stopped(stop: BorrowedFd<'_>) -> io::Result<()> {
    let stop = tokio::net::unix::pipe::Receiver::from_owned_fd(stop.try_clone_to_owned()?)?;
    // Nothing is ever written to it: it becomes readable at its end.
    stop.readable().await
}

/// Whether a server that only echoes bytes offers this.
fn is_echo(workload: Workload) -> bool {
    matches!(workload, Workload::Echo | Workload::Order)
}

/// Tells the parent process where the server listens; to be called once.
pub type Announce<'a> = &'a mut dyn FnMut(&Address) -> io::Result<()>;

/// What a server counted while it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Which interface of the kernel it used, with its features.
    pub engine: String,
    /// Requests read where they were received; zero for servers that read none.
    pub in_place: u64,
    /// Requests copied before they were read; zero for servers that read none.
    pub copied: u64,
}

impl Counters {
    /// Counters of a server that does not look at what it echoes.
    pub fn of_echo(engine: impl Into<String>) -> Self {
        Self {
            engine: engine.into(),
            ..Self::default()
        }
    }

    /// Share of requests read in place; `None` when none were read.
    pub fn in_place_ratio(&self) -> Option<f64> {
        let requests = self.in_place + self.copied;
        (requests > 0).then(|| self.in_place as f64 / requests as f64)
    }
}

/// The peer of this name.
pub fn find(name: &str) -> Result<&'static dyn Peer, String> {
    let known = || format!("no peer is called `{name}`; there are {}", names(|_| true));
    ALL.iter()
        .find(|peer| peer.name() == name)
        .copied()
        .ok_or_else(known)
}

/// The peer of this name, if it has a client of its own: only those make calls in an open loop.
pub fn find_with_own_client(name: &str) -> Result<&'static dyn Peer, String> {
    let has_own = |peer: &dyn Peer| matches!(peer.caller(), Caller::Own(_));
    let peer = find(name)?;
    if has_own(peer) {
        return Ok(peer);
    }
    Err(format!(
        "the client that drives `{name}` can't make calls at times that were fixed before; those of \
         these can: {}",
        names(has_own)
    ))
}

fn names(is_meant: impl Fn(&dyn Peer) -> bool) -> String {
    let meant = ALL.iter().filter(|peer| is_meant(**peer));
    let names: Vec<_> = meant.map(|peer| peer.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Arrivals, Client};
    use crate::cpu::CpuUsage;
    use crate::servers::process::Transport;
    use loadgen::units::parse_idle;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const WORK: Work = Work {
        workload: Workload::Echo,
        payload_bytes: 64,
    };
    /// More than all receive buffers of the server together, on each connection.
    const BYTES: u64 = 6 << 20;

    fn byte_at(at: u64, seed: u64) -> u8 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed as u8
    }

    /// Sends all while another thread reads late, so that the server runs into full sockets.
    fn exchange(socket: &Socket, seed: u64) {
        let sent: Vec<u8> = (0..BYTES).map(|at| byte_at(at, seed)).collect();
        let mut received = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                for chunk in sent.chunks(700 + 5000 * seed as usize) {
                    (&*socket).write_all(chunk).unwrap();
                }
                socket.shutdown(Shutdown::Write).unwrap();
            });
            thread::sleep(Duration::from_millis(50));
            (&*socket).read_to_end(&mut received).unwrap();
        });
        assert!(received == sent, "the echo differs");
    }

    /// Runs a server on a thread while `drive` uses it.
    fn serve<T>(
        peer: &'static dyn Peer,
        address: &Address,
        idle: Idle,
        work: Work,
        drive: impl FnOnce(&Address) -> T,
    ) -> T {
        let (stop, stopper) = rustix::pipe::pipe().unwrap();
        let (listening, bound) = mpsc::channel();
        thread::scope(|scope| {
            let server = scope.spawn(move || {
                let task = Task {
                    address,
                    idle,
                    work,
                    cpus: 1,
                    stop: stop.as_fd(),
                };
                peer.serve(&task, &mut |bound| {
                    listening.send(bound.clone()).map_err(io::Error::other)
                })
            });
            let driven = drive(&bound.recv().unwrap());
            drop(stopper);
            server.join().unwrap().unwrap();
            driven
        })
    }

    fn echoes_exactly(peer: &'static dyn Peer, idle: Idle) {
        let any = "tcp://127.0.0.1:0".parse().unwrap();
        serve(peer, &any, idle, WORK, |bound| {
            thread::scope(|scope| {
                for seed in 0..6 {
                    let socket = bound.connect().unwrap();
                    scope.spawn(move || exchange(&socket, seed));
                }
            });
        });
    }

    /// Each through its own client, on each kind of socket: clients check the answers.
    #[test]
    fn every_peer_does_what_it_offers() {
        let mut client = Client::new();
        for peer in ALL {
            for transport in [Transport::Tcp, Transport::Unix] {
                for workload in [
                    Workload::Echo,
                    Workload::Order,
                    Workload::Get,
                    Workload::Put,
                ] {
                    let plan = Plan {
                        cell: "2x3".parse().unwrap(),
                        work: Work { workload, ..WORK },
                        arrivals: Arrivals::Closed,
                        warm_up: Duration::from_millis(5),
                        measured: Duration::from_millis(50),
                    };
                    let point = Point {
                        work: plan.work,
                        transport,
                        cell: plan.cell,
                    };
                    if !peer.takes_part(&point) {
                        continue;
                    }
                    let address = transport.fresh();
                    let outcome = serve(peer, &address, Idle::Park, plan.work, |bound| {
                        let usage = || CpuUsage::now(std::process::id(), None);
                        match peer.caller() {
                            Caller::Frames(frames) => client.run(&plan, frames, bound, &usage),
                            Caller::Own(own) => own.run(&plan, bound, &usage),
                        }
                    });
                    let calls = outcome.map(|outcome| outcome.calls);
                    assert!(
                        matches!(calls, Ok(1..)),
                        "{} {point}: {calls:?}",
                        peer.name()
                    );
                }
            }
        }
    }

    #[test]
    fn only_peers_with_a_client_of_their_own_are_called_in_an_open_loop() {
        let refused = |name| find_with_own_client(name).err().unwrap_or_default();
        assert_eq!(refused("tonic"), "");
        assert!(refused("raw").contains("ringcall-tokio, tarpc, tonic"));
        assert!(refused("rwa").contains("no peer is called `rwa`"));
    }

    #[test]
    fn echo_servers_return_every_byte() {
        for idle in ["park", "spin", "spin:50us"] {
            echoes_exactly(&raw::Raw, parse_idle(idle).unwrap());
            echoes_exactly(&raw_epoll::RawEpoll, parse_idle(idle).unwrap());
        }
        echoes_exactly(&glommio::Glommio, Idle::Park);
    }
}
