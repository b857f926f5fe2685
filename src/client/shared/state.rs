//! What the clones of a client and the drivers of its connections share, under one lock: the
//! calls' side of it.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::link::Link;
use super::wakers::Wakers;
use crate::client::core::cause::Cause;
use crate::client::core::redial::Redial;
use crate::client::core::slots::{CallSlots, Outcome};
use crate::client::core::spread::{CALLS_PER_CONNECTION, Spread, fewest};
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
    pub(super) dial: Dial,
    /// How many links calls go to.
    pub(super) spread: Spread,
    /// Those that calls go to, as many as are open says `spread`; then such that are being made, and
    /// earlier ones that still owe responses.
    pub(super) links: Vec<Link>,
    link_ids: u64,
    pub(super) calls: CallSlots<SharedPayload>,
    waiting: WaitQueue,
    pub(super) redial: Redial,
    /// The task of the attempt to connect that is under way, or of the last one.
    attempt: Option<AbortHandle>,
    /// Whether the last link has ended while an attempt was under way, and nobody had made a mistake.
    lost_meanwhile: bool,
    /// Who is woken when the lock is released.
    pub(super) wakers: Wakers,
}

/// How it stands with the next connection: there is one attempt at a time.
#[derive(Debug)]
pub(super) enum Dial {
    /// It is made when a call needs it.
    Idle,
    /// An attempt to connect is under way, or begins after its pause.
    Connecting,
    /// There is none that takes calls: the last one or an attempt has ended, and a pause follows it.
    Backoff,
    /// There will be none: the last clone of the client is gone.
    Closed,
}

/// What becomes of a call that can't be sent now.
#[derive(Debug)]
pub(super) enum Queued {
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
    pub(super) fn new(connections_max: usize, mut random: fastrand::Rng) -> Self {
        Self {
            dial: Dial::Idle,
            spread: Spread::new(connections_max, random.fork()),
            links: Vec::new(),
            link_ids: 0,
            calls: CallSlots::new(),
            waiting: WaitQueue::default(),
            redial: Redial::new(random),
            attempt: None,
            lost_meanwhile: false,
            wakers: Wakers::default(),
        }
    }

    /// The place of the link on which a call may go now, in the order in which calls came. Its ticket, if
    /// it had one, is given back then.
    #[inline]
    pub(super) fn pick_link(&mut self, ticket: Option<u64>) -> Option<usize> {
        if !self.waiting.may_go(ticket) {
            return None;
        }
        let at = match &self.links[..self.spread.open()] {
            [] => return None,
            [only] if only.room() == 0 => return None,
            [_] => 0,
            several => fewest(several.iter().map(Link::load))?,
        };
        if let Some(ticket) = ticket {
            self.leave_queue(ticket);
        }
        Some(at)
    }

    /// Makes a call wait that has no [`State::pick_link`], or says why it can't.
    #[cold]
    pub(super) fn queue_call(
        &mut self,
        ticket: Option<u64>,
        waits_for_ready: bool,
        now_ns: u64,
        waker: &Waker,
    ) -> Queued {
        let pause_ns = match &self.dial {
            Dial::Closed => return Queued::Fail(Status::cancelled("the client was dropped")),
            _ if self.spread.open() > 0 => {
                let must_dial = self.room() == 0 && self.begin_further(now_ns);
                let number = self.wait(ticket, waker);
                return match must_dial {
                    true => Queued::Connect(number, Duration::ZERO),
                    false => Queued::Wait(number),
                };
            }
            Dial::Connecting => return Queued::Wait(self.wait(ticket, waker)),
            Dial::Idle => 0,
            Dial::Backoff => {
                let pause_ns = self.redial.pause_ns(now_ns);
                // One that has waited for the attempt fails with it, however late it is polled.
                if !waits_for_ready
                    && (ticket.is_some() || pause_ns > 0)
                    && let Some(refusal) = self.redial.refusal(now_ns)
                {
                    return Queued::Fail(refusal);
                }
                pause_ns
            }
        };
        self.dial = Dial::Connecting;
        self.attempt = None;
        let pause = Duration::from_nanos(pause_ns);
        Queued::Connect(self.wait(ticket, waker), pause)
    }

