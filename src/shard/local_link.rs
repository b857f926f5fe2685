//! The client's end of a connection of a shard: what its answers and its end do to the calls on it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use super::ShardCore;
use super::conn::Conn;
use crate::buf::{Chunk, SendQueue};
use crate::client::core::slots::{CallSlots, Outcome};
use crate::client::core::target::Target;
use crate::client::core::waiting::WaitQueue;
use crate::client::perhaps_executed;
use crate::connection::client::{ClientConnection, ClientEvent, Fate};
use crate::connection::lifecycle::Stage;
use crate::connection::{Connection, Role};
use crate::planted_bugs::{Bug, is_planted};
use crate::wire::status::Status;
use crate::wire::violation::Violation;

/// The calls that wait on a client's connection of this shard.
#[derive(Debug)]
pub(crate) struct LocalLink {
    pub(super) calls: CallSlots<Chunk>,
    /// The calls of the client that wait for room.
    pub(super) waiting: Rc<RefCell<WaitQueue>>,
    making: Box<Making>,
    /// The first call of what the engine had taken but did not begin to send before the end.
    unwritten_from: Option<u64>,
    /// When bytes of the server were last acted on.
    read_ns: u64,
    /// Set when the server takes no more calls here.
    pub(super) ended: Option<Box<Ended>>,
}

/// How the connection is made.
#[derive(Debug)]
struct Making {
    /// Addresses of the host that are left to connect to, and what was wrong with those before.
    untried: std::vec::IntoIter<Target>,
    failures: String,
}

/// How a connection came to take no more calls.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) at_ns: u64,
    /// Whether nobody has made a mistake, so that a new connection likely works.
    pub(super) invites_back: bool,
    pub(super) status: Status,
}

/// After so long without a look at a connection, what is to be sent waits for one: a handler may have held
/// the thread, or the program was stopped.
const QUIET_NS: u64 = 1_000_000;

impl LocalLink {
    /// As many of the calls that wait as there is room for, to be woken when nothing is borrowed any more:
    /// a waker may be the program's own.
    fn called(&self, connection: &Connection) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if !self.waiting.borrow().is_empty() && self.ended.is_none() {
            let room = connection.with_client(|client, output| client.room(output.len()));
            let mut waiting = self.waiting.borrow_mut();
            waiting.call(room.unwrap_or(0), |waker| wakers.push(waker));
        }
        wakers
    }

    /// Notes that the server takes no more calls here, unless that was so before.
    fn end(&mut self, at_ns: u64, invites_back: bool, status: Status) {
        self.ended.get_or_insert_with(|| {
            Box::new(Ended {
                at_ns,
                invites_back,
                status,
            })
        });
    }
}

impl Conn {
    /// Whether the engine must look into the socket before it sends what is queued: a call whose
    /// connection had ended before goes to another.
    #[inline]
    pub(crate) fn must_look_first(&self) -> bool {
        !self.is_server() && self.client_must_look_first()
    }

    /// Wakes as many of a client's calls that wait as there is room for.
    #[inline]
    pub(super) fn call_waiting(&self) {
        if let Some(calls) = &self.client {
            let called = calls.borrow().called(self);
            called.into_iter().for_each(|waker| self.shard.wake(waker));
        }
    }

    /// Whether the handshake of a client's connection is done.
    pub(super) fn is_client_ready(&self) -> bool {
        self.with_client(|client, _| client.is_ready()) == Some(true)
    }

    /// Says, before a connection ends, with which call begins what the engine had taken and not begun to
    /// send.
    #[cold]
    pub(crate) fn note_unwritten(&self, first_call: Option<u64>) {
        if let Some(client) = &self.client {
            client.borrow_mut().unwritten_from = first_call;
        }
    }

    fn client_must_look_first(&self) -> bool {
        let begins_anew = |client: &mut ClientConnection<u32>, output: &mut SendQueue| {
            output.has_ready().then(|| client.take_begins_anew())
        };
        let (Some(calls), Some(begins_anew)) =
            (&self.client, self.with_client(begins_anew).flatten())
        else {
            return false;
        };
        let read_ns = calls.borrow().read_ns;
        begins_anew || self.shard.clock.now_ns().saturating_sub(read_ns) > QUIET_NS
    }
}

impl ShardCore {
    /// Acts on each frame that a server has sent. Stops when the bytes are used up or when the
    /// connection ends. Unlike a server it does not stop when its own output waits: what it has asked
    /// for is bounded, and the server may wait for it to read.
    pub(super) fn complete(
        &self,
        conn: &Rc<Conn>,
        bytes: &[u8],
        chunk: Option<&Chunk>,
        at: &mut usize,
    ) -> Result<(), Violation> {
        let Some(calls) = &conn.client else {
            return Ok(());
        };
        while conn.stage() == Stage::Open {
            let next = conn.with_client(|client, output| {
                client.next_event(bytes, at, self.patience_ns(), output.filling())
            });
            let (waiter, outcome) = match next.transpose()?.flatten() {
                Some(ClientEvent::Response { waiter, body }) => {
                    let payload = self.payload(conn, body, bytes, chunk);
                    (waiter, Outcome::Answered(payload))
                }
                Some(ClientEvent::Failed { waiter, status }) => (waiter, Outcome::failed(status)),
                Some(ClientEvent::NotSent { waiter, status }) => {
                    (waiter, Outcome::not_sent(status))
                }
                Some(ClientEvent::Goaway(_)) if is_planted(Bug::GoawayIgnored) => continue,
                Some(ClientEvent::Goaway(goaway)) => {
                    let invites_back =
                        goaway.reason == 0 || (conn.is_client_ready() && goaway.invites_back());
                    let reason = Violation::reason_name(goaway.reason);
                    let status = Status::unavailable(format!(
                        "{} ended the connection ({reason}: {})",
                        conn.peer, goaway.message
                    ));
                    let mut called = Vec::new();
                    {
                        let mut calls = calls.borrow_mut();
                        calls.end(self.now_ns(), invites_back, status);
                        let mut waiting = calls.waiting.borrow_mut();
                        waiting.call_all(|waker| called.push(waker));
                    }
                    called.into_iter().for_each(|waker| self.wake(waker));
                    continue;
                }
                Some(ClientEvent::Ready) => continue,
                None => {
                    calls.borrow_mut().read_ns = self.now_ns();
                    break;
                }
            };
            let waker = calls.borrow_mut().calls.finish(waiter, outcome);
            if let Some(waker) = waker {
                self.wake(waker);
            }
        }
        self.after_calls(conn);
        Ok(())
    }

