//! Sockets and what is on its way between them.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use fastrand::Rng;

use super::faults::Faults;
use super::trace::Trace;

/// What happens at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Bytes arrive at a socket.
    Bytes { to: usize, bytes: Vec<u8> },
    /// The peer of a socket has closed its sending side.
    End { to: usize },
    /// The connection of a socket breaks.
    Break { to: usize },
    /// A request to connect arrives.
    Knock { from: usize, at: SocketAddr },
    /// Whoever connected hears how that went.
    Answer { to: usize, error: Option<i32> },
    /// A node's kernel looks at its operations again.
    Look { node: usize },
    /// A node runs.
    Run { node: usize },
    /// The world decides what happens to it.
    Fate,
}

/// All sockets, and all that is on its way.
#[derive(Debug)]
pub(super) struct Network {
    /// Shared with the clocks of all shards.
    pub(super) now_ns: Rc<Cell<u64>>,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    pub(super) sockets: Vec<Option<Endpoint>>,
    listeners: BTreeMap<SocketAddr, usize>,
    /// Nodes whose operations may go on.
    pub(super) touched: Vec<usize>,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) node: usize,
    pub(super) kind: EndpointKind,
}

#[derive(Debug)]
pub(super) enum EndpointKind {
    /// Made, and not connected yet.
    Fresh,
    /// Connections that were not accepted yet.
    Listener(VecDeque<usize>, SocketAddr),
    Stream(Stream),
}

/// One end of a connection.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// `None` when that is closed.
    pub(super) peer: Option<usize>,
    pub(super) received: VecDeque<u8>,
    /// Bytes on their way to it.
    in_flight: usize,
    /// Whether whoever asked for it knows of it.
    pub(super) is_answered: bool,
    /// Whether the end lies behind what was received.
    pub(super) has_ended: bool,
    /// Why it is broken, until that was told.
    pub(super) error: Option<i32>,
    pub(super) is_broken: bool,
    /// Whether its sending side is closed.
    pub(super) is_shut: bool,
    /// When what was sent last arrives at the peer.
    last_due_ns: u64,
}

const BACKLOG_MAX: usize = 16;

pub(super) type SharedNetwork = Rc<RefCell<Network>>;

impl Network {
    pub(super) fn new(mut rng: Rng) -> SharedNetwork {
        let faults = Faults::drawn(&mut rng);
        Rc::new(RefCell::new(Self {
            now_ns: Rc::new(Cell::new(1_000_000)),
            rng,
            faults,
            trace: Trace::default(),
            events: BinaryHeap::new(),
            event_count: 0,
            sockets: Vec::new(),
            listeners: BTreeMap::new(),
            touched: Vec::new(),
        }))
    }

    pub(super) fn now(&self) -> u64 {
        self.now_ns.get()
    }

