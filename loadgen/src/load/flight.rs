//! The calls of one thread: which is due, which is in flight, and what became of each.
//!
//! It neither calls nor looks at a clock: it takes what happened and the time, so that it runs the
//! same in a test with an invented clock.

use std::mem;

use super::record::Record;
use super::room::Room;
use super::schedule::{Cursor, Schedule};
use super::slices::Slices;
use super::work::Work;
use crate::results::{Kind, Pauses};

/// What decides when the next call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// The schedule, whatever the answers do.
    Open,
    /// So many callers, each of which waits for its answer.
    Closed {
        /// Their number on this thread.
        callers: usize,
    },
}

/// The time that is measured, in nanoseconds since the beginning of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning; what is due before is warm-up.
    pub from_ns: u64,
    /// Its end; nothing is due from then on.
    pub until_ns: u64,
}

/// A call to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueCall {
    /// Its name, until its end.
    pub slot: u32,
    /// What it asks for.
    pub work: Work,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// With an answer.
    Ok,
    /// With an error.
    Error {
        /// Why.
        text: String,
        /// Whether the server said so, and not the client here.
        is_of_server: bool,
    },
    /// Not within the time-out.
    Timeout,
}

/// The calls of one thread.
///
/// *Inputs*: [`Flight::handle_turn`] once in each turn of the driver, [`Flight::handle_end`] when a
/// call has ended, [`Flight::handle_close`] at the end. *Outputs*: [`Flight::poll_due`], until it
/// gives nothing; [`Flight::swap_record`] at the end of each interval.
#[derive(Debug)]
pub struct Flight {
    schedule: Schedule,
    pacing: Pacing,
    window: Window,
    in_flight_max: usize,
    /// The next call to be made.
    to_send: Cursor,
    /// The next call that was not seen to be due.
    to_count: Cursor,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The calls in flight in the order of their sending, through their slots: the one that has waited
    /// longest, and the one that was sent last.
    oldest: u32,
    newest: u32,
    /// Calls that were due up to the last turn, and those that have ended.
    due: u64,
    ended: u64,
    /// Calls made by a closed loop.
    made: usize,
    /// A closed loop pauses until then, because calls fail at once.
    pause_until_ns: u64,
    last_turn_ns: u64,
    last_outstanding: u64,
    /// Calls that a closed loop has begun since the last turn, and calls that have ended.
    begun: Moments,
    finished: Moments,
    room: Room,
    record: Box<Record>,
    slices: Option<Slices>,
}

/// Moments since the last turn.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: u64,
    sum_ns: u64,
}

impl Moments {
    #[inline]
    fn add(&mut self, at_ns: u64) {
        self.count += 1;
        self.sum_ns += at_ns;
    }

