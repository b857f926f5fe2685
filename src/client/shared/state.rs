//! What the clones of a client and the drivers of its connections share, under one lock: the
//! calls' side of it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::link::Link;
use super::wakers::Wakers;
use crate::client::core::cause::Cause;
use crate::client::core::redial::Redial;
use crate::client::core::slots::{CallSlots, Outcome};
use crate::client::core::waiting::WaitQueue;
use crate::client::{CallTarget, perhaps_executed};
use crate::connection::client::Fate;
use crate::rpc::received::SharedPayload;
use crate::wire::limits::Limits;
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

/// Where calls go, those that wait to be sent, and those that wait for their outcome.
#[derive(Debug)]
pub(super) struct State {
    pub(super) route: Route,
    /// The one that calls go to, and earlier ones that still owe responses.
    pub(super) links: Vec<Link>,
    link_ids: u64,
    pub(super) calls: CallSlots<SharedPayload>,
    waiting: WaitQueue,
    pub(super) redial: Redial,
    /// The task of the last attempt to connect.
    pub(super) attempt: Option<AbortHandle>,
    /// Who is woken when the lock is released.
    pub(super) wakers: Wakers,
}

/// Where calls go.
#[derive(Debug)]
pub(super) enum Route {
    /// Nowhere yet: the next call connects.
    Idle,
    /// An attempt to connect is under way, or begins after its pause.
    Connecting,
    /// Nowhere: a connection or an attempt has ended, and a pause follows it.
    Backoff,
    /// To the link of this id.
    Open(u64),
    /// Nowhere any more: the last clone of the client is gone.
    Closed,
}

/// What becomes of a call that can't be sent now.
#[derive(Debug)]
pub(super) enum Detention {
    /// It waits, with this ticket.
    Wait(u64),
    /// It waits, and its caller starts an attempt to connect, not before this time has passed.
    Connect(u64, Duration),
    /// It ends.
    Fail(Status),
}

/// A call that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentCall {
    link: u64,
    call_id: u64,
    /// Its place among the `calls`.
    pub(super) slot: u32,
}

