//! What the clones of a client and the drivers of its connections share, under one lock: the
//! calls' side of it.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::task::AbortHandle;

use super::link::Link;
use super::waiting::WaitQueue;
use super::wakers::Wakers;
use crate::client::CallTarget;
use crate::client::backoff::Backoff;
use crate::client::cause::Cause;
use crate::client::slots::CallSlots;
use crate::proto::limits::Limits;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::received::SharedPayload;

/// Where calls go, those that wait to be sent, and those that wait for their outcome.
#[derive(Debug)]
pub(super) struct State {
    pub(super) route: Route,
    /// The one that calls go to, and earlier ones that still owe responses.
    pub(super) links: Vec<Link>,
    link_ids: u64,
    pub(super) calls: CallSlots<SharedPayload>,
    waiting: WaitQueue,
    pub(super) backoff: Backoff,
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
    /// An attempt has failed, and the next must not begin before this time.
    Backoff { until: Instant, status: Status },
    /// To the link of this id.
    Open(u64),
    /// Nowhere any more: the last clone of the client is gone.
    Closed,
}

/// What becomes of a call that wants to be sent.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is sent on the link at this place.
    Go(usize),
    /// It waits, with this ticket.
    Wait(u64),
    /// It waits, and its caller starts an attempt to connect, not before the given time.
    Connect(u64, Option<Instant>),
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
    pub(super) fn new() -> Self {
        Self {
            route: Route::Idle,
            links: Vec::new(),
            link_ids: 0,
            calls: CallSlots::new(),
            waiting: WaitQueue::default(),
            backoff: Backoff::new(),
            attempt: None,
            wakers: Wakers::default(),
        }
    }

    /// Lets a call go, or makes it wait, in the order in which calls came.
    pub(super) fn admit(
        &mut self,
        ticket: Option<u64>,
        waits_for_ready: bool,
        waker: &Waker,
    ) -> Admission {
        let not_before = match &self.route {
            Route::Open(id) => {
                let at = self.place_of(*id).expect("the route leads to a link");
                if self.waiting.may_go(ticket) && self.links[at].room() > 0 {
                    if let Some(ticket) = ticket {
                        self.waiting.leave(ticket);
                    }
                    return Admission::Go(at);
                }
                return Admission::Wait(self.waiting.wait(ticket, waker));
            }
            Route::Connecting => return Admission::Wait(self.waiting.wait(ticket, waker)),
            Route::Closed => return Admission::Fail(Status::cancelled("the client was dropped")),
            Route::Idle => None,
            Route::Backoff { until, status } => {
                let pause = until.saturating_duration_since(Instant::now());
                // One that has waited for the attempt fails with it, however late it is polled.
                if !waits_for_ready && (ticket.is_some() || !pause.is_zero()) {
                    return Admission::Fail(Status::unavailable(format!(
                        "{}; the next attempt is in {pause:.0?}",
                        status.message()
                    )));
                }
                Some(*until)
            }
        };
        self.route = Route::Connecting;
        Admission::Connect(self.waiting.wait(ticket, waker), not_before)
    }

    /// Why the last attempt to connect has failed, unless another has begun.
    pub(super) fn failure(&self) -> Option<Status> {
        match &self.route {
            Route::Backoff { status, .. } => Some(status.clone()),
            _ => None,
        }
    }

    /// Gives up waiting.
    pub(super) fn leave(&mut self, ticket: u64) {
        self.waiting.leave(ticket);
        self.call_waiting();
    }

    /// Sends a call on the link at this place: `encode` appends its payload to the send buffer, as
    /// in [`ClientConnection::begin_call`](crate::proto::client::ClientConnection::begin_call).
    pub(super) fn send(
        &mut self,
        at: usize,
        service: &'static ServiceDescriptor,
        method: u16,
        timeout_us: u32,
        encode: impl FnOnce(&mut Vec<u8>, u32) -> Result<(), Status>,
    ) -> Result<SentCall, Status> {
        let slot = self.calls.take();
        let Link {
            id,
            connection,
            out,
            ..
        } = &mut self.links[at];
        match connection.begin_call(service, method, timeout_us, slot, encode, out) {
            Ok(call_id) => {
                let link = *id;
                self.wake_driver(link);
                Ok(SentCall {
                    link,
                    call_id,
                    slot,
                })
            }
            Err(status) => {
                self.calls.put(slot);
                Err(status)
            }
        }
    }

    /// Fetches the outcome of a call, which then has no place any more.
    pub(super) fn poll_outcome(
        &mut self,
        slot: u32,
        cx: &Context<'_>,
    ) -> Poll<Result<SharedPayload, Status>> {
        let polled = self.calls.poll(slot, cx);
        if polled.is_ready() {
            self.calls.put(slot);
        }
        polled
    }

    /// Gives up a call, and tells the server if the call has not ended.
    pub(super) fn cancel(&mut self, call: SentCall) {
        self.calls.put(call.slot);
        let Some(at) = self.place_of(call.link) else {
            return;
        };
        let Link {
            connection, out, ..
        } = &mut self.links[at];
        if connection.cancel_call(call.call_id, out).is_some() {
            self.wake_driver(call.link);
            self.call_waiting();
        }
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

    /// An attempt to connect, or a connection that never worked, has failed.
    pub(super) fn set_failed(&mut self, status: Status) {
        let until = Instant::now() + self.backoff.next();
        self.set_route(Route::Backoff { until, status });
    }

    /// A connection was made; the handshake begins.
    pub(super) fn add_link(&mut self, limits: Arc<Limits>, now_ns: u64) -> u64 {
        self.link_ids += 1;
        self.links.push(Link::new(self.link_ids, limits, now_ns));
        self.link_ids
    }

    /// A connection has ended: so have the calls on it, and the next one connects anew.
    pub(super) fn remove_link(&mut self, id: u64, cause: &Cause, target: &CallTarget) {
        let Some(at) = self.place_of(id) else {
            return;
        };
        let mut link = self.links.swap_remove(at);
        let was_ready = link.connection.is_ready();
        let status = if was_ready {
            target.lost(cause)
        } else {
            target.cannot_connect(cause)
        };
        for slot in link.connection.take_waiters() {
            let status = Status::unavailable(format!(
                "{}; whether the call was executed is not known",
                status.message()
            ));
            if let Some(waker) = self.calls.finish(slot, Err(status)) {
                self.wakers.push(waker);
            }
        }
        match self.route {
            Route::Open(open) if open == id && link.has_served => self.set_route(Route::Idle),
            Route::Open(open) if open == id => self.set_failed(status),
            Route::Connecting if !was_ready => self.set_failed(status),
            _ => (),
        }
    }

    /// The last clone of the client is gone, and with it every call. Returns the attempt to
    /// connect that nobody waits for any more.
    pub(super) fn close(&mut self) -> Option<AbortHandle> {
        let is_connecting = matches!(self.route, Route::Connecting);
        self.set_route(Route::Closed);
        for link in &mut self.links {
            if let Some(driver) = link.driver.take() {
                self.wakers.push(driver);
            }
        }
        self.attempt.take().filter(|_| is_connecting)
    }

    pub(super) fn place_of(&self, link_id: u64) -> Option<usize> {
        self.links.iter().position(|link| link.id == link_id)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