    /// Why the last attempt to connect has failed, unless another has begun.
    pub(super) fn failure(&self) -> Option<Status> {
        match &self.dial {
            Dial::Backoff => self.redial.why().cloned(),
            _ => None,
        }
    }

    /// Gives up waiting.
    pub(super) fn leave(&mut self, ticket: u64) {
        self.leave_queue(ticket);
        self.call_waiting();
    }

    fn wait(&mut self, ticket: Option<u64>, waker: &Waker) -> u64 {
        let mut replaced = None;
        let number = self.waiting.wait(ticket, waker, &mut replaced);
        self.wakers.discard(replaced);
        number
    }

    fn leave_queue(&mut self, ticket: u64) {
        let waker = self.waiting.leave(ticket);
        self.wakers.discard(waker);
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

    /// Fetches the outcome of a call, or remembers whom to wake.
    #[inline(always)]
    pub(super) fn poll_outcome(
        &mut self,
        call: SentCall,
        waker: &Waker,
    ) -> Poll<Outcome<SharedPayload>> {
        let mut replaced = None;
        let polled = self.calls.poll(call.slot, waker, &mut replaced);
        self.wakers.discard(replaced);
        polled
    }

    /// Gives up a call, and tells the server if the call has not ended.
    pub(super) fn cancel(&mut self, call: SentCall) {
        let waker = self.calls.put(call.slot);
        self.wakers.discard(waker);
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
        if !self.waiting.is_empty() {
            let room = self.room();
            self.waiting.call(room, |waker| self.wakers.push(waker));
        }
    }

    /// Number of calls that may be sent now.
    fn room(&self) -> usize {
        let open = &self.links[..self.spread.open()];
        open.iter().map(Link::room).sum()
    }

    /// Whether there is so much to do for each link that another is of use, and the server has a shard for
    /// it. Then the caller starts an attempt to connect.
    pub(super) fn begin_further_if_busy(&mut self, now_ns: u64) -> bool {
        self.spread.has_place() && self.is_busy() && self.begin_further(now_ns)
    }

    /// When that is so again, if there is too much to do now and a pause runs.
    pub(super) fn further_due_ns(&self) -> Option<u64> {
        let may_begin = matches!(self.dial, Dial::Idle) && self.is_busy();
        self.spread.retry_ns().filter(|_| may_begin)
    }

    fn is_busy(&self) -> bool {
        let has_enough = |link: &Link| link.connection.calls_in_flight() >= CALLS_PER_CONNECTION;
        let open = &self.links[..self.spread.open()];
        open.iter().all(has_enough) || (!self.waiting.is_empty() && self.room() == 0)
    }

    /// Whether another link is to be made now, beside those that calls go to.
    fn begin_further(&mut self, now_ns: u64) -> bool {
        let begins = matches!(self.dial, Dial::Idle) && self.spread.wants_another(now_ns);
        if begins {
            self.dial = Dial::Connecting;
            self.attempt = None;
        }
        begins
    }

    /// Takes note of the task of an attempt that has begun. Says whether it is still wanted.
    pub(super) fn note_attempt(&mut self, attempt: AbortHandle) -> bool {
        self.attempt = Some(attempt);
        !matches!(self.dial, Dial::Closed)
    }

    /// Changes how it stands with the next connection, and has those who wait see it.
    pub(super) fn set_dial(&mut self, dial: Dial) {
        if matches!(self.dial, Dial::Closed) {
            return;
        }
        self.dial = dial;
        self.waiting.call_all(|waker| self.wakers.push(waker));
    }

    /// An attempt to connect has failed. If `invites_back`, the next call connects at once, as long as
    /// connections are of use. While there are others, only a further one waits.
    pub(super) fn attempt_failed(&mut self, invites_back: bool, status: Status, now_ns: u64) {
        // It was for a server that is gone since: the next one is the first after the loss.
        let invites_back = std::mem::take(&mut self.lost_meanwhile) || invites_back;
        if self.spread.open() == 0 {
            return self.set_ended(invites_back, status, now_ns);
        }
        tracing::debug!(error = status.message(), "no further connection");
        self.spread.failed(now_ns);
        if let Dial::Connecting = self.dial {
            self.dial = Dial::Idle;
        }
    }

    /// There is no runtime for the attempt to connect that a call has begun: the call fails, unless it can
    /// wait for others.
    pub(super) fn refuse_attempt(&mut self, status: Status, now_ns: u64) -> Result<(), Status> {
        if self.spread.open() > 0 {
            self.attempt_failed(false, status, now_ns);
            return Ok(());
        }
        self.set_dial(Dial::Idle);
        Err(status)
    }

    /// Nothing takes calls any more.
    fn set_ended(&mut self, invites_back: bool, status: Status, now_ns: u64) {
        self.redial.ended(now_ns, invites_back, status);
        let is_at_once = self.redial.pause_ns(now_ns) == 0;
        self.set_dial(if is_at_once {
            Dial::Idle
        } else {
            Dial::Backoff
        });
    }

    /// The handshake of a link is done: calls go to it, unless another has reached the same shard.
    pub(super) fn open_link(&mut self, id: u64, now_ns: u64) {
        if matches!(self.dial, Dial::Closed) {
            return;
        }
        self.dial = Dial::Idle;
        self.lost_meanwhile = false;
        let at = self.place_of(id).expect("a driver has its link");
        let first_closed = self.spread.open();
        if self.spread.opened(self.links[at].shard_index(), now_ns) {
            self.links.swap(at, first_closed);
        } else {
            self.links[at].is_surplus = true;
        }
        self.call_waiting();
    }

    /// Calls go to the link at this place no more, if they did. The others go on; without others the next
    /// call connects anew, unless an attempt is under way. Says where the link is now.
    pub(super) fn close_link(
        &mut self,
        at: usize,
        invites_back: bool,
        status: Status,
        now_ns: u64,
    ) -> usize {
        if at >= self.spread.open() {
            return at;
        }
        let shard_index = self.links[at].shard_index();
        self.spread.closed(shard_index, invites_back, now_ns);
        let last = self.spread.open();
        self.links.swap(at, last);
        if last == 0 {
            match self.dial {
                Dial::Connecting => self.lost_meanwhile = invites_back,
                _ => self.set_ended(invites_back, status, now_ns),
            }
        }
        last
    }

    /// A connection was made; the handshake begins.
    pub(super) fn add_link(&mut self, limits: Arc<Limits>, now_ns: u64) -> u64 {
        self.link_ids += 1;
        self.links.push(Link::new(self.link_ids, limits, now_ns));
        self.link_ids
    }

    /// A connection has ended, and so have the calls on it. Those of which nothing was sent go to another.
    pub(super) fn remove_link(&mut self, id: u64, cause: &Cause, target: &CallTarget, now_ns: u64) {
        let Some(at) = self.place_of(id) else {
            return;
        };
        let was_ready = self.links[at].connection.is_ready();
        let invites_back = cause.invites_back(was_ready);
        let status = if was_ready {
            target.lost(cause)
        } else {
            target.cannot_connect(cause)
        };
        let at = self.close_link(at, invites_back, status.clone(), now_ns);
        let mut link = self.links.swap_remove(at);
        let is_made_again = invites_back || self.spread.open() > 0;
        let unsent_from = link.first_unsent();
        for (slot, fate) in link.connection.take_waiters(unsent_from, &status) {
            let outcome = match fate {
                Fate::NotSent(why) if is_made_again => Outcome::not_sent(why),
                Fate::NotSent(why) | Fate::Failed(why) => Outcome::failed(why),
                Fate::Sent => Outcome::failed(perhaps_executed(&status)),
            };
            self.wakers.extend(self.calls.finish(slot, outcome));
        }
        self.wakers.extend(link.looks.wakers);
        if !was_ready {
            self.attempt_failed(invites_back, status, now_ns);
        }
    }

    /// The last clone of the client is gone, and with it every call. Returns the attempt to
    /// connect that nobody waits for any more.
    pub(super) fn close(&mut self) -> Option<AbortHandle> {
        let is_connecting = matches!(self.dial, Dial::Connecting);
        self.set_dial(Dial::Closed);
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