impl State {
    /// A client that has done nothing yet. When to connect again is drawn from `random`.
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self {
            route: Route::Idle,
            links: Vec::new(),
            link_ids: 0,
            calls: CallSlots::new(),
            waiting: WaitQueue::default(),
            redial: Redial::new(random),
            attempt: None,
            wakers: Wakers::default(),
        }
    }

    /// The place of the link on which a call may go now, in the order in which calls came. Its ticket, if
    /// it had one, is given back then.
    #[inline]
    pub(super) fn way(&mut self, ticket: Option<u64>) -> Option<usize> {
        let Route::Open(id) = self.route else {
            return None;
        };
        let at = self.place_of(id)?;
        if !self.waiting.may_go(ticket) || self.links[at].room() == 0 {
            return None;
        }
        if let Some(ticket) = ticket {
            self.waiting.leave(ticket);
        }
        Some(at)
    }

    /// Makes a call wait that has no [`State::way`], or says why it can't.
    #[cold]
    pub(super) fn detain(
        &mut self,
        ticket: Option<u64>,
        waits_for_ready: bool,
        now_ns: u64,
        waker: &Waker,
    ) -> Detention {
        let pause_ns = match &self.route {
            Route::Open(_) | Route::Connecting => {
                return Detention::Wait(self.waiting.wait(ticket, waker));
            }
            Route::Closed => return Detention::Fail(Status::cancelled("the client was dropped")),
            Route::Idle => 0,
            Route::Backoff => {
                let pause_ns = self.redial.pause_ns(now_ns);
                // One that has waited for the attempt fails with it, however late it is polled.
                if !waits_for_ready
                    && (ticket.is_some() || pause_ns > 0)
                    && let Some(refusal) = self.redial.refusal(now_ns)
                {
                    return Detention::Fail(refusal);
                }
                pause_ns
            }
        };
        self.route = Route::Connecting;
        let pause = Duration::from_nanos(pause_ns);
        Detention::Connect(self.waiting.wait(ticket, waker), pause)
    }

    /// Why the last attempt to connect has failed, unless another has begun.
    pub(super) fn failure(&self) -> Option<Status> {
        match &self.route {
            Route::Backoff => self.redial.why().cloned(),
            _ => None,
        }
    }

    /// Gives up waiting.
    pub(super) fn leave(&mut self, ticket: u64) {
        self.waiting.leave(ticket);
        self.call_waiting();
    }

    /// Sends a call on the link at this place: `encode` appends its payload to the send buffer, as
    /// in [`ClientConnection::begin_call`](crate::connection::client::ClientConnection::begin_call).
    /// `waker` is woken when it ends.
    #[inline]
    pub(super) fn send(
        &mut self,
        at: usize,
        service: &'static ServiceDescriptor,
        method: u16,
        timeout_us: u32,
        waker: &Waker,
        encode: impl FnOnce(&mut Vec<u8>, u32) -> Result<(), Status>,
    ) -> Result<SentCall, Status> {
        let slot = self.calls.next();
        let Link {
            id,
            connection,
            out,
            driver,
            ..
        } = &mut self.links[at];
        let link = *id;
        let call_id = connection.begin_call(service, method, timeout_us, slot, encode, out)?;
        self.calls.take(waker);
        if let Some(driver) = driver.take() {
            self.wakers.push(driver);
        }
        Ok(SentCall {
            link,
            call_id,
            slot,
        })
    }

    /// Gives up a call, and tells the server if the call has not ended. Returns who would have been woken, to
    /// be dropped when the lock is released.
    pub(super) fn cancel(&mut self, call: SentCall) -> Option<Waker> {
        let waker = self.calls.put(call.slot);
        let Some(at) = self.place_of(call.link) else {
            return waker;
        };
        let Link {
            connection, out, ..
        } = &mut self.links[at];
        if connection.cancel_call(call.call_id, out).is_some() {
            self.wake_driver(call.link);
            self.call_waiting();
        }
        waker
    }

    /// Asks the driver of a call's link to look into the socket. Gives a number for
    /// [`State::has_looked`], and wakes the waker then.
    pub(super) fn ask_look(&mut self, call: SentCall, waker: &Waker) -> u64 {
        // Without a link the call has ended.
        let Some(at) = self.place_of(call.link) else {
            return 0;
        };
        let link = &mut self.links[at];
        link.looks.asked += 1;
        link.looks.wakers.push(waker.clone());
        let number = link.looks.asked;
        let driver = link.driver.take().or_else(|| link.blocked_driver.take());
        self.wakers.extend(driver);
        number
    }

    /// Whether the driver has looked since it was asked.
    pub(super) fn has_looked(&self, call: SentCall, number: u64) -> bool {
        self.place_of(call.link)
            .is_none_or(|at| self.links[at].looks.done >= number)
    }

    /// Has what is queued on a link written, and the end of the link noticed.
    pub(super) fn wake_driver(&mut self, link_id: u64) {
        let at = self.place_of(link_id);
        if let Some(driver) = at.and_then(|at| self.links[at].driver.take()) {
            self.wakers.push(driver);
        }
    }

    /// Calls as many of those who wait as there is room for.
    pub(super) fn call_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if let Route::Open(id) = self.route
            && let Some(at) = self.place_of(id)
        {
            let room = self.links[at].room();
            self.waiting.call(room, |waker| self.wakers.push(waker));
        }
    }

    /// Changes where calls go, and has those who wait see it.
    pub(super) fn set_route(&mut self, route: Route) {
        if matches!(self.route, Route::Closed) {
            return;
        }
        self.route = route;
        match self.route {
            Route::Open(_) => self.call_waiting(),
            _ => self.waiting.call_all(|waker| self.wakers.push(waker)),
        }
    }

    /// An attempt to connect has failed.
    pub(super) fn set_failed(&mut self, status: Status, now_ns: u64) {
        self.set_ended(false, status, now_ns);
    }

    /// The connection that calls went to has ended, or takes no more. If `invites_back`, the next call
    /// connects at once, as long as connections are of use.
    pub(super) fn set_ended(&mut self, invites_back: bool, status: Status, now_ns: u64) {
        self.redial.ended(now_ns, invites_back, status);
        let is_at_once = self.redial.pause_ns(now_ns) == 0;
        self.set_route(if is_at_once {
            Route::Idle
        } else {
            Route::Backoff
        });
    }

    /// A connection was made; the handshake begins.
    pub(super) fn add_link(&mut self, limits: Arc<Limits>, now_ns: u64) -> u64 {
        self.link_ids += 1;
        self.links.push(Link::new(self.link_ids, limits, now_ns));
        self.link_ids
    }

    /// A connection has ended: so have the calls on it, and the next one connects anew.
    pub(super) fn remove_link(&mut self, id: u64, cause: &Cause, target: &CallTarget, now_ns: u64) {
        let Some(at) = self.place_of(id) else {
            return;
        };
        let mut link = self.links.swap_remove(at);
        let was_ready = link.connection.is_ready();
        let invites_back = cause.invites_back(was_ready);
        let status = if was_ready {
            target.lost(cause)
        } else {
            target.cannot_connect(cause)
        };
        let unsent_from = link.first_unsent();
        for (slot, fate) in link.connection.take_waiters(unsent_from, &status) {
            let outcome = match fate {
                Fate::NotSent(why) if invites_back => Outcome::not_sent(why),
                Fate::NotSent(why) | Fate::Failed(why) => Outcome::failed(why),
                Fate::Sent => Outcome::failed(perhaps_executed(&status)),
            };
            self.wakers.extend(self.calls.finish(slot, outcome));
        }
        self.wakers.extend(link.looks.wakers);
        match self.route {
            Route::Open(open) if open == id => self.set_ended(invites_back, status, now_ns),
            Route::Connecting if !was_ready => self.set_ended(invites_back, status, now_ns),
            _ => (),
        }
    }

    /// The last clone of the client is gone, and with it every call. Returns the attempt to
    /// connect that nobody waits for any more.
    pub(super) fn close(&mut self) -> Option<AbortHandle> {
        let is_connecting = matches!(self.route, Route::Connecting);
        self.set_route(Route::Closed);
        for link in &mut self.links {
            // Nobody waits for anything: a server that does not read has no more time than it is due.
            link.connection.link_mut().end();
            self.wakers.extend(link.driver.take());
            self.wakers.extend(link.blocked_driver.take());
        }
        self.attempt.take().filter(|_| is_connecting)
    }

    #[inline]
    pub(super) fn place_of(&self, link_id: u64) -> Option<usize> {
        self.links.iter().position(|link| link.id == link_id)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
