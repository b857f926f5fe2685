//! A node's system: operations that complete when the network and the seed let them.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use io_uring::types::Timespec;

use super::network::{Event, SharedNetwork};
use crate::buf::{RecvPool, TakenBuffer};
use crate::client::core::target::Target;
use crate::client::unread::Unread;
use crate::connection::outgoing::Outgoing;
use crate::engine::uring::kernel::{Completion, Kernel};
use crate::engine::uring::operation::{OpKey, Operation, Operations, Vectors};
use crate::net::options::StreamOptions;
use crate::net::transport::Transport;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;

/// A socket of the simulated network.
#[derive(Debug)]
pub(in crate::engine) struct SimSocket {
    network: SharedNetwork,
    id: usize,
}

impl SimSocket {
    pub(super) fn new(network: &SharedNetwork, id: usize) -> Self {
        Self {
            network: Rc::clone(network),
            id,
        }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.network.borrow_mut().close(self.id);
    }
}

/// An operation that has not ended.
#[derive(Debug)]
struct Pending {
    key: OpKey,
    what: What,
    /// The kernel does not look at it before this time.
    not_before_ns: u64,
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug)]
enum What {
    Accept { listener: usize },
    Receive { socket: usize, is_multishot: bool },
    Direct { socket: usize },
    Send { socket: usize },
    Watch { socket: usize },
    Connect { socket: usize },
    Timeout { due_ns: u64 },
    Cancel { victim: OpKey },
}

/// A completion that was not handed out.
#[derive(Debug)]
struct Ready {
    key: OpKey,
    result: Result<u32, i32>,
    buffer: Option<TakenBuffer>,
    is_last: bool,
}

/// The system of one node.
pub(in crate::engine) struct SimKernel {
    network: SharedNetwork,
    node: usize,
    pool: Rc<RecvPool>,
    operations: Operations<SimSocket>,
    /// Started, but not submitted.
    started: Vec<Pending>,
    pending: Vec<Pending>,
    ready: VecDeque<Ready>,
    batch: Vec<Option<Ready>>,
    /// Receive buffers that the kernel has, and how much of each it may fill.
    buffers: VecDeque<(TakenBuffer, usize)>,
    /// As many as it gets.
    buffers_max: usize,
}

/// Bytes of a receive while memory is short.
const SHORT_BYTES: usize = 4096;

impl SimKernel {
    pub(super) fn new(network: &SharedNetwork, node: usize, pool: Rc<RecvPool>) -> Self {
        let buffers_max = network.borrow_mut().rng.usize(1..=pool.count());
        Self {
            network: Rc::clone(network),
            node,
            pool,
            operations: Operations::default(),
            started: Vec::new(),
            pending: Vec::new(),
            ready: VecDeque::new(),
            batch: Vec::new(),
            buffers: VecDeque::new(),
            buffers_max,
        }
    }

    /// Buffers that are neither free nor held by a chunk.
    pub(super) fn buffer_count(&self) -> usize {
        let filled = self.ready.iter().filter(|it| it.buffer.is_some()).count();
        self.buffers.len() + filled
    }

    /// Number of operations that have not ended, but for those of listeners and the wake-up for timers.
    pub(super) fn socket_operations(&self) -> usize {
        let all = self.pending.iter().chain(&self.started);
        all.filter(|it| !matches!(it.what, What::Accept { .. } | What::Timeout { .. }))
            .count()
    }

