//! `loadgen agent`: makes calls when a coordinator says so.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use ringcall::{Context, Idle, Reply, Request, Server, Status};

use super::load::Load;
use super::wire::{
    AgentHandler, AgentServer, Assignment, Begin, Description, LoadEvent, Poll, VERSION,
};
use crate::failure::Failure;
use crate::run::generator_cpus;
use crate::{environment, print, serve};

/// Options of `loadgen agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Where to wait for a coordinator: tcp://HOST:PORT (0: a free port) or unix:/PATH. Whoever
    /// reaches it can have calls made to any address from this host: use a private one
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: String,
    /// CPUs for the load, one thread on each, such as 2,3; none: one thread that is not pinned
    /// [default: one CPU]
    #[arg(long, value_name = "CPUS")]
    pub(crate) pin: Option<String>,
}

/// Serves coordinators until SIGTERM or SIGINT.
///
/// # Errors
/// When the address or the CPUs can't be used.
pub fn run(args: &AgentArgs) -> Result<(), Failure> {
    serve::start_logging();
    let endings = serve::watch_for_the_end(false)?;
    let cpus = generator_cpus(args.pin.as_deref())?;
    let server = Server::builder()
        .listen(&args.listen)
        .shards(NonZeroUsize::MIN)
        // It asks for little, and must not take time from the threads that measure.
        .pinned(false)
        .idle(Idle::Park)
        .serve(move |_| AgentServer::new(Waiting::new(cpus.clone())))?;
    print(&format!("listening {}\n", server.addresses()[0]))?;
    serve::wait_until_told(|| server.is_running(), &endings);
    server.shut_down();
    server.wait()?;
    Ok(())
}

/// Waits for orders.
struct Waiting {
    cpus: Vec<Option<usize>>,
    load: Rc<RefCell<Option<Load>>>,
}

impl Waiting {
    fn new(cpus: Vec<Option<usize>>) -> Self {
        Self {
            cpus,
            load: Rc::default(),
        }
    }

    /// Does something with the load of this lease.
    fn with<T>(&self, lease: u64, act: impl FnOnce(&Load) -> T) -> Result<T, Status> {
        match &*self.load.borrow() {
            Some(load) if load.lease == lease => Ok(act(load)),
            _ => Err(Status::failed_precondition(
                "this load is over: the agent was restarted, or heard nothing for too long",
            )),
        }
    }
}

impl AgentHandler for Waiting {
    async fn describe(&self, _cx: &Context) -> Result<Reply<Description>, Status> {
        let json = |text: serde_json::Result<String>| {
            text.map_err(|error| Status::internal(error.to_string()))
        };
        let description = Description {
            version: VERSION.into(),
            build: json(serde_json::to_string(&environment::build()))?,
            machine: json(serde_json::to_string(&environment::machine()))?,
            cpus: self
                .cpus
                .iter()
                .map(|cpu| cpu.map(|cpu| cpu as u32))
                .collect(),
        };
        Ok(description.into())
    }

    async fn prepare(
        &self,
        _cx: &Context,
        assignment: Request<Assignment>,
    ) -> Result<Reply<u64>, Status> {
        let mut current = self.load.borrow_mut();
        if current.as_ref().is_some_and(|load| !load.is_over()) {
            return Err(Status::resource_exhausted(
                "the agent makes calls for another coordinator; wait until that has ended",
            ));
        }
        let plan = assignment.to_owned().plan(&self.cpus);
        let plan = plan.map_err(Status::invalid_argument)?;
        // Nobody else can name it by chance.
        let lease = fastrand::Rng::new().u64(1..);
        tracing::info!(
            target = plan.address,
            part = plan.part.number + 1,
            of = plan.part.of,
            "a load is prepared"
        );
        let load = Load::start(lease, plan)
            .map_err(|error| Status::unavailable(format!("can't start a thread: {error}")))?;
        *current = Some(load);
        Ok(lease.into())
    }

    async fn begin(&self, _cx: &Context, begin: Request<Begin>) -> Result<Reply<()>, Status> {
        let time = Duration::from_nanos(begin.in_ns.to_native().min(BEGIN_IN_NS_MAX));
        self.with(begin.lease.to_native(), |load| load.begin_in(time))?;
        Ok(().into())
    }

    async fn next(
        &self,
        _cx: &Context,
        poll: Request<Poll>,
    ) -> Result<Reply<Option<LoadEvent>>, Status> {
        let known = poll.known.to_native();
        let next = self.with(poll.lease.to_native(), |load| load.next(known))?;
        Ok(next.into())
    }

    async fn stop(&self, _cx: &Context, lease: Request<u64>) -> Result<Reply<()>, Status> {
        self.with(lease.to_native(), Load::stop)?;
        Ok(().into())
    }
}

/// A load that is prepared does not wait longer for its beginning.
const BEGIN_IN_NS_MAX: u64 = 60_000_000_000;
