//! What the clones of a client and the drivers of its connections share: the drivers' side of it.

use std::task::Waker;

use bytes::Bytes;

use super::link::{Link, payload};
use super::state::{Dial, State};
use crate::client::CallTarget;
use crate::client::core::cause::Cause;
use crate::client::core::slots::Outcome;
use crate::connection::client::ClientEvent;
use crate::rpc::received::SharedPayload;
use crate::wire::goaway::Goaway;

/// What a driver does about its output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// It has taken bytes: write them.
    Write,
    /// Others are about to queue more: let them, and come again.
    Later,
    /// Look first whether the server has said or done something, and come again.
    Look,
    /// Start an attempt to connect beside this link, and come again.
    Connect,
    /// There is none, and whoever queues some wakes the driver. Look at the time limits at this
    /// time, in nanoseconds.
    Sleep { due_ns: u64 },
    /// There is none and will be none: close the connection.
    Finish,
}

/// What a driver does whose socket takes no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// When to look at the time limits, in nanoseconds.
    pub(super) due_ns: u64,
    /// Whether to look into the socket first.
    pub(super) must_look: bool,
}

impl State {
    /// Acts on received bytes. Says whether more of a large body follows; see `Framer::take_direct`.
    pub(super) fn receive(
        &mut self,
        id: u64,
        chunk: &Bytes,
        now_ns: u64,
        target: &CallTarget,
    ) -> Result<bool, Cause> {
        let mut used = 0;
        let mut ended = 0;
        loop {
            ended += self.take_responses(id, chunk, &mut used);
            let link = self.link(id);
            let event = link
                .connection
                .next_event(chunk, &mut used, now_ns, &mut link.out)
                .map_err(Cause::Violation)?;
            let (slot, outcome) = match event {
                Some(ClientEvent::Response { waiter, body }) => {
                    (waiter, Outcome::Answered(payload(body, chunk)))
                }
                Some(ClientEvent::Failed { waiter, status }) => (waiter, Outcome::failed(status)),
                Some(ClientEvent::NotSent { waiter, status }) => {
                    (waiter, Outcome::not_sent(status))
                }
                Some(ClientEvent::Ready) => {
                    self.open_link(id, now_ns);
                    continue;
                }
                Some(ClientEvent::Goaway(goaway)) => {
                    self.handle_goaway(id, goaway, now_ns, target)?;
                    continue;
                }
                None => break,
            };
            ended += 1;
            if let Some(waker) = self.calls.finish(slot, outcome) {
                self.wakers.push(waker);
            }
        }
        let link = self.link(id);
        link.ended_at_once = ended;
        link.read_ns = now_ns;
        let wants_direct = link.connection.link().wants_direct();
        if link.connection.has_served() && !std::mem::replace(&mut link.has_served, true) {
            self.redial.served();
            self.spread.served();
        }
        self.call_waiting();
        Ok(wants_direct)
    }

    /// Ends the calls whose responses lie whole in `chunk`, from `used` on, up to the first frame that is
    /// something else. Says how many.
    fn take_responses(&mut self, id: u64, chunk: &Bytes, used: &mut usize) -> usize {
        let at = self.place_of(id).expect("a driver has its link");
        let connection = &mut self.links[at].connection;
        let mut ended = 0;
        while let Some((slot, payload)) = connection.next_response(chunk, used) {
            let payload = SharedPayload::new(chunk.slice(payload));
            if let Some(waker) = self.calls.answer(slot, payload) {
                self.wakers.push(waker);
            }
            ended += 1;
        }
        ended
    }

    /// The server takes no more calls here: the next one goes to another link or connects anew, at once if
    /// the server shuts down as planned, which is how rolling restarts begin. One that sends each
    /// connection away without an answer is asked less and less often.
    fn handle_goaway(
        &mut self,
        id: u64,
        goaway: Goaway,
        now_ns: u64,
        target: &CallTarget,
    ) -> Result<(), Cause> {
        let is_ready = self.link(id).connection.is_ready();
        let invites_back = goaway.invites_back();
        let cause = Cause::Goaway(goaway);
        if !is_ready {
            return Err(cause);
        }
        let at = self.place_of(id).expect("a driver has its link");
        self.close_link(at, invites_back, target.lost(&cause), now_ns);
        Ok(())
    }