    /// Whether there is something to hand out.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn push(&mut self, key: OpKey, what: What) {
        let mut network = self.network.borrow_mut();
        let (now_ns, slow) = (network.now(), network.faults.slow_operation);
        let is_slow = network.chance(slow);
        let mut not_before_ns = now_ns;
        if is_slow {
            not_before_ns += network.rng.u64(1_000..500_000);
            network.at(not_before_ns, Event::Look { node: self.node });
        }
        if let What::Timeout { due_ns } = what {
            network.at(due_ns, Event::Look { node: self.node });
        }
        self.started.push(Pending {
            key,
            what,
            not_before_ns,
        });
    }

    fn complete(&mut self, key: OpKey, result: Result<u32, i32>, is_last: bool) {
        self.ready.push_back(Ready {
            key,
            result,
            buffer: None,
            is_last,
        });
    }

    /// Looks at each operation, in any order, and completes what can be.
    pub(super) fn progress(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        self.network.borrow_mut().rng.shuffle(&mut pending);
        let now_ns = self.network.borrow().now();
        let mut cancelled = Vec::new();
        pending.retain(|it| {
            if it.not_before_ns > now_ns {
                return true;
            }
            match it.what {
                What::Cancel { victim } => {
                    cancelled.push(victim);
                    self.complete(it.key, Ok(0), true);
                    false
                }
                what => !self.look(it.key, what),
            }
        });
        for victim in cancelled {
            if let Some(at) = pending.iter().position(|it| it.key == victim) {
                pending.remove(at);
                self.complete(victim, Err(libc::ECANCELED), true);
            }
        }
        self.pending = pending;
    }

    /// Completes an operation as far as that can be. Says whether it has ended.
    fn look(&mut self, key: OpKey, what: What) -> bool {
        match what {
            What::Accept { listener } => self.accept(key, listener),
            What::Receive {
                socket,
                is_multishot,
            } => self.receive(key, socket, is_multishot),
            What::Direct { socket } => self.receive_direct(key, socket),
            What::Send { socket } => self.send(key, socket),
            What::Watch { socket } => {
                let mut network = self.network.borrow_mut();
                let is_broken = network.stream(socket).is_none_or(|it| it.is_broken);
                drop(network);
                if is_broken {
                    self.complete(key, Ok((libc::POLLERR | libc::POLLHUP) as u32), true);
                }
                is_broken
            }
            What::Connect { socket } => {
                let mut network = self.network.borrow_mut();
                let Some(stream) = network.stream(socket).filter(|it| it.is_answered) else {
                    return false;
                };
                let result = stream.error.take().map_or(Ok(0), Err);
                drop(network);
                self.complete(key, result, true);
                true
            }
            What::Timeout { due_ns } => {
                let is_due = self.network.borrow().now() >= due_ns;
                if is_due {
                    self.complete(key, Err(libc::ETIME), true);
                }
                is_due
            }
            What::Cancel { .. } => unreachable!("handled by the caller"),
        }
    }

    fn accept(&mut self, key: OpKey, listener: usize) -> bool {
        loop {
            let mut network = self.network.borrow_mut();
            let (fails, ends) = (network.faults.accept_fails, network.faults.multishot_ends);
            let Some(accepted) = network.accept(listener) else {
                return false;
            };
            if network.chance(fails) {
                // The connection stays where it was, in truth; here whoever made it tries again.
                network.break_off(accepted);
                network.sockets[accepted] = None;
                drop(network);
                self.complete(key, Err(libc::EMFILE), true);
                return true;
            }
            let is_last = network.chance(ends);
            drop(network);
            self.complete(key, Ok(accepted as u32), is_last);
            if is_last {
                return true;
            }
        }
    }

    fn receive(&mut self, key: OpKey, socket: usize, is_multishot: bool) -> bool {
        loop {
            let mut network = self.network.borrow_mut();
            let (no_buffer, ends) = (network.faults.no_buffer, network.faults.multishot_ends);
            let is_starved = self.buffers.is_empty() || network.chance(no_buffer);
            let is_last = !is_multishot || network.chance(ends);
            let Some(stream) = network.stream(socket) else {
                drop(network);
                self.complete(key, Err(libc::ENOTCONN), true);
                return true;
            };
            let end = match (stream.error.take(), stream.received.is_empty()) {
                (Some(error), _) => Some(Err(error)),
                (None, false) if is_starved => Some(Err(libc::ENOBUFS)),
                (None, false) => None,
                (None, true) if stream.is_broken => Some(Err(libc::ECONNRESET)),
                (None, true) if stream.has_ended => Some(Ok(0)),
                (None, true) => return false,
            };
            if let Some(result) = end {
                drop(network);
                self.complete(key, result, true);
                return true;
            }
            let (lying, peer) = (stream.received.len(), stream.peer);
            let (mut buffer, room) = self.buffers.pop_front().expect("not starved");
            let bytes = network.cut(lying.min(room));
            let stream = network.stream(socket).expect("found above");
            for (to, from) in self.pool.memory(&mut buffer)[..bytes]
                .iter_mut()
                .zip(stream.received.drain(..bytes))
            {
                *to = from;
            }
            network.touch_peer(peer);
            drop(network);
            self.ready.push_back(Ready {
                key,
                result: Ok(bytes as u32),
                buffer: Some(buffer),
                is_last,
            });
            if is_last {
                return true;
            }
        }
    }

    fn receive_direct(&mut self, key: OpKey, socket: usize) -> bool {
        let mut network = self.network.borrow_mut();
        let Some(stream) = network.stream(socket) else {
            drop(network);
            self.complete(key, Err(libc::ENOTCONN), true);
            return true;
        };
        let result = match (stream.error.take(), stream.received.is_empty()) {
            (Some(error), _) => Err(error),
            (None, true) if stream.is_broken => Err(libc::ECONNRESET),
            (None, true) if stream.has_ended => Ok(0),
            (None, true) => return false,
            (None, false) => {
                let (lying, peer) = (stream.received.len(), stream.peer);
                let Operation::ReceiveDirect { body, .. } = self.operations.get(key) else {
                    unreachable!("started as such")
                };
                let memory = body.unfilled();
                let bytes = network.cut(lying.min(memory.len()));
                let stream = network.stream(socket).expect("found above");
                for (to, from) in memory[..bytes]
                    .iter_mut()
                    .zip(stream.received.drain(..bytes))
                {
                    *to = from;
                }
                network.touch_peer(peer);
                Ok(bytes as u32)
            }
        };
        drop(network);
        self.complete(key, result, true);
        true
    }

    fn send(&mut self, key: OpKey, socket: usize) -> bool {
        let Operation::Send { message, .. } = self.operations.get(key) else {
            unreachable!("started as such")
        };
        let result = self.network.borrow_mut().send(socket, message.unsent());
        if result == Ok(0) && message.unsent_bytes() > 0 {
            return false;
        }
        self.complete(key, result.map(|bytes| bytes as u32), true);
        true
    }
}

