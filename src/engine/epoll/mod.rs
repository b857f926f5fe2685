//! The fallback engine: the same shard on tokio's current-thread runtime, which waits by epoll.
//!
//! Each connection is a task that reads, lets the shard act, and writes. A ticker runs what timers
//! and other threads have woken. Every step is wrapped in [`Engine::turn`].

mod connection;
mod listener;
mod watched;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use self::watched::watch;
use super::{EngineConfig, Idle, Listener, ShardStart};
use crate::platform::options::StreamOptions;
use crate::platform::refusal::{Refusal, Step};
use crate::shard::ShardCore;
use crate::shard::conn::{Conn, Stage};

/// Everything of one shard that belongs to this engine.
struct Engine {
    shard: Rc<ShardCore>,
    stream: StreamOptions,
    listeners: RefCell<Vec<Listener>>,
    /// Wakes the task of each connection, at the place that the connection remembers.
    wakers: RefCell<Vec<Rc<Notify>>>,
    free: RefCell<Vec<u32>>,
    /// Connections that wait for a receive buffer.
    starved: RefCell<Vec<Rc<Conn>>>,
    /// When the ticker looks next, and how to make it look earlier.
    ticker_ns: Cell<u64>,
    ticker: Notify,
    /// Signalled when the shard drains or has drained.
    ending: Notify,
    /// When something last happened, for the spinner, which waits when it stops spinning.
    active_ns: Cell<u64>,
    activity: Notify,
}

/// Runs a shard on the calling thread until it has drained.
///
/// # Errors
/// When the runtime can't be made, or the eventfd can't be watched.
pub(super) fn run(start: ShardStart) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Sockets are looked at after every round of tasks: connections wait for nothing else.
        .event_interval(EVENT_INTERVAL)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let refusal = Refusal::from_io(Step::EpollRuntime, &error);
            start.fail(&refusal.to_string());
            return Ok(());
        }
    };
    LocalSet::new().block_on(&runtime, async move {
        match start.start(Engine::new) {
            Some((engine, config)) => engine.run(config.idle).await,
            None => Ok(()),
        }
    })
}

const EVENT_INTERVAL: u32 = 31;
/// A sleeping ticker looks at least this often, which costs nothing and bounds any mistake.
const TICKER_MAX: Duration = Duration::from_secs(1);

impl Engine {
    fn new(
        shard: Rc<ShardCore>,
        config: &EngineConfig,
        listeners: Vec<Listener>,
    ) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            shard,
            stream: config.stream.clone(),
            listeners: RefCell::new(listeners),
            wakers: RefCell::default(),
            free: RefCell::default(),
            starved: RefCell::default(),
            ticker_ns: Cell::new(0),
            ticker: Notify::new(),
            ending: Notify::new(),
            active_ns: Cell::new(0),
            activity: Notify::new(),
        }))
    }

    async fn run(self: Rc<Self>, idle: Idle) -> io::Result<()> {
        for listener in self.listeners.take() {
            tokio::task::spawn_local(listener::accept_loop(Rc::clone(&self), listener));
        }
        if idle.spin_ns() > 0 {
            tokio::task::spawn_local(Rc::clone(&self).spin(idle.spin_ns()));
        }
        let eventfd = self.shard.mailbox.eventfd().try_clone_to_owned()?;
        let eventfd = watch(eventfd)?;
        self.turn(|| ());
        while !self.shard.is_drained() {
            if self.shard.has_work() {
                // Lets the sockets have their turn.
                tokio::task::yield_now().await;
            } else {
                self.wait(&eventfd).await?;
            }
            self.turn(|| ());
        }
        self.shard.finish();
        Ok(())
    }

    /// Waits until a timer is due or the shard was woken.
    async fn wait(&self, eventfd: &AsyncFd<OwnedFd>) -> io::Result<()> {
        let now_ns = self.shard.clock.now_ns();
        let longest_ns = now_ns + TICKER_MAX.as_nanos() as u64;
        let until_ns = self
            .shard
            .next_deadline_ns()
            .unwrap_or(u64::MAX)
            .min(longest_ns);
        self.ticker_ns.set(until_ns);
        let timer = pin!(tokio::time::sleep(Duration::from_nanos(
            until_ns.saturating_sub(now_ns)
        )));
        tokio::select! {
            biased;
            ready = eventfd.readable() => {
                let mut count = [0; 8];
                // An error says that another read was faster; the wake-up stands.
                if ready?.try_io(|fd| Ok(rustix::io::read(fd, &mut count)?)).is_err() {
                    tracing::trace!("eventfd read already");
                }
            }
            () = self.ticker.notified() => (),
            () = timer => (),
        }
        self.ticker_ns.set(0);
        Ok(())
    }

    /// Does one step, and then all that follows from it: due timers, woken tasks, connections that
    /// have something to send.
    fn turn<R>(self: &Rc<Self>, step: impl FnOnce() -> R) -> R {
        let shard = &self.shard;
        shard.mailbox.unpark();
        shard.begin_turn();
        self.active_ns.set(shard.now_ns());
        self.activity.notify_one();
        let result = step();
        shard.run_due();
        self.attend();
        // From here on whoever wakes a task writes to the eventfd; see `Mailbox`.
        shard.mailbox.announce_park();
        shard.end_turn();
        let is_due = shard
            .next_deadline_ns()
            .is_some_and(|deadline_ns| deadline_ns < self.ticker_ns.get());
        // What was woken in this turn runs in one of the ticker's, after the sockets.
        if is_due || shard.has_work() {
            self.ticker.notify_one();
        }
        if shard.mailbox.must_drain() {
            self.ending.notify_waiters();
        }
        if shard.is_drained() {
            self.ticker.notify_one();
        }
        result
    }

    /// Wakes the tasks of connections that need attention, and makes those of local clients.
    fn attend(self: &Rc<Self>) {
        let shard = &self.shard;
        for (conn, target) in std::mem::take(&mut *shard.connects.borrow_mut()) {
            connection::connect(self, conn, &target);
        }
        while let Some(conn) = shard.pop_attention() {
            let slot = conn.engine_slot.get();
            if slot != u32::MAX {
                self.wakers.borrow()[slot as usize].notify_one();
            } else if conn.stage() == Stage::Closing {
                shard.closed(&conn);
            }
        }
        if shard.pool.free_count() > 0 {
            for conn in self.starved.take() {
                conn.attend();
            }
        }
    }

    /// Gives a connection a place and the means to wake its task.
    fn enter(&self, conn: &Conn) -> Rc<Notify> {
        let waker = Rc::new(Notify::new());
        let mut wakers = self.wakers.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            wakers.push(Rc::clone(&waker));
            wakers.len() as u32 - 1
        });
        wakers[slot as usize] = Rc::clone(&waker);
        conn.engine_slot.set(slot);
        waker
    }

    fn leave(&self, conn: &Rc<Conn>) {
        self.release(conn);
        self.shard.closed(conn);
    }

    /// Takes back the place of a connection.
    fn release(&self, conn: &Conn) {
        self.free
            .borrow_mut()
            .push(conn.engine_slot.replace(u32::MAX));
    }

    /// Keeps the runtime from sleeping until nothing has happened for a while.
    async fn spin(self: Rc<Self>, spin_ns: u64) {
        loop {
            if self
                .shard
                .clock
                .now_ns()
                .saturating_sub(self.active_ns.get())
                < spin_ns
            {
                tokio::task::yield_now().await;
            } else {
                self.activity.notified().await;
            }
        }
    }
}
