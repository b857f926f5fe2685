//! Makes the calls of one thread over its connections, whatever is spoken.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use super::flight::{CallResult, DueCall};
use super::work::Work;
use super::worker::Worker;

/// What is spoken.
pub(super) trait Transport: Sized + 'static {
    /// A connection that calls can be made on.
    type Connection: 'static;

    /// Another connection to the same server. It may connect later, but not fail.
    fn connect(&self) -> Option<Self::Connection>;

    /// Makes a call.
    fn call(
        &self,
        connection: &Self::Connection,
        work: Work,
    ) -> impl Future<Output = Result<(), Fault>>;

    /// Runs a future beside.
    fn spawn(&self, future: impl Future<Output = ()> + 'static);
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) text: String,
    /// It found no server.
    pub(super) is_unreachable: bool,
}

/// The calls of one thread.
pub(super) struct Sender<T: Transport> {
    transport: T,
    worker: Worker,
    pool: RefCell<Pool<T::Connection>>,
    /// A call that fails at once would begin the next from within.
    is_sending: Cell<bool>,
}

impl<T: Transport> Sender<T> {
    pub(super) fn new(transport: T, worker: Worker, pool: Pool<T::Connection>) -> Rc<Self> {
        Rc::new(Self {
            transport,
            worker,
            pool: RefCell::new(pool),
            is_sending: Cell::new(false),
        })
    }

    /// Begins a turn; `false` when the load is over.
    pub(super) fn turn(self: &Rc<Self>) -> bool {
        let goes_on = self.worker.turn();
        if goes_on {
            self.send_due();
        }
        goes_on
    }

    /// Makes every call that is due, as far as connections have room.
    fn send_due(self: &Rc<Self>) {
        if self.is_sending.replace(true) {
            return;
        }
        while self.pool.borrow_mut().have_room()
            && let Some(due) = self.worker.next_due()
        {
            let pooled = self.pool.borrow_mut().next(|| self.transport.connect());
            self.transport
                .spawn(make_call(Rc::clone(self), pooled, due));
        }
        self.is_sending.set(false);
    }
}

/// One call, from its sending to its end.
async fn make_call<T: Transport>(
    sender: Rc<Sender<T>>,
    pooled: Rc<PooledConnection<T::Connection>>,
    due: DueCall,
) {
    let answer = {
        let call = pin!(sender.transport.call(&pooled.connection, due.work));
        sender.worker.until_expired(due.slot, call).await
    };
    pooled.in_flight.set(pooled.in_flight.get() - 1);
    let (end, is_unreachable) = match answer {
        Some(Ok(())) => (CallResult::Ok, false),
        Some(Err(fault)) => (CallResult::Error(fault.text), fault.is_unreachable),
        None => (CallResult::Timeout, false),
    };
    sender.worker.end(due.slot, end, is_unreachable);
    // Many answers come in one turn: what has come due meanwhile does not wait for the last.
    sender.send_due();
}

/// The connections of a thread, which take calls in turn.
pub(super) struct Pool<C> {
    depth: usize,
    /// Calls after which a connection is replaced.
    churn_calls: u64,
    open: Vec<Rc<PooledConnection<C>>>,
    turn: usize,
}

/// A connection and the calls on it.
struct PooledConnection<C> {
    connection: C,
    in_flight: Cell<usize>,
    calls: Cell<u64>,
}

impl<C> PooledConnection<C> {
    fn new(connection: C) -> Rc<Self> {
        Rc::new(Self {
            connection,
            in_flight: Cell::new(0),
            calls: Cell::new(0),
        })
    }
}

impl<C> Pool<C> {
    /// At least one connection, with at most `depth` calls in flight on each.
    pub(super) fn new(connections: Vec<C>, depth: usize, churn_calls: Option<u64>) -> Self {
        assert!(!connections.is_empty(), "a thread has a connection");
        Self {
            depth,
            churn_calls: churn_calls.unwrap_or(u64::MAX),
            open: connections.into_iter().map(PooledConnection::new).collect(),
            turn: 0,
        }
    }

    /// Turns to the next connection that may take a call; `false` when there is none.
    fn have_room(&mut self) -> bool {
        for _ in 0..self.open.len() {
            if self.open[self.turn].in_flight.get() < self.depth {
                return true;
            }
            self.advance();
        }
        false
    }

    /// The connection for the next call. Call it after [`Pool::have_room`] has said so.
    fn next(&mut self, connect: impl FnOnce() -> Option<C>) -> Rc<PooledConnection<C>> {
        let pooled = Rc::clone(&self.open[self.turn]);
        pooled.in_flight.set(pooled.in_flight.get() + 1);
        pooled.calls.set(pooled.calls.get() + 1);
        if pooled.calls.get() == self.churn_calls
            && let Some(connection) = connect()
        {
            // The old one goes when its calls have ended.
            self.open[self.turn] = PooledConnection::new(connection);
        }
        self.advance();
        pooled
    }

    fn advance(&mut self) {
        self.turn += 1;
        if self.turn == self.open.len() {
            self.turn = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_until_they_are_full() {
        let mut pool = Pool::new(vec!['a', 'b'], 2, None);
        let mut taken = Vec::new();
        while pool.have_room() {
            taken.push(pool.next(|| None));
        }
        let order: String = taken.iter().map(|pooled| pooled.connection).collect();
        assert_eq!(order, "abab");
        taken[2].in_flight.set(1);
        assert!(pool.have_room());
        assert_eq!(pool.next(|| None).connection, 'a');
    }

    #[test]
    fn a_connection_is_replaced_after_its_calls() {
        let mut pool = Pool::new(vec![0], 100, Some(3));
        let mut made = 0;
        let mut next = || {
            pool.next(|| {
                made += 1;
                Some(made)
            })
            .connection
        };
        let order: Vec<i32> = (0..7).map(|_| next()).collect();
        assert_eq!(order, [0, 0, 0, 1, 1, 1, 2]);
    }
}
