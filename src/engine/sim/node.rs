//! A node: one shard with its engine, which runs, stands still, dies and comes back.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::kernel::{SimKernel, SimSocket};
use super::network::SharedNetwork;
use crate::engine::uring::Engine;
use crate::engine::{EngineConfig, Idle, Listener};
use crate::net::options::StreamOptions;
use crate::shard::context::{Shard, TimeSource};
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::service::Service;
use crate::shard::{Place, ShardConfig, ShardCore};

/// Makes the services of a node, each time that it starts.
pub(super) type Factory = Rc<dyn Fn(&Shard) -> Vec<Box<dyn Service>>>;

/// A shard of the simulation.
pub(super) struct Node {
    pub(super) id: usize,
    pub(super) address: Option<SocketAddr>,
    config: ShardConfig,
    factory: Factory,
    /// Whether nothing holds anybody up.
    is_calm: bool,
    /// `None` while it is down.
    pub(super) life: Option<Life>,
    /// Until then it does not run: its last turn takes so long, or somebody has stopped it.
    pub(super) busy_until_ns: u64,
    /// Whether it will run.
    pub(super) is_scheduled: bool,
    /// When it comes back.
    pub(super) down_until_ns: Option<u64>,
}

/// What ends when a node dies.
pub(super) struct Life {
    pub(super) engine: Engine<SimKernel>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Node {
    pub(super) fn new(
        id: usize,
        address: Option<SocketAddr>,
        config: ShardConfig,
        factory: Factory,
        is_calm: bool,
    ) -> Self {
        Self {
            id,
            address,
            config,
            factory,
            is_calm,
            life: None,
            busy_until_ns: 0,
            is_scheduled: false,
            down_until_ns: None,
        }
    }

    /// Starts it.
    pub(super) fn start(&mut self, network: &SharedNetwork) {
        let mailbox = Mailbox::new(true).expect("a descriptor for the mailbox");
        // Each node is a server, or a client, of one shard.
        let place = Place {
            id: 0,
            count: 1,
            cpu: None,
            serves: self.address.is_some(),
        };
        let now_ns = Rc::clone(&network.borrow().now_ns);
        // Its own, and another one each time that it starts.
        let random = network.borrow_mut().rng.fork();
        let shard = ShardCore::new(
            place,
            self.config.clone(),
            Arc::new(Counters::default()),
            Arc::clone(&mailbox),
            TimeSource::Simulated(now_ns),
            random,
        )
        .expect("memory for a few buffers");
        shard.begin_turn();
        let factory = Rc::clone(&self.factory);
        shard
            .make_services(|shard| Ok(factory(shard)))
            .expect("the services fit together");
        let listeners = self.address.map(|address| {
            let id = network.borrow_mut().listen(self.id, address);
            Listener {
                fd: SimSocket::new(network, id),
                sharers: None,
            }
        });
        let kernel = SimKernel::new(network, self.id, Rc::clone(&shard.pool));
        let config = EngineConfig {
            idle: Idle::Park,
            stream: StreamOptions::default(),
        };
        let engine = Engine::of(shard, kernel, &config, listeners.into_iter().collect());
        self.life = Some(Life { engine, mailbox });
        self.down_until_ns = None;
    }

    /// Ends it at once, as when its process is killed: the system closes its sockets.
    pub(super) fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            let Life { engine, .. } = life;
            engine.shard().finish();
            drop(engine);
        }
    }

    /// What must always hold.
    pub(super) fn check(&self) -> Result<(), String> {
        let Some(Life { engine, .. }) = &self.life else {
            return Ok(());
        };
        let pool = &engine.shard().pool;
        let with_kernel = engine.kernel().buffer_count();
        let (free, held) = (pool.free_count(), pool.held_count());
        if free + held + with_kernel != pool.count() {
            return Err(format!(
                "node {}: of {} receive buffers {free} are free, {held} held and {with_kernel} with the kernel",
                self.id,
                pool.count()
            ));
        }
        let checked = engine.shard().check(self.is_calm);
        checked.map_err(|why| format!("node {}: {why}", self.id))
    }

    /// What must hold when all is quiet: nothing is left of what has been.
    pub(super) fn check_quiet(&self) -> Result<(), String> {
        self.check()?;
        let Some(Life { engine, .. }) = &self.life else {
            return Ok(());
        };
        let operations = engine.kernel().socket_operations();
        if operations > 0 {
            return Err(format!(
                "node {}: {operations} operations are left",
                self.id
            ));
        }
        let checked = engine.shard().check_quiet();
        checked.map_err(|why| format!("node {}: {why}", self.id))
    }
}
