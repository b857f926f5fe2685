//! One run of the simulation: a world, those who live in it, and what must hold of them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod ledger;
mod workload;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;

use ringcall::__private::sim::{Faults, NodeId, Simulation};
use ringcall::__private::{Bug, plant};
use ringcall::Limits;

use self::ledger::{Ledger, Phase};

/// What a run has covered, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Two runs of one seed have the same; of several runs, all of theirs together.
    pub trace_hash: u64,
    pub events: u64,
    pub steps: u64,
    pub calls: u64,
    pub answered: u64,
    pub failed: u64,
    pub given_up: u64,
    pub virtual_seconds: u64,
}

impl Covered {
    /// Adds what another run has covered.
    pub fn add(&mut self, other: &Self) {
        // In whatever order they come.
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
        self.events += other.events;
        self.steps += other.steps;
        self.calls += other.calls;
        self.answered += other.answered;
        self.failed += other.failed;
        self.given_up += other.given_up;
        self.virtual_seconds += other.virtual_seconds;
    }
}

/// How much of a world there is; less of it makes a failure easier to understand.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Whether it tells what happens.
    pub is_told: bool,
    /// Faults that are left out, by their place in [`FAULTS`].
    pub without: Vec<usize>,
    /// Calls that are made at most, by all together.
    pub calls_max: usize,
    /// What is wrong with this world's code on purpose.
    pub bug: Option<Bug>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            is_told: false,
            without: Vec::new(),
            calls_max: usize::MAX,
            bug: None,
        }
    }
}

type LeaveOut = fn(&mut Faults);

/// Faults that can be left out, by name.
pub const FAULTS: [(&str, LeaveOut); 10] = [
    ("disasters", |it| it.disaster = 0.0),
    ("long turns", |it| it.long_turn = 0.0),
    ("lost connection requests", |it| it.swallowed = 0.0),
    ("refused connections", |it| it.refused = 0.0),
    ("failing accepts", |it| it.accept_fails = 0.0),
    ("missing buffers", |it| it.no_buffer = 0.0),
    ("ended multishots", |it| it.multishot_ends = 0.0),
    ("slow operations", |it| it.slow_operation = 0.0),
    ("cuts", |it| it.cut = 0.0),
    ("small windows", |it| it.window_bytes = 1 << 20),
];

/// Runs a world, on a thread of its own: what threads keep to use again would make a second run another one.
/// A panic is a failure.
pub fn run_caught(seed: u64, scope: &Scope) -> Result<Covered, String> {
    let running = thread::scope(|threads| {
        let world = thread::Builder::new().name("world".to_owned());
        let running = world.spawn_scoped(threads, || {
            plant(scope.bug);
            run(seed, scope)
        });
        running.expect("a thread").join()
    });
    running.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// A panic in a world is its outcome, which is reported; how it came about is only told in a replay.
pub fn quieten_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_of_world = thread::current().name() == Some("world");
        if !is_of_world || std::env::var_os("SEED").is_some() {
            default(panic);
        }
    }));
}

/// Leaves out of a failing world whatever it fails without, and says what is left.
pub fn shrunk(seed: u64) -> String {
    let mut scope = Scope::default();
    let fails = |scope: &Scope| run_caught(seed, scope).is_err();
    for fault in 0..FAULTS.len() {
        let mut less = scope.clone();
        less.without.push(fault);
        if fails(&less) {
            scope = less;
        }
    }
    let (mut fewest, mut most) = (
        0,
        run_caught(seed, &scope).map_or(4096, |it| it.calls as usize),
    );
    while fewest + 1 < most {
        let calls_max = usize::midpoint(fewest, most);
        let less = Scope {
            calls_max,
            ..scope.clone()
        };
        if fails(&less) {
            most = calls_max;
            scope = less;
        } else {
            fewest = calls_max;
        }
    }
    let left = FAULTS.iter().enumerate();
    let left: Vec<&str> = left
        .filter(|(at, _)| !scope.without.contains(at))
        .map(|(_, (name, _))| *name)
        .collect();
    let why = run_caught(seed, &scope).err().unwrap_or_default();
    format!(
        "seed {seed} still fails with {} calls, and of the faults only {left:?}: {why}",
        scope.calls_max
    )
}

/// Until then faults happen, if the callers have not ended sooner.
const FAULTS_NS: u64 = 30_000_000_000;
/// Within this time after the last fault every call must have ended.
const CALLS_END_NS: u64 = 300_000_000_000;
/// Within this time after the last call nothing may be left of any.
const QUIET_NS: u64 = 120_000_000_000;
/// A run that takes more is stuck.
const STEPS_MAX: u64 = 3_000_000;