    /// Hands over what is queued, in exchange for an empty buffer. All that was handed over before
    /// has been written.
    pub(super) fn take_output(
        &mut self,
        id: u64,
        empty: &mut Vec<u8>,
        may_wait: bool,
        now_ns: u64,
        waker: &Waker,
    ) -> Output {
        if self.begin_further_if_busy(now_ns) {
            return Output::Connect;
        }
        let is_closed = matches!(self.dial, Dial::Closed);
        let link = self.link(id);
        link.unwritten_bytes = 0;
        link.connection.link_mut().note_output(false, true, now_ns);
        let output = if link.looks.asked > link.looks.done {
            return Output::Look;
        } else if link.out.is_empty() {
            if is_closed || link.is_surplus || link.connection.is_finished() {
                return Output::Finish;
            }
            match &mut link.driver {
                Some(driver) => driver.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            let limits_ns = link.connection.poll_timeout();
            let further_ns = self.further_due_ns().unwrap_or(u64::MAX);
            Output::Sleep {
                due_ns: limits_ns.min(further_ns),
            }
        } else if may_wait && (link.connection.calls_in_flight() > 1 || link.ended_at_once > 1) {
            // Several callers are at work, so more is likely to be queued in this round of tasks.
            // A multi-threaded runtime runs a woken driver before all others; with 64 tasks that
            // call in a loop, waiting for them takes 1.2 instead of 8 µs of CPU for a call.
            return Output::Later;
        } else if link.must_look(now_ns) {
            return Output::Look;
        } else {
            std::mem::swap(&mut link.out, empty);
            link.unwritten_bytes = empty.len();
            Output::Write
        };
        self.call_waiting();
        output
    }

    /// Begins a look into the socket; see [`Looks`](super::link::Looks).
    pub(super) fn begin_look(&mut self, id: u64) -> u64 {
        self.link(id).looks.asked
    }

    /// All that lay in the socket at `now_ns` was read.
    pub(super) fn end_look(&mut self, id: u64, begun: u64, now_ns: u64) {
        let link = self.link(id);
        link.looks.done = begun;
        link.read_ns = now_ns;
        if link.looks.asked == begun {
            let wakers = std::mem::take(&mut link.looks.wakers);
            self.wakers.extend(wakers);
        }
    }

    /// The socket takes no more for now. `waker` is woken for a look.
    pub(super) fn note_blocked(
        &mut self,
        id: u64,
        unwritten_bytes: usize,
        now_ns: u64,
        waker: &Waker,
    ) -> Blocked {
        let link = self.link(id);
        match &mut link.blocked_driver {
            Some(driver) => driver.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        let must_look = link.looks.asked > link.looks.done;
        let has_progressed = link.unwritten_bytes != unwritten_bytes;
        link.unwritten_bytes = unwritten_bytes;
        let due_ns = {
            let connection = &mut link.connection;
            connection
                .link_mut()
                .note_output(true, has_progressed, now_ns);
            connection.poll_timeout()
        };
        if has_progressed {
            self.call_waiting();
        }
        Blocked { due_ns, must_look }
    }

    /// Acts on time limits that are due. Says when to look again, in nanoseconds.
    pub(super) fn handle_timeout(&mut self, id: u64, now_ns: u64) -> Result<u64, Cause> {
        let link = self.link(id);
        link.connection
            .handle_timeout(now_ns, &mut link.out)
            .map_err(Cause::Violation)?;
        Ok(link.connection.poll_timeout())
    }

    /// What the server said when it stopped taking calls on a link, if that was it.
    pub(super) fn goaway(&self, id: u64) -> Option<Goaway> {
        let at = self.place_of(id)?;
        self.links[at].connection.goaway().cloned()
    }

    /// The link of a driver, which lives as long as the driver does.
    pub(super) fn link(&mut self, id: u64) -> &mut Link {
        let at = self.place_of(id).expect("a driver has its link");
        &mut self.links[at]
    }
}