    /// After calls of a client have ended: others have their turn, and a connection that the server has
    /// retired is closed when it has none left.
    pub(super) fn after_calls(&self, conn: &Rc<Conn>) {
        let Some(calls) = &conn.client else {
            return;
        };
        if conn.with_client(|client, _| client.is_finished()) != Some(true) {
            return conn.call_waiting();
        }
        let ended = calls.borrow().ended.clone();
        if let Some(ended) = ended
            && conn.stage() == Stage::Open
        {
            self.end(conn, Stage::Closing, &ended.status);
        }
    }

    /// Says of a client's connection, before it ends, whether a new one likely works.
    pub(super) fn note_end(&self, conn: &Rc<Conn>, invites_back: bool, status: &Status) {
        if let Some(calls) = &conn.client {
            let invites_back = invites_back && conn.is_client_ready();
            let mut calls = calls.borrow_mut();
            calls.end(self.now_ns(), invites_back, status.clone());
        }
    }

    /// Makes a connection of a local client.
    pub(super) fn connect(
        self: &Rc<Self>,
        name: &str,
        targets: Vec<Target>,
        waiting: Rc<RefCell<WaitQueue>>,
    ) -> Rc<Conn> {
        let mut hello = Vec::new();
        let limits = Arc::clone(&self.config.limits);
        let now_ns = self.clock.now_ns();
        let connection = ClientConnection::new(limits, self.patience_ns(), &mut hello);
        let mut untried = targets.into_iter();
        let first = untried.next().expect("a host has an address");
        let link = LocalLink {
            calls: CallSlots::new(),
            waiting,
            making: Box::new(Making {
                untried,
                failures: String::new(),
            }),
            unwritten_from: None,
            read_ns: now_ns,
            ended: None,
        };
        let conn = self.insert(
            name.into(),
            first.transport,
            Role::Client(connection),
            Some(link),
        );
        *conn.output_mut().filling() = hello;
        self.connects.borrow_mut().push((Rc::clone(&conn), first));
        self.arm_timer(&conn);
        conn
    }

    /// An address of a local client's host could not be connected to: the next one is tried. After
    /// the last, the connection and all calls that wait for it end. The engine must have given up
    /// the socket before.
    pub(crate) fn connect_failed(&self, conn: &Rc<Conn>, error: &std::io::Error) {
        debug_assert_eq!(conn.engine_slot.get(), u32::MAX);
        let (next, failures) = {
            let calls = conn.client.as_ref().expect("servers connect to nobody");
            let mut calls = calls.borrow_mut();
            let Making { untried, failures } = &mut *calls.making;
            let separator = if failures.is_empty() { "" } else { "; " };
            *failures += &format!("{separator}{error}");
            (untried.next(), failures.clone())
        };
        match next {
            Some(target) if conn.stage() == Stage::Open => {
                self.connects.borrow_mut().push((Rc::clone(conn), target));
            }
            _ => {
                let text = format!("can't connect to {}: {failures}", conn.peer);
                let status = Status::unavailable(text);
                self.note_end(conn, false, &status);
                self.end(conn, Stage::Closing, &status);
            }
        }
    }
}

/// Ends every call that waits on a client's connection, which has ended. Those of which nothing was
/// sent go to another connection; what the engine has taken counts as sent unless it says otherwise.
pub(super) fn end_calls(conn: &Rc<Conn>, status: &Status) {
    let Some(client) = &conn.client else {
        return;
    };
    let mut wakers = Vec::new();
    let mut calls = client.borrow_mut();
    calls.end(conn.shard.now_ns(), false, status.clone());
    let invites_back = calls.ended.as_ref().is_some_and(|it| it.invites_back);
    let unwritten_from = calls.unwritten_from;
    let fates = conn.with_client(|client, output| {
        let unsent_from = unwritten_from.or(client.first_unsent(output.filling()));
        client.take_waiters(unsent_from, status)
    });
    for (waiter, fate) in fates.into_iter().flatten() {
        let outcome = match fate {
            Fate::NotSent(why) if invites_back => Outcome::not_sent(why),
            Fate::NotSent(why) | Fate::Failed(why) => Outcome::failed(why),
            Fate::Sent => Outcome::failed(perhaps_executed(status)),
        };
        wakers.extend(calls.calls.finish(waiter, outcome));
    }
    let waiting = Rc::clone(&calls.waiting);
    drop(calls);
    waiting.borrow_mut().call_all(|waker| wakers.push(waker));
    wakers.into_iter().for_each(|waker| conn.shard.wake(waker));
}