    pub(super) fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.f64() < chance
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now_ns.get(), what);
    }

    /// Has something happen later.
    pub(super) fn at(&mut self, due_ns: u64, event: Event) {
        self.event_count += 1;
        let due_ns = due_ns.max(self.now());
        self.events.push(Reverse((due_ns, self.event_count, event)));
    }

    /// Moves the time on to the next event.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        let Reverse((due_ns, _, event)) = self.events.pop()?;
        self.now_ns.set(due_ns);
        Some(event)
    }

    fn latency(&mut self) -> u64 {
        let (least, most) = self.faults.latency_ns;
        self.rng.u64(least..=most)
    }

    /// As many of so many bytes as an operation moves at once.
    pub(super) fn cut(&mut self, bytes: usize) -> usize {
        let cut = self.faults.cut;
        if bytes > 1 && self.chance(cut) {
            let most = self.faults.cut_bytes_max.min(bytes);
            self.rng.usize(1..=most)
        } else {
            bytes
        }
    }

    fn add(&mut self, node: usize, kind: EndpointKind) -> usize {
        self.sockets.push(Some(Endpoint { node, kind }));
        self.sockets.len() - 1
    }

    /// A socket that is not connected.
    pub(super) fn open(&mut self, node: usize) -> usize {
        self.add(node, EndpointKind::Fresh)
    }

    /// A socket on which connections arrive.
    pub(super) fn listen(&mut self, node: usize, address: SocketAddr) -> usize {
        let id = self.add(node, EndpointKind::Listener(VecDeque::new(), address));
        assert!(
            self.listeners.insert(address, id).is_none(),
            "an address has one listener"
        );
        id
    }

    pub(super) fn stream(&mut self, id: usize) -> Option<&mut Stream> {
        match &mut self.sockets[id].as_mut()?.kind {
            EndpointKind::Stream(stream) => Some(stream),
            EndpointKind::Fresh | EndpointKind::Listener(..) => None,
        }
    }

    /// Says that a peer has read, so that there is room for more.
    pub(super) fn touch_peer(&mut self, peer: Option<usize>) {
        if let Some(peer) = peer {
            self.touch(peer);
        }
    }

    fn touch(&mut self, id: usize) {
        if let Some(endpoint) = &self.sockets[id] {
            let node = endpoint.node;
            if !self.touched.contains(&node) {
                self.touched.push(node);
            }
        }
    }

    /// Asks for a connection.
    pub(super) fn connect(&mut self, from: usize, at: SocketAddr) {
        let due_ns = self.now() + self.latency();
        self.at(due_ns, Event::Knock { from, at });
    }

    /// Sends as much as the peer takes; `Err` is an error of the system.
    pub(super) fn send<'a>(
        &mut self,
        id: usize,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<usize, i32> {
        let all: usize = parts.clone().map(<[u8]>::len).sum();
        let Some(stream) = self.stream(id) else {
            return Err(libc::ENOTCONN);
        };
        if let Some(error) = stream.error.take() {
            return Err(error);
        }
        if stream.is_broken || stream.is_shut {
            return Err(libc::EPIPE);
        }
        let (peer, last_due_ns) = (stream.peer, stream.last_due_ns);
        let Some(peer) = peer else {
            // What comes back says that nobody is there.
            let due_ns = self.now() + self.latency();
            self.at(due_ns, Event::Break { to: id });
            return Ok(all);
        };
        let window = self.faults.window_bytes;
        let taken = self
            .stream(peer)
            .map_or(0, |peer| peer.received.len() + peer.in_flight);
        let room = window.saturating_sub(taken).min(all);
        let count = if room == 0 { 0 } else { self.cut(room) };
        if count > 0 {
            let due_ns = (self.now() + self.latency()).max(last_due_ns);
            if let Some(peer) = self.stream(peer) {
                peer.in_flight += count;
            }
            if let Some(stream) = self.stream(id) {
                stream.last_due_ns = due_ns;
            }
            let mut bytes = Vec::with_capacity(count);
            for part in parts {
                let left = count - bytes.len();
                bytes.extend_from_slice(&part[..left.min(part.len())]);
            }
            self.at(due_ns, Event::Bytes { to: peer, bytes });
        }
        Ok(count)
    }

    /// Closes the sending side.
    pub(super) fn shut_down(&mut self, id: usize) {
        let now_ns = self.now();
        let latency_ns = self.latency();
        let Some(stream) = self.stream(id) else {
            return;
        };
        if std::mem::replace(&mut stream.is_shut, true) {
            return;
        }
        let (peer, due_ns) = (stream.peer, stream.last_due_ns.max(now_ns + latency_ns));
        stream.last_due_ns = due_ns;
        if let Some(to) = peer {
            self.at(due_ns, Event::End { to });
        }
    }

    /// Closes a socket. What it has not read breaks its connection, as with TCP.
    pub(super) fn close(&mut self, id: usize) {
        let has_unread = self.stream(id).is_some_and(|it| !it.received.is_empty());
        if !has_unread {
            self.shut_down(id);
        }
        let endpoint = self.sockets[id].take().expect("closed once");
        match endpoint.kind {
            EndpointKind::Fresh => (),
            EndpointKind::Listener(waiting, address) => {
                self.listeners.remove(&address);
                for waiting in waiting {
                    self.break_off(waiting);
                    self.sockets[waiting] = None;
                }
            }
            EndpointKind::Stream(stream) => {
                let Some(peer) = stream.peer else {
                    return;
                };
                let now_ns = self.now();
                if let Some(far) = self.stream(peer) {
                    far.peer = None;
                }
                if has_unread {
                    let due_ns = stream.last_due_ns.max(now_ns + self.latency());
                    self.at(due_ns, Event::Break { to: peer });
                }
                self.touch(peer);
            }
        }
    }

    /// Breaks a connection at both ends.
    pub(super) fn break_off(&mut self, id: usize) {
        let peer = self.stream(id).and_then(|stream| stream.peer);
        self.broken(id);
        if let Some(peer) = peer {
            self.broken(peer);
        }
    }

    fn broken(&mut self, id: usize) {
        if let Some(stream) = self.stream(id) {
            stream.error = Some(libc::ECONNRESET);
            stream.is_broken = true;
            stream.received.clear();
            stream.peer = None;
            self.touch(id);
        }
    }

    /// A connection that waits at a listener.
    pub(super) fn accept(&mut self, listener: usize) -> Option<usize> {
        match &mut self.sockets[listener].as_mut()?.kind {
            EndpointKind::Listener(waiting, _) => waiting.pop_front(),
            EndpointKind::Fresh | EndpointKind::Stream(_) => None,
        }
    }

    /// Lets something happen that concerns sockets.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Bytes { to, bytes } => {
                if let Some(stream) = self.stream(to) {
                    stream.in_flight -= bytes.len();
                    if !stream.is_broken {
                        stream.received.extend(&bytes);
                        self.note(format_args!("{} bytes at socket {to}", bytes.len()));
                        self.touch(to);
                    }
                }
            }
            Event::End { to } => {
                if let Some(stream) = self.stream(to) {
                    stream.has_ended = true;
                    self.note(format_args!("the end at socket {to}"));
                    self.touch(to);
                }
            }
            Event::Break { to } => {
                self.note(format_args!("socket {to} breaks"));
                self.broken(to);
            }
            Event::Knock { from, at } => self.knock(from, at),
            Event::Answer { to, error } => {
                let Some(endpoint) = &mut self.sockets[to] else {
                    return;
                };
                match &mut endpoint.kind {
                    EndpointKind::Stream(stream) => stream.is_answered = true,
                    other => {
                        *other = EndpointKind::Stream(Stream {
                            error,
                            is_broken: true,
                            is_answered: true,
                            ..Stream::default()
                        });
                    }
                }
                self.touch(to);
            }
            Event::Look { .. } | Event::Run { .. } | Event::Fate => {
                unreachable!("no matter of sockets")
            }
        }
    }

    fn knock(&mut self, from: usize, at: SocketAddr) {
        let (refused, swallowed) = (self.faults.refused, self.faults.swallowed);
        if self.chance(swallowed) {
            return self.note(format_args!("nobody hears socket {from}"));
        }
        let due_ns = self.now() + self.latency();
        let listener = self.listeners.get(&at).copied();
        let has_room = listener.is_some_and(|id| {
            matches!(&self.sockets[id], Some(Endpoint { kind: EndpointKind::Listener(waiting, _), .. })
                if waiting.len() < BACKLOG_MAX)
        });
        let is_there = self.sockets[from].is_some();
        let listener = listener.filter(|_| has_room && is_there);
        let (Some(listener), false) = (listener, self.chance(refused)) else {
            self.note(format_args!("socket {from} is refused"));
            let error = Some(libc::ECONNREFUSED);
            return self.at(due_ns, Event::Answer { to: from, error });
        };
        let node = self.sockets[listener].as_ref().expect("found above").node;
        let near = self.add(
            node,
            EndpointKind::Stream(Stream {
                peer: Some(from),
                is_answered: true,
                ..Stream::default()
            }),
        );
        self.sockets[from].as_mut().expect("found above").kind = EndpointKind::Stream(Stream {
            peer: Some(near),
            last_due_ns: due_ns,
            ..Stream::default()
        });
        if let Some(Endpoint {
            kind: EndpointKind::Listener(waiting, _),
            ..
        }) = &mut self.sockets[listener]
        {
            waiting.push_back(near);
        }
        self.note(format_args!("socket {from} reaches {near} at {at}"));
        self.touch(listener);
        self.at(
            due_ns,
            Event::Answer {
                to: from,
                error: None,
            },
        );
    }
}
