//! One shard: everything that lives on one CPU, whatever engine moves the bytes.
//!
//! The engine calls, in every turn: [`ShardCore::begin_turn`], then [`ShardCore::receive`] and its
//! kind for what has arrived, then [`ShardCore::run_due`], and last it looks at each connection of
//! [`ShardCore::pop_attention`]: send what is queued, start or stop receiving, or close.

mod answer;
mod body_wait;
pub(crate) mod call_info;
#[cfg(feature = "simulation")]
mod check;
pub(crate) mod conn;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod dispatch;
mod future_cell;
pub(crate) mod handler;
pub(crate) mod hook;
mod lifecycle;
pub(crate) mod local_call;
pub(crate) mod local_client;
mod local_link;
pub(crate) mod mailbox;
mod memory;
mod overdraft;
mod purpose;
mod running;
pub(crate) mod service;
pub(crate) mod tasks;
pub(crate) mod timers;
mod turn;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use self::conn::{Conn, ConnKey};
use self::context::{Clock, Shard, TimeSource};
use self::counters::Counters;
use self::local_link::LocalLink;
use self::mailbox::Mailbox;
use self::memory::Memory;
use self::overdraft::Overdraft;
use self::service::{Service, ServiceTable};
use self::tasks::Tasks;
use self::timers::Timers;
use self::turn::Turn;
use crate::buf::RecvPool;
use crate::client::core::target::Target;
use crate::connection::Role;
use crate::connection::server::ServerConnection;
use crate::connection::spare_buffers::SpareBuffers;
use crate::net::transport::Transport;
use crate::panics;
use crate::wire::handshake::ShardIndex;
use crate::wire::limits::Limits;

/// Where a shard stands among the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: usize,
    pub(crate) count: usize,
    pub(crate) cpu: Option<usize>,
    /// Whether it has services; that of a local runtime has none.
    pub(crate) serves: bool,
}

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct ShardConfig {
    pub(crate) limits: Arc<Limits>,
    /// Connections that one shard accepts.
    pub(crate) connections_max: usize,
    /// Receive buffers of one shard.
    pub(crate) recv_buffers: u16,
    /// Bytes of each receive buffer.
    pub(crate) recv_buffer_bytes: usize,
    /// What peers may make it hold; see [`memory`].
    pub(crate) memory_bytes: usize,
    /// Time that calls in flight have when the server shuts down.
    pub(crate) drain_timeout: Duration,
}

/// The state of one shard. It never leaves its thread.
#[derive(Debug)]
pub(crate) struct ShardCore {
    pub(crate) place: Place,
    pub(crate) config: ShardConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) pool: Rc<RecvPool>,
    /// What its peers make it hold, and those that wait for room.
    memory: Memory,
    turn: Turn,
    overdraft: Overdraft,
    /// When a body that waited was granted memory last.
    body_granted_ns: Cell<u64>,
    pub(crate) clock: Clock,
    random: RefCell<Rng>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) tasks: Tasks,
    /// Set once, after the factory has run: services may use the shard while they are made.
    pub(crate) services: OnceCell<ServiceTable>,
    conns: RefCell<ConnTable>,
    attention: RefCell<Vec<Rc<Conn>>>,
    /// Connections of shard-local clients that the engine has to make.
    pub(crate) connects: RefCell<Vec<(Rc<Conn>, Target)>>,
    pub(crate) spare_buffers: SpareBuffers,
    /// Set when the shard drains: when it must be over.
    drain_until_ns: Cell<Option<u64>>,
}

#[derive(Debug, Default)]
struct ConnTable {
    slots: Vec<(u32, Option<Rc<Conn>>)>,
    free: Vec<u32>,
    /// Accepted connections, which count against the maximum; those of local clients don't.
    accepted: usize,
}

/// When fewer receive buffers than this share are left, what waits is copied out of them.
const LOW_WATER_DIVISOR: usize = 4;