/// Runs the world of a seed: first with faults, then without. Safety is checked all the time; in the second
/// part every call must end, and all that it took must come back.
///
/// # Errors
/// What does not hold.
fn run(seed: u64, scope: &Scope) -> Result<Covered, String> {
    let mut sim = Simulation::new(seed);
    for fault in &scope.without {
        sim.change_faults(FAULTS[*fault].1);
    }
    if scope.is_told {
        sim.tell();
        eprintln!("{:#?}", sim.faults());
    }
    let ledger = Rc::new(RefCell::new(Ledger::new(sim.clock(), scope.calls_max)));
    let mut rng = sim.rng();
    let servers: Vec<SocketAddr> = (0..rng.u8(1..3))
        .map(|at| SocketAddr::from(([10, 0, 0, at], 7411)))
        .collect();
    for address in &servers {
        let limits = sim.drawn_limits();
        sim.add_server(*address, limits, workload::services(&ledger));
    }
    // Little enough that it fits into what a peer takes without reading.
    let faults = sim.faults();
    let is_small = rng.bool();
    ledger.borrow_mut().is_prompt = is_small
        && [faults.cut, faults.slow_operation] == [0.0; 2]
        && faults.window_bytes >= 128 << 10;
    let clients: Vec<NodeId> = (0..rng.u8(1..4))
        .map(|_| {
            let limits = sim.drawn_limits();
            let content_bytes_max = if is_small {
                1000
            } else {
                content_bytes_max(&sim, &limits)
            };
            let begin = workload::callers(&ledger, &servers, content_bytes_max, &mut rng);
            sim.add_client(limits, begin)
        })
        .collect();
    let world = &mut World {
        sim,
        ledger,
        clients,
    };
    let result = world.live();
    if scope.is_told && result.is_err() {
        eprintln!("{}", world.sim.describe());
    }
    let ledger = world.ledger.borrow();
    result.map(|()| Covered {
        trace_hash: world.sim.trace_hash(),
        events: world.sim.events(),
        steps: world.sim.steps(),
        virtual_seconds: world.sim.now_ns() / 1_000_000_000,
        ..ledger.covered()
    })
}

/// The largest content that callers send: where streams are cut into crumbs, one of 200 kB would take all day.
fn content_bytes_max(sim: &Simulation, limits: &Limits) -> usize {
    let faults = sim.faults();
    let crumbs = if faults.cut > 0.0 {
        faults.cut_bytes_max * 300
    } else {
        usize::MAX
    };
    (limits.payload_bytes_max as usize)
        .min(200_000)
        .min(crumbs)
        .min(faults.window_bytes * 300)
}

struct World {
    sim: Simulation,
    ledger: Rc<RefCell<Ledger>>,
    clients: Vec<NodeId>,
}

impl World {
    fn live(&mut self) -> Result<(), String> {
        self.until(FAULTS_NS, |world| world.ledger.borrow().callers == 0)?;
        self.sim.end_faults();
        let callers = |world: &Self| world.ledger.borrow().callers == 0;
        if !self.until(CALLS_END_NS, callers)? {
            return Err(format!("calls never end: {}", self.ledger.borrow().open()));
        }
        self.ledger.borrow_mut().phase = Phase::LastCalls;
        let last_callers = |world: &Self| world.ledger.borrow().last_callers == 0;
        if !self.until(CALLS_END_NS, last_callers)? {
            return Err("a client's last call never ends".into());
        }
        // The clients are still connected: whoever gave up a call has told its server.
        let handlers = |world: &Self| {
            let ledger = world.ledger.borrow();
            (ledger.handlers, ledger.watched) == (0, 0)
        };
        if !self.until(QUIET_NS, handlers)? {
            return Err("handlers go on whose callers have gone".into());
        }
        self.ledger.borrow_mut().phase = Phase::Close;
        let quiet = |world: &Self| world.sim.check_quiet().is_ok();
        if !self.until(QUIET_NS, quiet)? {
            self.sim.check_quiet()?;
        }
        self.ledger.borrow().check_end()
    }

    /// Lets things happen until something is so, or for so long. Says whether it is so.
    fn until(&mut self, at_most_ns: u64, is_so: impl Fn(&Self) -> bool) -> Result<bool, String> {
        let until_ns = self.sim.now_ns() + at_most_ns;
        let mut steps: u32 = 0;
        while self.sim.now_ns() < until_ns {
            // Looking at everything costs more than a step.
            steps += 1;
            if steps.is_multiple_of(16) && is_so(self) {
                return Ok(true);
            }
            if !self.sim.step()? {
                break;
            }
            if let Some(violation) = self.ledger.borrow_mut().violation.take() {
                return Err(violation);
            }
            if self.sim.steps() > STEPS_MAX {
                return Err("the world does not come to rest".into());
            }
        }
        Ok(is_so(self))
    }
}