impl Kernel for SimKernel {
    type Socket = SimSocket;

    fn start(&mut self, socket: &Rc<SimSocket>, operation: Operation) -> io::Result<OpKey> {
        let id = socket.id;
        let what = match &operation {
            Operation::Accept { .. } | Operation::Poll { .. } => What::Accept { listener: id },
            Operation::Receive { is_multishot, .. } => What::Receive {
                socket: id,
                is_multishot: *is_multishot,
            },
            Operation::ReceiveDirect { .. } => What::Direct { socket: id },
            Operation::Send { .. } => What::Send { socket: id },
            Operation::Watch { .. } => What::Watch { socket: id },
            Operation::Connect { address, .. } => {
                let at = address.as_socket().expect("an address of the network");
                self.network.borrow_mut().connect(id, at);
                What::Connect { socket: id }
            }
            Operation::Timeout { .. } | Operation::Wakeup { .. } | Operation::Cancel => {
                unreachable!("no operation of a socket")
            }
        };
        let key = self.operations.insert(operation, Some(Rc::clone(socket)));
        self.push(key, what);
        Ok(key)
    }

    fn send_of(&mut self, slot: u32, message: Outgoing) -> Operation {
        Operation::Send {
            socket: slot,
            message,
            vectors: None,
        }
    }

    fn put_vectors(&mut self, vectors: Option<Box<Vectors>>) {
        assert!(vectors.is_none(), "none are needed here");
    }

    fn start_timeout(&mut self, _after_ns: u64, due_ns: u64) -> io::Result<OpKey> {
        let timeout = Operation::Timeout {
            time: Box::default(),
            due_ns,
        };
        let key = self.operations.insert(timeout, None);
        self.push(key, What::Timeout { due_ns });
        Ok(key)
    }

    fn put_time(&mut self, _time: Box<Timespec>) {}

    fn cancel(&mut self, victim: OpKey) -> io::Result<()> {
        let key = self.operations.insert(Operation::Cancel, None);
        self.push(key, What::Cancel { victim });
        Ok(())
    }

    fn has_pending(&mut self) -> bool {
        !self.started.is_empty()
    }

    fn announces_work(&self) -> bool {
        true
    }

    fn enter(&mut self) -> io::Result<()> {
        self.pending.append(&mut self.started);
        self.progress();
        Ok(())
    }

    fn fetch(&mut self) {
        self.batch.extend(self.ready.drain(..).map(Some));
    }

    fn fetched(&self) -> usize {
        self.batch.len()
    }

