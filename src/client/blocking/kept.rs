//! The connection that a client keeps between calls.

use std::sync::Arc;
use std::time::Instant;

use super::wire::Wire;
use crate::client::CallTarget;
use crate::client::core::backoff::Backoff;
use crate::wire::limits::Limits;
use crate::wire::status::Status;

/// A connection or none, and when the next one may be made.
#[derive(Debug)]
pub(super) struct Kept {
    /// `None` after a loss.
    wire: Option<Wire>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Kept {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire: Some(wire),
            backoff: Backoff::new(),
            not_before: None,
        }
    }

    /// A connection that works, as far as one can know before writing to it: what has arrived on the
    /// one that is kept was looked at. Waits for the time at which a new one may be made.
    pub(super) fn connected(
        &mut self,
        target: &CallTarget,
        limits: &Arc<Limits>,
        deadline: Instant,
    ) -> Result<&mut Wire, Status> {
        let is_usable = self.wire.as_mut().is_none_or(Wire::refresh);
        if !is_usable {
            self.give_up();
        }
        if self.wire.is_none() {
            self.pause(target, deadline)?;
            match Wire::open(target, limits, deadline) {
                Ok(wire) => self.wire = Some(wire),
                Err(status) => {
                    self.not_before = Some(Instant::now() + self.backoff.next());
                    return Err(status);
                }
            }
        }
        Ok(self.wire.as_mut().expect("it was just made"))
    }

    /// After a call: keeps the connection if it is in order.
    pub(super) fn settle(&mut self) {
        if self.wire.as_ref().is_some_and(|wire| !wire.is_usable()) {
            self.give_up();
        } else if self.wire.as_ref().is_some_and(Wire::has_served) {
            self.backoff.reset();
        }
    }

    fn give_up(&mut self) {
        let Some(wire) = self.wire.take() else {
            return;
        };
        if wire.has_served() {
            self.backoff.reset();
        }
        let pause = self.backoff.after_end(wire.invites_back());
        self.not_before = Some(Instant::now() + pause);
    }

    /// Waits until the next attempt to connect may begin.
    fn pause(&self, target: &CallTarget, deadline: Instant) -> Result<(), Status> {
        let Some(not_before) = self.not_before else {
            return Ok(());
        };
        let time = |until: Instant| until.saturating_duration_since(Instant::now());
        std::thread::sleep(time(not_before.min(deadline)));
        if deadline <= not_before {
            return Err(no_connection(target));
        }
        Ok(())
    }
}

/// The status of a call whose deadline has passed before there was a connection.
pub(super) fn no_connection(target: &CallTarget) -> Status {
    Status::deadline_exceeded(format!(
        "no connection to {target} in time; the call was not sent"
    ))
}