    /// Time since each of them, summed up.
    fn waited_ns(self, now_ns: u64) -> u64 {
        (self.count * now_ns).saturating_sub(self.sum_ns)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    intended_ns: u64,
    sent_ns: u64,
    method: u8,
    is_in_flight: bool,
    is_expired: bool,
    /// Neighbours in the order of sending, or [`NONE`].
    older: u32,
    newer: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

impl Flight {
    /// No calls yet.
    pub fn new(
        schedule: Schedule,
        pacing: Pacing,
        window: Window,
        in_flight_max: usize,
        methods: usize,
    ) -> Self {
        let in_flight_max = match pacing {
            Pacing::Open => in_flight_max,
            Pacing::Closed { callers } => callers.min(in_flight_max),
        };
        let slot = Slot {
            intended_ns: 0,
            sent_ns: 0,
            method: 0,
            is_in_flight: false,
            is_expired: false,
            older: NONE,
            newer: NONE,
        };
        Self {
            schedule,
            pacing,
            window,
            in_flight_max,
            to_send: Cursor::default(),
            to_count: Cursor::default(),
            slots: vec![slot; in_flight_max],
            free: (0..in_flight_max as u32).rev().collect(),
            oldest: NONE,
            newest: NONE,
            due: 0,
            ended: 0,
            made: 0,
            pause_until_ns: 0,
            last_turn_ns: 0,
            last_outstanding: 0,
            begun: Moments::default(),
            finished: Moments::default(),
            room: Room::new(window),
            record: Box::new(Record::new(methods)),
            slices: None,
        }
    }

    /// Counts slow calls by slices of the window as well.
    pub fn slice_by(&mut self, limits_ns: &[u64]) {
        self.slices = Slices::new(self.window, limits_ns);
    }

    /// The slices of the whole load, at its end.
    pub fn take_slices(&mut self) -> Option<Slices> {
        self.slices.take()
    }

    /// Most calls that are in flight at once.
    pub fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// A turn begins: sees which calls have come due since the last, sent or not.
    pub fn handle_turn(&mut self, now_ns: u64) {
        let mut waited_ns = self.last_outstanding * (now_ns - self.last_turn_ns);
        if self.pacing == Pacing::Open {
            self.room.count(now_ns, &mut self.record.full_cap);
            waited_ns += self.count_due(now_ns);
            self.schedule.release_before(&self.to_send, &self.to_count);
        }
        // What has ended since, or was begun by a closed loop, counts up to or from its moment.
        waited_ns += self.begun.waited_ns(now_ns);
        waited_ns -= self.finished.waited_ns(now_ns);
        (self.begun, self.finished) = (Moments::default(), Moments::default());
        let from_ns = self.last_turn_ns.max(self.window.from_ns);
        let measured_ns = now_ns.min(self.window.until_ns).saturating_sub(from_ns);
        if measured_ns > 0 {
            let share = measured_ns as f64 / (now_ns - self.last_turn_ns) as f64;
            self.record.in_flight_ns += waited_ns as f64 * share;
        }
        (self.last_turn_ns, self.last_outstanding) = (now_ns, self.due - self.ended);
    }

    /// Sees what has come due, and returns for how long it has been.
    fn count_due(&mut self, now_ns: u64) -> u64 {
        let mut waited_ns = 0;
        loop {
            let mut next = self.to_count;
            let Some(call) = self.schedule.next(&mut next) else {
                return waited_ns;
            };
            if call.intended_ns > now_ns || call.intended_ns >= self.window.until_ns {
                return waited_ns;
            }
            self.to_count = next;
            self.due += 1;
            waited_ns += now_ns - call.intended_ns;
            if call.intended_ns >= self.window.from_ns {
                let method = usize::from(call.work.method);
                self.record.methods[method].counts.scheduled += 1;
            }
        }
    }

    /// The next call to be made at this time, if one is due and fewer than permitted are in flight.
    /// Otherwise it waits, and its clock runs.
    #[inline]
    pub fn poll_due(&mut self, now_ns: u64) -> Option<DueCall> {
        let &slot = self.free.last()?;
        let (intended_ns, work) = match self.pacing {
            Pacing::Open => {
                let mut next = self.to_send;
                let call = self.schedule.next(&mut next)?;
                if call.intended_ns > now_ns || call.intended_ns >= self.window.until_ns {
                    self.room.none_waits();
                    return None;
                }
                self.to_send = next;
                (call.intended_ns, call.work)
            }
            Pacing::Closed { .. } => (now_ns, self.next_of_closed_loop(now_ns)?),
        };
        self.free.pop();
        self.slots[slot as usize] = Slot {
            intended_ns,
            sent_ns: now_ns,
            method: work.method,
            is_in_flight: true,
            is_expired: false,
            older: self.newest,
            newer: NONE,
        };
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.slots[newest as usize].newer = slot,
        }
        self.newest = slot;
        if self.is_measured(intended_ns) {
            let waited_ns = self.room.waited_ns(intended_ns, now_ns);
            let tally = &mut self.record.methods[usize::from(work.method)];
            tally.counts.sent += 1;
            tally.times.record(Kind::RoomWait, waited_ns);
            tally
                .times
                .record(Kind::OwnLag, now_ns - intended_ns - waited_ns);
            self.record.full_cap.waited += u64::from(waited_ns > 0);
        }
        if self.free.is_empty() && self.pacing == Pacing::Open {
            self.room.fill(now_ns);
        }
        Some(DueCall { slot, work })
    }

    fn next_of_closed_loop(&mut self, now_ns: u64) -> Option<Work> {
        if now_ns >= self.window.until_ns || now_ns < self.pause_until_ns {
            return None;
        }
        let work = self.schedule.work(self.made);
        self.made += 1;
        self.due += 1;
        self.begun.add(now_ns);
        if self.is_measured(now_ns) {
            let method = usize::from(work.method);
            self.record.methods[method].counts.scheduled += 1;
        }
        Some(work)
    }

    /// A call has ended.
    #[inline]
    pub fn handle_end(&mut self, slot: u32, end: CallResult, now_ns: u64) {
        let call = &mut self.slots[slot as usize];
        debug_assert!(call.is_in_flight, "a call ends once");
        call.is_in_flight = false;
        let call = *call;
        if !call.is_expired {
            self.unlink(slot);
        }
        self.free.push(slot);
        self.room.free(now_ns, &mut self.record.full_cap);
        self.ended += 1;
        self.finished.add(now_ns);
        if end == CallResult::Ok {
            self.record.answered += u64::from(self.is_measured(now_ns));
        } else {
            self.pause_until_ns = now_ns + ERROR_PAUSE_NS;
        }
        if !self.is_measured(call.intended_ns) {
            return;
        }
        let tally = &mut self.record.methods[usize::from(call.method)];
        match end {
            CallResult::Ok => tally.counts.ok += 1,
            CallResult::Timeout => tally.counts.timeout += 1,
            CallResult::Error { text, is_of_server } => {
                tally.counts.error += 1;
                self.record.failures.add(&text, is_of_server, 1);
                return;
            }
        }
        let service_ns = now_ns.saturating_sub(call.sent_ns);
        tally.times.record(Kind::Service, service_ns);
        self.record_response(call.method, call.intended_ns, now_ns);
    }

    /// A call has waited from its intended time up to now.
    #[inline]
    fn record_response(&mut self, method: u8, intended_ns: u64, now_ns: u64) {
        let response_ns = now_ns.saturating_sub(intended_ns);
        let tally = &mut self.record.methods[usize::from(method)];
        tally.times.record(Kind::Response, response_ns);
        if let Some(slices) = &mut self.slices {
            slices.record(intended_ns, response_ns);
        }
    }

    /// Names each call in flight that was sent at or before this time, once, so that it can be given up.
    /// However many may be in flight, only these are looked at.
    pub fn expire(&mut self, sent_until_ns: u64, mut found: impl FnMut(u32)) {
        while self.oldest != NONE && self.slots[self.oldest as usize].sent_ns <= sent_until_ns {
            let slot = self.oldest;
            self.unlink(slot);
            self.slots[slot as usize].is_expired = true;
            found(slot);
        }
    }

    /// Takes a call out of the order of sending.
    #[inline]
    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    /// Whether a call in flight was named by [`Flight::expire`].
    #[inline]
    pub fn is_expired(&self, slot: u32) -> bool {
        self.slots[slot as usize].is_expired
    }

    /// Whether everything has been made and has ended.
    pub fn is_over(&self, now_ns: u64) -> bool {
        let all_sent = match self.pacing {
            Pacing::Open => self.to_send.is_at(&self.to_count) && !self.schedule.is_starved(),
            Pacing::Closed { .. } => true,
        };
        now_ns >= self.window.until_ns && all_sent && self.free.len() == self.in_flight_max
    }

    /// Calls that were due up to the last turn and wait to be sent.
    pub fn backlog(&self) -> u64 {
        let in_flight = self.in_flight_max - self.free.len();
        (self.due - self.ended).saturating_sub(in_flight as u64)
    }

    /// Nothing more is due from now on: somebody wants the load to end.
    pub fn handle_stop(&mut self, now_ns: u64) {
        self.window.until_ns = self.window.until_ns.min(now_ns + 1);
    }

    /// The thread did not read its clock between these times.
    #[cold]
    pub fn note_pause(&mut self, from_ns: u64, until_ns: u64) {
        if let Some(slices) = &mut self.slices {
            slices.disturb(from_ns, until_ns);
        }
        if until_ns - from_ns < PAUSE_NS_MIN {
            return;
        }
        if self.pacing == Pacing::Open {
            self.room
                .pause(from_ns, until_ns, &mut self.record.full_cap);
        }
        if self.is_measured(from_ns) || self.is_measured(until_ns) {
            self.record.disturbance.generator += Pauses::one(until_ns - from_ns);
        }
    }

    /// The end: what is still in flight, and what never went out, has waited at least until now.
    pub fn handle_close(&mut self, now_ns: u64) {
        self.handle_turn(now_ns);
        for at in 0..self.slots.len() {
            let slot = self.slots[at];
            if !slot.is_in_flight || !self.is_measured(slot.intended_ns) {
                continue;
            }
            let tally = &mut self.record.methods[usize::from(slot.method)];
            tally.counts.unfinished += 1;
            let service_ns = now_ns.saturating_sub(slot.sent_ns);
            tally.times.record(Kind::Service, service_ns);
            self.record_response(slot.method, slot.intended_ns, now_ns);
        }
        if self.pacing == Pacing::Open {
            self.close_unsent(now_ns);
        }
    }

    fn close_unsent(&mut self, now_ns: u64) {
        while let Some(call) = self.schedule.next(&mut self.to_send) {
            if call.intended_ns >= self.window.until_ns {
                return;
            }
            if self.is_measured(call.intended_ns) {
                let tally = &mut self.record.methods[usize::from(call.work.method)];
                tally.counts.unsent += 1;
                self.record_response(call.work.method, call.intended_ns, now_ns);
            }
        }
    }

    /// Takes what was recorded since the last time, and goes on in an empty record.
    pub fn swap_record(&mut self, empty: Box<Record>) -> Box<Record> {
        mem::replace(&mut self.record, empty)
    }

    /// The time that is measured.
    pub fn window(&self) -> Window {
        self.window
    }

    #[inline]
    fn is_measured(&self, at_ns: u64) -> bool {
        self.window.from_ns <= at_ns && at_ns < self.window.until_ns
    }
}

/// Shorter pauses may be the thread's own work, when it has much to do at once.
const PAUSE_NS_MIN: u64 = 1_000_000;
/// Distance between calls of a closed loop while they fail: without a server they fail at once.
const ERROR_PAUSE_NS: u64 = 1_000_000;

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