    fn completion(&mut self, at: usize) -> Completion {
        let ready = self.batch[at].take().expect("handed out once");
        let operation = if ready.is_last {
            self.operations.remove(ready.key)
        } else {
            self.operations.get(ready.key).continued()
        };
        self.network.borrow_mut().note(format_args!(
            "node {} {:?}",
            self.node,
            Told(&ready, &operation)
        ));
        Completion {
            operation,
            result: ready.result.map_err(io::Error::from_raw_os_error),
            buffer: ready.buffer,
            is_last: ready.is_last,
        }
    }

    fn drop_handled(&mut self, handled: usize) {
        self.batch.drain(..handled);
    }

    fn has_completions(&mut self) -> bool {
        !self.batch.is_empty() || !self.ready.is_empty()
    }

    fn was_woken(&mut self) {
        unreachable!("nobody naps here")
    }

    fn publish_buffers(&mut self, is_short: bool) {
        let bytes = self.pool.buffer_bytes();
        let room = if is_short {
            bytes.min(SHORT_BYTES)
        } else {
            bytes
        };
        while self.buffers.len() < self.buffers_max
            && let Some(buffer) = self.pool.take()
        {
            self.buffers.push_back((buffer, room));
        }
    }

    fn has_buffers(&self) -> bool {
        !self.buffers.is_empty()
    }

    fn ran_out_of_buffers(&mut self) -> bool {
        self.pool.free_count() == 0
    }

    fn open(&mut self, _target: &Target, _options: &StreamOptions) -> io::Result<SimSocket> {
        let id = self.network.borrow_mut().open(self.node);
        Ok(SimSocket::new(&self.network, id))
    }

    fn accepted(&mut self, result: u32) -> SimSocket {
        SimSocket::new(&self.network, result as usize)
    }

    fn accept_now(&mut self, listener: &SimSocket) -> io::Result<SimSocket> {
        let accepted = self.network.borrow_mut().accept(listener.id);
        let id = accepted.ok_or(io::ErrorKind::WouldBlock)?;
        Ok(SimSocket::new(&self.network, id))
    }

    fn admit(
        &self,
        shard: &Rc<ShardCore>,
        _options: &StreamOptions,
        transport: Transport,
        socket: &SimSocket,
    ) -> Option<Rc<Conn>> {
        shard.accept(format!("socket {}", socket.id).into(), transport)
    }

    fn refuse_itself(&self, _socket: &SimSocket) -> io::Result<()> {
        Ok(())
    }

    fn look(&self, socket: &SimSocket) -> Unread {
        let mut network = self.network.borrow_mut();
        match network.stream(socket.id) {
            None => Unread::Broken(io::Error::from_raw_os_error(libc::ENOTCONN)),
            Some(stream) => match (stream.error.take(), stream.received.is_empty()) {
                (Some(error), _) => Unread::Broken(io::Error::from_raw_os_error(error)),
                (None, false) => Unread::Bytes,
                (None, true) if stream.is_broken || stream.has_ended => Unread::End,
                (None, true) => Unread::Nothing,
            },
        }
    }

    fn take_error(&self, socket: &SimSocket) -> Option<io::Error> {
        let error = self.network.borrow_mut().stream(socket.id)?.error.take();
        error.map(io::Error::from_raw_os_error)
    }

    fn shut_down_writing(&self, socket: &SimSocket) {
        self.network.borrow_mut().shut_down(socket.id);
    }
}

/// What a completion says, for the story.
struct Told<'a>(&'a Ready, &'a Operation);

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(ready, operation) = self;
        let (name, socket) = match operation {
            Operation::Accept { listener } | Operation::Poll { listener } => ("accept", *listener),
            Operation::Receive { socket, .. } => ("receive", *socket),
            Operation::ReceiveDirect { socket, .. } => ("receive into place", *socket),
            Operation::Send { socket, .. } => ("send", *socket),
            Operation::Watch { socket } => ("watch", *socket),
            Operation::Connect { socket, .. } => ("connect", *socket),
            Operation::Timeout { .. } => return f.write_str("wakes by its timer"),
            Operation::Wakeup { .. } | Operation::Cancel => return f.write_str("end of a cancel"),
        };
        let more = if ready.is_last { "" } else { ", more to come" };
        write!(f, "{name} {socket}: {:?}{more}", ready.result)
    }
}