impl ShardCore {
    /// A shard without services yet. `None`: there is no memory for its receive buffers.
    pub(crate) fn new(
        place: Place,
        config: ShardConfig,
        counters: Arc<Counters>,
        mailbox: Arc<Mailbox>,
        time: TimeSource,
        random: Rng,
    ) -> Option<Rc<Self>> {
        let (count, bytes) = (config.recv_buffers, config.recv_buffer_bytes);
        let pool = RecvPool::try_new(count, bytes)?;
        Some(Rc::new(Self {
            place,
            memory: Memory::new(&config),
            turn: Turn::default(),
            overdraft: Overdraft::default(),
            body_granted_ns: Cell::new(0),
            config,
            pool,
            clock: Clock::new(time),
            random: RefCell::new(random),
            timers: RefCell::new(Timers::new()),
            tasks: Tasks::new(Arc::clone(&mailbox), Arc::clone(&counters)),
            counters,
            mailbox,
            services: OnceCell::new(),
            conns: RefCell::default(),
            attention: RefCell::default(),
            connects: RefCell::default(),
            spare_buffers: SpareBuffers::default(),
            drain_until_ns: Cell::new(None),
        }))
    }

    /// Makes the services, once. They may use the shard meanwhile.
    ///
    /// # Errors
    /// When the factory fails or panics, or its services don't fit together.
    pub(crate) fn make_services(
        self: &Rc<Self>,
        factory: impl FnOnce(&Shard) -> Result<Vec<Box<dyn Service>>, String>,
    ) -> Result<(), String> {
        let shard = Shard {
            core: Rc::clone(self),
        };
        let made = panics::caught(|| ServiceTable::new(factory(&shard)?));
        let made = made.unwrap_or_else(|panic| Err(format!("the factory panicked: {panic}")));
        // What the factory has spawned by then would keep the shard alive.
        let table = made.inspect_err(|_| self.finish())?;
        self.services
            .set(table)
            .map_err(|_| "services are made once".to_owned())
    }

