//! The connection that a client keeps between calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::Wire;
use crate::client::CallTarget;
use crate::client::core::redial::Redial;
use crate::connection::link::nanos;
use crate::wire::limits::Limits;
use crate::wire::status::Status;

/// A connection or none, and when the next one may be made.
#[derive(Debug)]
pub(super) struct Kept {
    /// `None` after a loss.
    wire: Option<Wire>,
    redial: Redial,
    /// When the client was made: the clock of `redial` begins.
    start: Instant,
}

impl Kept {
    /// A connection that was just made. When to make another is drawn from `random`.
    pub(super) fn new(wire: Wire, random: fastrand::Rng) -> Self {
        Self {
            wire: Some(wire),
            redial: Redial::new(random),
            start: Instant::now(),
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
            self.give_up(target);
        }
        if self.wire.is_none() {
            self.pause(target, deadline)?;
            match Wire::open(target, limits, deadline) {
                Ok(wire) => self.wire = Some(wire),
                Err(status) => {
                    self.redial.ended(self.now_ns(), false, status.clone());
                    return Err(status);
                }
            }
        }
        Ok(self.wire.as_mut().expect("it was just made"))
    }

    /// After a call: keeps the connection if it is in order.
    pub(super) fn settle(&mut self, target: &CallTarget) {
        if self.wire.as_ref().is_some_and(|wire| !wire.is_usable()) {
            self.give_up(target);
        } else if self.wire.as_ref().is_some_and(Wire::has_served) {
            self.redial.served();
        }
    }

    fn give_up(&mut self, target: &CallTarget) {
        let Some(wire) = self.wire.take() else {
            return;
        };
        if wire.has_served() {
            self.redial.served();
        }
        let why = target.lost(&"it can't be used any more");
        self.redial.ended(self.now_ns(), wire.invites_back(), why);
    }

    /// Waits until the next attempt to connect may begin.
    fn pause(&self, target: &CallTarget, deadline: Instant) -> Result<(), Status> {
        let pause = Duration::from_nanos(self.redial.pause_ns(self.now_ns()));
        let left = deadline.saturating_duration_since(Instant::now());
        std::thread::sleep(pause.min(left));
        if left <= pause && !pause.is_zero() {
            return Err(no_connection(target));
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
    }
}

/// The status of a call whose deadline has passed before there was a connection.
pub(super) fn no_connection(target: &CallTarget) -> Status {
    Status::deadline_exceeded(format!(
        "no connection to {target} in time; the call was not sent"
    ))
}
