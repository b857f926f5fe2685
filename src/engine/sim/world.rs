//! The simulation as a whole: what happens next, and to whom.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::faults::Faults;
use super::network::{Event, Network, SharedNetwork};
use super::node::{Life, Node};
use crate::shard::ShardConfig;
use crate::shard::context::Shard;
use crate::shard::service::Service;
use crate::wire::limits::Limits;

/// Names a node of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(usize);

/// A world made of a seed.
///
/// Nodes are added first; then [`Simulation::step`] lets the next thing happen, as often as wanted.
pub struct Simulation {
    network: SharedNetwork,
    nodes: Vec<Node>,
    /// Turns of the same time in a row: a shard that turns in place would go on for ever.
    turns_in_place: u32,
    last_turn_ns: u64,
    steps: u64,
    have_faults_ended: bool,
}

/// The world looks so often whether a disaster is due.
const FATE_NS: u64 = 1_000_000;
/// Between what wakes a sleeping node and its first turn.
const WAKE_NS: u64 = 2_000;
/// More turns than this within a microsecond are no progress.
const TURNS_IN_PLACE_MAX: u32 = 10_000;

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("nodes", &self.nodes.len())
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Simulation {
    /// An empty world. What its clients draw by chance is drawn from the seed as well.
    pub fn new(seed: u64) -> Self {
        let network = Network::new(Rng::with_seed(seed));
        network.borrow_mut().at(FATE_NS, Event::Fate);
        Self {
            network,
            nodes: Vec::new(),
            turns_in_place: 0,
            last_turn_ns: 0,
            steps: 0,
            have_faults_ended: false,
        }
    }

    /// Tells line by line what happens.
    pub fn tell(&mut self) {
        self.network.borrow_mut().trace.is_told = true;
    }

    /// Another generator of random numbers, drawn from the seed.
    pub fn rng(&mut self) -> Rng {
        self.network.borrow_mut().rng.fork()
    }

    /// What may go wrong.
    pub fn faults(&self) -> Faults {
        self.network.borrow().faults.clone()
    }

    /// Changes what may go wrong.
    pub fn change_faults(&mut self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.network.borrow_mut().faults);
    }

    /// Limits that a node may have: small ones are reached sooner.
    pub fn drawn_limits(&mut self) -> Limits {
        let network = &mut *self.network.borrow_mut();
        let rng = &mut network.rng;
        let defaults = Limits::default();
        let seconds = |rng: &mut Rng, most: u64| Duration::from_millis(rng.u64(500..most * 1000));
        let mut limits = Limits {
            payload_bytes_max: 1 << rng.u32(16..22),
            calls_in_flight_max: 1 << rng.u32(0..8),
            write_queue_bytes_high: 1 << rng.usize(10..19),
            keepalive_interval: seconds(rng, 30),
            keepalive_timeout: seconds(rng, 10),
            ..defaults
        };
        // Up to the default, and drawn already.
        limits.body_patience = 2 * limits.keepalive_interval;
        limits
    }

    fn drawn_config(&mut self, limits: Limits) -> ShardConfig {
        let network = &mut *self.network.borrow_mut();
        let rng = &mut network.rng;
        ShardConfig {
            memory_bytes: (limits.payload_bytes_max as usize) << rng.u32(1..6),
            limits: Arc::new(limits),
            connections_max: rng.usize(8..64),
            recv_buffers: rng.u16(2..32),
            recv_buffer_bytes: 512 << rng.u32(0..6),
            drain_timeout: Duration::from_millis(rng.u64(1..5_000)),
        }
    }

    /// Adds a server on this address. Its services are made anew whenever it starts.
    pub fn add_server(
        &mut self,
        address: SocketAddr,
        limits: Limits,
        factory: impl Fn(&Shard) -> Vec<Box<dyn Service>> + 'static,
    ) -> NodeId {
        let config = self.drawn_config(limits);
        self.add(Some(address), config, Rc::new(factory))
    }

    /// Adds a shard that only calls; `begin` may spawn what does.
    pub fn add_client(&mut self, limits: Limits, begin: impl Fn(&Shard) + 'static) -> NodeId {
        let config = self.drawn_config(limits);
        let factory = move |shard: &Shard| -> Vec<Box<dyn Service>> {
            begin(shard);
            Vec::new()
        };
        self.add(None, config, Rc::new(factory))
    }

    fn add(
        &mut self,
        address: Option<SocketAddr>,
        config: ShardConfig,
        factory: super::node::Factory,
    ) -> NodeId {
        let id = self.nodes.len();
        let is_calm = self.network.borrow().faults.are_calm();
        let mut node = Node::new(id, address, config, factory, is_calm);
        node.start(&self.network);
        self.nodes.push(node);
        self.schedule(id, 0);
        NodeId(id)
    }

    /// Nanoseconds since the world began.
    pub fn now_ns(&self) -> u64 {
        self.network.borrow().now()
    }

    /// The clock of this world, for whoever lives in it.
    pub fn clock(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.network.borrow().now_ns)
    }

    /// A number that two runs of the same seed share.
    pub fn trace_hash(&self) -> u64 {
        self.network.borrow().trace.hash()
    }

    /// Things that have happened.
    pub fn events(&self) -> u64 {
        self.network.borrow().trace.events()
    }

    /// Turns of nodes and other steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Ends all faults: from now on every node runs, and the network loses nothing more.
    pub fn end_faults(&mut self) {
        self.network.borrow_mut().faults.end();
        self.have_faults_ended = true;
        let now_ns = self.now_ns();
        for id in 0..self.nodes.len() {
            let node = &mut self.nodes[id];
            node.busy_until_ns = node.busy_until_ns.min(now_ns);
            // It may be awaited at a time that lies far ahead.
            node.is_scheduled = false;
            if node.life.is_none() {
                self.revive(id);
            }
            self.schedule(id, 0);
        }
    }

    /// Kills a node for good.
    pub fn kill(&mut self, NodeId(id): NodeId) {
        self.nodes[id].kill();
        self.nodes[id].down_until_ns = None;
        self.after_event();
    }

    /// Has a node shut down, as on SIGTERM; it comes back after a while unless faults have ended.
    pub fn drain(&mut self, NodeId(id): NodeId) {
        if let Some(life) = &self.nodes[id].life {
            life.mailbox.begin_drain();
        }
        self.schedule(id, 0);
    }

    /// Lets the next thing happen. Says whether there was one: if not, nothing will ever happen again.
    ///
    /// # Errors
    /// What does not hold any more that always must.
    pub fn step(&mut self) -> Result<bool, String> {
        self.steps += 1;
        let Some(event) = self.network.borrow_mut().next_event() else {
            return Ok(false);
        };
        match event {
            Event::Look { node } => self.progress(node),
            Event::Run { node } => self.run(node)?,
            Event::Fate => self.decide(),
            other => self.network.borrow_mut().happen(other),
        }
        self.after_event();
        Ok(true)
    }

    /// How all nodes stand, for whoever looks for what went wrong.
    pub fn describe(&self) -> String {
        let lives = self
            .nodes
            .iter()
            .filter_map(|node| Some((node.id, node.life.as_ref()?)));
        lives
            .map(|(id, life)| format!("node {id}: {}", life.engine.shard().describe()))
            .collect()
    }

    /// Checks that nothing is left of what has been, once nobody calls any more.
    ///
    /// # Errors
    /// What is left.
    pub fn check_quiet(&self) -> Result<(), String> {
        self.nodes.iter().try_for_each(Node::check_quiet)
    }

    fn progress(&mut self, id: usize) {
        if let Some(life) = &mut self.nodes[id].life {
            life.engine.kernel_mut().progress();
        }
    }

    /// What sockets have brought is looked at, and whoever sleeps is woken.
    fn after_event(&mut self) {
        loop {
            let touched = std::mem::take(&mut self.network.borrow_mut().touched);
            if touched.is_empty() {
                break;
            }
            touched.into_iter().for_each(|id| self.progress(id));
        }
        for id in 0..self.nodes.len() {
            let wakes = self.nodes[id]
                .life
                .as_ref()
                .is_some_and(|life| life.engine.kernel().has_ready());
            if wakes {
                self.schedule(id, WAKE_NS);
            }
        }
    }

    fn schedule(&mut self, id: usize, after_ns: u64) {
        let node = &mut self.nodes[id];
        if std::mem::replace(&mut node.is_scheduled, true) {
            return;
        }
        let mut network = self.network.borrow_mut();
        let due_ns = (network.now() + after_ns).max(node.busy_until_ns);
        network.at(due_ns, Event::Run { node: id });
    }

    /// A turn of a node.
    fn run(&mut self, id: usize) -> Result<(), String> {
        let now_ns = self.now_ns();
        let node = &mut self.nodes[id];
        node.is_scheduled = false;
        if now_ns < node.busy_until_ns {
            self.schedule(id, 0);
            return Ok(());
        }
        let Some(Life { engine, .. }) = &mut node.life else {
            if node
                .down_until_ns
                .is_some_and(|until_ns| now_ns >= until_ns)
            {
                self.revive(id);
            }
            return Ok(());
        };
        self.turns_in_place = if now_ns < self.last_turn_ns + 1000 {
            self.turns_in_place + 1
        } else {
            self.last_turn_ns = now_ns;
            0
        };
        if self.turns_in_place > TURNS_IN_PLACE_MAX {
            return Err(format!("node {id} turns in place"));
        }
        engine
            .turn()
            .map_err(|error| format!("node {id}: its engine failed: {error}"))?;
        let is_idle = engine.is_idle();
        if is_idle {
            engine.shard().end_turn();
            engine
                .arm_timeout()
                .and_then(|()| engine.kernel_enter())
                .map_err(|error| format!("node {id}: its engine failed: {error}"))?;
        }
        let has_ended = engine.has_ended();
        node.check()?;
        let mut network = self.network.borrow_mut();
        let long_turn = network.faults.long_turn;
        let mut cost_ns = network.rng.u64(1_000..20_000);
        if network.chance(long_turn) {
            cost_ns = network.rng.u64(1_000_000..300_000_000);
            network.note(format_args!("node {id} is held for {cost_ns} ns"));
        }
        self.nodes[id].busy_until_ns = now_ns + cost_ns;
        drop(network);
        if has_ended {
            self.go_down(id);
        } else if !is_idle {
            self.schedule(id, 0);
        }
        Ok(())
    }

    fn go_down(&mut self, id: usize) {
        self.nodes[id].kill();
        let mut network = self.network.borrow_mut();
        let back_ns = network.now() + network.rng.u64(1_000..3_000_000_000);
        network.note(format_args!("node {id} is down"));
        drop(network);
        let node = &mut self.nodes[id];
        node.down_until_ns = Some(back_ns);
        node.busy_until_ns = back_ns;
        self.schedule(id, 0);
    }

    fn revive(&mut self, id: usize) {
        self.network
            .borrow_mut()
            .note(format_args!("node {id} is up"));
        self.nodes[id].start(&self.network);
        self.schedule(id, 0);
    }

    /// Perhaps a disaster: something is stopped, killed, shut down or cut off.
    fn decide(&mut self) {
        let mut network = self.network.borrow_mut();
        if self.have_faults_ended {
            return;
        }
        let due_ns = network.now() + FATE_NS;
        network.at(due_ns, Event::Fate);
        let disaster = network.faults.disaster;
        if !network.chance(disaster) || self.nodes.is_empty() {
            return;
        }
        let id = network.rng.usize(0..self.nodes.len());
        let what = network.rng.u32(0..10);
        let time_ns = 1 << network.rng.u32(20..36);
        let streams: Vec<usize> = (0..network.sockets.len())
            .filter(|&id| network.stream(id).is_some_and(|it| it.peer.is_some()))
            .collect();
        match what {
            0..5 if !streams.is_empty() => {
                let victim = streams[network.rng.usize(0..streams.len())];
                network.note(format_args!("the connection of socket {victim} breaks"));
                network.break_off(victim);
            }
            5..8 => {
                network.note(format_args!("node {id} is stopped for {time_ns} ns"));
                drop(network);
                self.nodes[id].busy_until_ns = due_ns + time_ns;
            }
            8 if self.nodes[id].address.is_some() && self.nodes[id].life.is_some() => {
                network.note(format_args!("node {id} is killed"));
                drop(network);
                self.go_down(id);
            }
            9 if self.nodes[id].address.is_some() => {
                network.note(format_args!("node {id} shuts down"));
                drop(network);
                self.drain(NodeId(id));
            }
            _ => (),
        }
    }
}

/// So that what a run leaves behind is not left to chance: nodes go before the network does.
impl Drop for Simulation {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }
}