    /// Starts a turn: reads the clock.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        self.clock.update();
        self.turn.begin(self.config.limits.write_queue_bytes_high);
        let pulse = &self.counters.pulse;
        pulse.set((pulse.get() | 1) + 2);
    }

    /// Ends a turn, before the shard sleeps.
    pub(crate) fn end_turn(&self) {
        let pulse = &self.counters.pulse;
        pulse.set(pulse.get() & !1);
        self.counters.held_bytes.set(self.memory.bytes() as u64);
    }

    /// The time of this turn.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.cached_ns()
    }

    /// The time of this turn by which peers are judged; see [`Clock`].
    #[inline]
    pub(crate) fn patience_ns(&self) -> u64 {
        self.clock.patience_ns()
    }

    /// A generator of random numbers that follows from the shard's own, and goes its own way.
    fn fork_random(&self) -> Rng {
        self.random.borrow_mut().fork()
    }

    fn real_ns(&self, patience_ns: u64) -> u64 {
        self.clock.real_ns(patience_ns)
    }

    /// Whether a timer is due, so that all sockets must be looked at before [`ShardCore::run_due`].
    #[inline]
    pub(crate) fn is_timer_due(&self) -> bool {
        self.timers.borrow().is_due(self.now_ns())
    }

    /// A connection that the engine has accepted. `None`: there are too many; it must be closed.
    pub(crate) fn accept(
        self: &Rc<Self>,
        peer: Box<str>,
        transport: Transport,
    ) -> Option<Rc<Conn>> {
        if self.conns.borrow().accepted >= self.config.connections_max {
            self.counters
                .reject(&crate::wire::violation::Violation::TooManyConnections);
            return None;
        }
        self.conns.borrow_mut().accepted += 1;
        self.counters.accepted.add(1);
        let shard_index = ShardIndex::new(self.place.id, self.place.count);
        let limits = Arc::clone(&self.config.limits);
        let server = ServerConnection::new(limits, self.patience_ns()).at(shard_index);
        let conn = self.insert(peer, transport, Role::Server(server), None);
        if self.drain_until_ns.get().is_some() {
            self.retire(&conn);
        }
        Some(conn)
    }

    fn insert(
        self: &Rc<Self>,
        peer: Box<str>,
        transport: Transport,
        role: Role,
        client: Option<LocalLink>,
    ) -> Rc<Conn> {
        let mut conns = self.conns.borrow_mut();
        let slot = conns.free.pop().unwrap_or_else(|| {
            conns.slots.push((0, None));
            conns.slots.len() as u32 - 1
        });
        let (generation, entry) = &mut conns.slots[slot as usize];
        let key = ConnKey {
            slot,
            generation: *generation,
        };
        let conn = Rc::new(Conn::new(
            Rc::clone(self),
            key,
            peer,
            transport,
            role,
            client,
        ));
        *entry = Some(Rc::clone(&conn));
        self.counters.connections.add(1);
        conn.attend();
        conn
    }

    fn find(&self, key: ConnKey) -> Option<Rc<Conn>> {
        let conns = self.conns.borrow();
        let (generation, conn) = conns.slots.get(key.slot as usize)?;
        if *generation == key.generation {
            conn.clone()
        } else {
            None
        }
    }

    fn forget(&self, conn: &Conn) {
        let mut conns = self.conns.borrow_mut();
        let (generation, entry) = &mut conns.slots[conn.key.slot as usize];
        if *generation != conn.key.generation {
            return;
        }
        *generation = generation.wrapping_add(1);
        *entry = None;
        conns.free.push(conn.key.slot);
        if conn.is_server() {
            conns.accepted -= 1;
        }
        self.counters
            .connections
            .set(self.counters.connections.get() - 1);
    }

    fn all_conns(&self) -> Vec<Rc<Conn>> {
        self.conns
            .borrow()
            .slots
            .iter()
            .filter_map(|(_, conn)| conn.clone())
            .collect()
    }

    /// Number of connections that are not closed yet.
    pub(crate) fn conn_count(&self) -> usize {
        let conns = self.conns.borrow();
        conns.slots.len() - conns.free.len()
    }

    /// The next connection that the engine must look at.
    #[inline]
    pub(crate) fn pop_attention(&self) -> Option<Rc<Conn>> {
        let conn = self.attention.borrow_mut().pop()?;
        conn.needs_attention.set(false);
        Some(conn)
    }

    /// Whether some connection needs attention.
    pub(crate) fn has_attention(&self) -> bool {
        !self.attention.borrow().is_empty()
    }

    /// Moves all connections that need attention to an empty list.
    pub(crate) fn take_attention(&self, list: &mut Vec<Rc<Conn>>) {
        std::mem::swap(list, &mut *self.attention.borrow_mut());
        for conn in list {
            conn.needs_attention.set(false);
        }
    }

    /// Whether the engine has something to do at once, so that it must not sleep.
    pub(crate) fn has_work(&self) -> bool {
        !self.attention.borrow().is_empty()
            || !self.connects.borrow().is_empty()
            || self.turn.has_next()
            || self.is_offering_room()
            || self.mailbox.has_woken()
            || (self.mailbox.must_drain() && self.drain_until_ns.get().is_none())
    }

    /// Whether so much is held for peers that little more should be received at once.
    #[inline]
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.memory.is_short()
    }

    /// Whether so few receive buffers are left that nothing that waits may hold them. At least one
    /// is always left for receiving.
    fn is_low_on_buffers(&self) -> bool {
        let low_water = (self.pool.count() / LOW_WATER_DIVISOR).max(1);
        self.pool.count() - self.pool.held_count() < low_water
    }

    /// An empty send buffer. While memory is short it is as small as what it will hold: one that is kept
    /// may have grown for much more, and stands in the account of whoever has it.
    #[inline]
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        if self.memory.is_short() {
            return Vec::new();
        }
        self.spare_buffers.take()
    }

    /// Gives a send buffer back.
    #[inline]
    pub(crate) fn put_buffer(&self, buffer: Vec<u8>) {
        self.spare_buffers.put(buffer);
    }
}
