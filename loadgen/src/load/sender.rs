//! Makes the calls of one thread over its connections, whatever is spoken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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
    /// The server said so.
    pub(super) is_of_server: bool,
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
        while self.pool.borrow().has_room()
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
    sender.pool.borrow_mut().end(&pooled);
    let (end, is_unreachable) = match answer {
        Some(Ok(())) => (CallResult::Ok, false),
        Some(Err(fault)) => {
            let Fault {
                text, is_of_server, ..
            } = fault;
            (
                CallResult::Error { text, is_of_server },
                fault.is_unreachable,
            )
        }
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
    /// The places of those that have room, in the order of their turns.
    with_room: VecDeque<usize>,
}

/// A connection and the calls on it.
struct PooledConnection<C> {
    connection: C,
    place: usize,
    in_flight: Cell<usize>,
    calls: Cell<u64>,
}

impl<C> PooledConnection<C> {
    fn new(place: usize, connection: C) -> Rc<Self> {
        Rc::new(Self {
            connection,
            place,
            in_flight: Cell::new(0),
            calls: Cell::new(0),
        })
    }
}

impl<C> Pool<C> {
    /// At least one connection, with at most `depth` calls in flight on each.
    pub(super) fn new(connections: Vec<C>, depth: usize, churn_calls: Option<u64>) -> Self {
        assert!(!connections.is_empty(), "a thread has a connection");
        let open = connections.into_iter().enumerate();
        let open: Vec<_> = open
            .map(|(place, connection)| PooledConnection::new(place, connection))
            .collect();
        Self {
            depth,
            churn_calls: churn_calls.unwrap_or(u64::MAX),
            with_room: (0..open.len()).collect(),
            open,
        }
    }

    /// Whether a connection may take a call.
    fn has_room(&self) -> bool {
        !self.with_room.is_empty()
    }

    /// The connection for the next call. Call it after [`Pool::has_room`] has said so.
    fn next(&mut self, connect: impl FnOnce() -> Option<C>) -> Rc<PooledConnection<C>> {
        let place = self.with_room.pop_front().expect("there is room");
        let pooled = Rc::clone(&self.open[place]);
        pooled.in_flight.set(pooled.in_flight.get() + 1);
        pooled.calls.set(pooled.calls.get() + 1);
        let mut has_room = pooled.in_flight.get() < self.depth;
        if pooled.calls.get() == self.churn_calls
            && let Some(connection) = connect()
        {
            // The old one goes when its calls have ended.
            self.open[place] = PooledConnection::new(place, connection);
            has_room = true;
        }
        if has_room {
            self.with_room.push_back(place);
        }
        pooled
    }

    /// A call on a connection has ended.
    fn end(&mut self, pooled: &Rc<PooledConnection<C>>) {
        let in_flight = pooled.in_flight.get();
        pooled.in_flight.set(in_flight - 1);
        if in_flight == self.depth && Rc::ptr_eq(pooled, &self.open[pooled.place]) {
            self.with_room.push_back(pooled.place);
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
        while pool.has_room() {
            taken.push(pool.next(|| None));
        }
        let order: String = taken.iter().map(|pooled| pooled.connection).collect();
        assert_eq!(order, "abab");
        pool.end(&taken[1]);
        pool.end(&taken[3]);
        pool.end(&taken[0]);
        let order: String = std::iter::from_fn(|| {
            let has_room = pool.has_room();
            has_room.then(|| pool.next(|| None).connection)
        })
        .collect();
        assert_eq!(order, "bab");
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

    #[test]
    fn a_connection_that_was_replaced_makes_no_room_when_it_ends() {
        let mut pool = Pool::new(vec![0], 1, Some(1));
        let first = pool.next(|| Some(1));
        let second = pool.next(|| None);
        assert_eq!((first.connection, second.connection), (0, 1));
        assert!(!pool.has_room());
        pool.end(&first);
        assert!(!pool.has_room(), "it is gone");
        pool.end(&second);
        assert!(pool.has_room());
    }
}
