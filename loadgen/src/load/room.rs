//! Room for calls: when as many as permitted are in flight, for how long, and whether the server
//! answered meanwhile.
//!
//! A call that is due and finds no room waits for the server, or for a higher permission. Only what it
//! waits beyond that is the generator's fault.

use super::flight::Window;
use crate::results::FullCap;

/// A server that answers nothing for so long stands still.
pub const STALL_NS: u64 = 10_000_000;

/// A server that stood still has caught up after so many times that time, or never does.
const CATCH_UP: u64 = 10;

/// The room of one thread. It is told of each change, and of each turn.
#[derive(Debug)]
pub(super) struct Room {
    window: Window,
    /// Since when there has been room, as of the last time that there was none.
    since_ns: u64,
    /// Set while there is none.
    stretch: Option<Stretch>,
    /// The server stood still, and calls have waited ever since: how long it may take to catch up.
    catches_up_until_ns: u64,
    /// The last time in which the generator stood still.
    pause_ns: (u64, u64),
}

/// A time without room.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from_ns: u64,
    /// Up to when it has been counted.
    counted_ns: u64,
    /// Up to when it has been counted as time in which the server stood still.
    stalled_ns: u64,
}

impl Room {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            since_ns: 0,
            stretch: None,
            catches_up_until_ns: 0,
            pause_ns: (0, 0),
        }
    }

    /// How long a call waited for room that was due then and is sent now. What of that time the generator
    /// stood still is its own, whether or not there was room.
    #[inline]
    pub(super) fn waited_ns(&self, intended_ns: u64, now_ns: u64) -> u64 {
        let (from_ns, until_ns) = self.pause_ns;
        let before_ns = from_ns.clamp(intended_ns, now_ns) - intended_ns;
        let after_ns = now_ns - until_ns.clamp(intended_ns, now_ns);
        let own_ns = now_ns - intended_ns - before_ns - after_ns;
        let ready_ns = self.since_ns.clamp(intended_ns, now_ns);
        (ready_ns - intended_ns).saturating_sub(own_ns)
    }

    /// The generator stood still: whether the server answered meanwhile is not known.
    pub(super) fn pause(&mut self, from_ns: u64, until_ns: u64, cap: &mut FullCap) {
        self.count(from_ns, cap);
        if let Some(stretch) = &mut self.stretch {
            stretch.from_ns += until_ns - from_ns;
            (stretch.counted_ns, stretch.stalled_ns) = (until_ns, until_ns);
        }
        self.pause_ns = (from_ns, until_ns);
    }

    /// As many calls as permitted are in flight now.
    #[inline]
    pub(super) fn fill(&mut self, now_ns: u64) {
        self.stretch = Some(Stretch {
            from_ns: now_ns,
            counted_ns: now_ns,
            stalled_ns: now_ns,
        });
    }

    /// A call has ended, so there is room, perhaps again.
    #[inline]
    pub(super) fn free(&mut self, now_ns: u64, cap: &mut FullCap) {
        if self.stretch.is_some() {
            self.count(now_ns, cap);
            self.stretch = None;
            self.since_ns = now_ns;
        }
    }

    /// No call waits.
    #[inline]
    pub(super) fn none_waits(&mut self) {
        self.catches_up_until_ns = 0;
    }

    /// Counts up to now.
    pub(super) fn count(&mut self, now_ns: u64, cap: &mut FullCap) {
        let Some(stretch) = &mut self.stretch else {
            return;
        };
        let Window { from_ns, until_ns } = self.window;
        let measured = |since_ns: u64| now_ns.min(until_ns).saturating_sub(since_ns.max(from_ns));
        cap.full_ns += measured(stretch.counted_ns);
        stretch.counted_ns = now_ns;
        let unanswered_ns = now_ns.saturating_sub(stretch.from_ns);
        if unanswered_ns >= STALL_NS {
            self.catches_up_until_ns = now_ns + CATCH_UP * unanswered_ns;
        }
        if now_ns <= self.catches_up_until_ns {
            cap.stalled_ns += measured(stretch.stalled_ns);
            stretch.stalled_ns = now_ns;
        }
        cap.unanswered_ns_max = cap.unanswered_ns_max.max(measured(stretch.from_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn room() -> Room {
        Room::new(Window {
            from_ns: 100 * MS,
            until_ns: 1000 * MS,
        })
    }

    #[test]
    fn short_stretches_are_a_full_cap_and_long_ones_a_server_that_stands_still() {
        let (mut room, mut cap) = (room(), FullCap::default());
        room.fill(200 * MS);
        room.free(203 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (3 * MS, 0));
        // Due before there was room, and after.
        assert_eq!(room.waited_ns(201 * MS, 205 * MS), 2 * MS);
        assert_eq!(room.waited_ns(204 * MS, 205 * MS), 0);
        room.fill(300 * MS);
        room.count(305 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (8 * MS, 0));
        room.count(320 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (23 * MS, 20 * MS));
        room.free(500 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (203 * MS, 200 * MS));
        // What has piled up meanwhile fills it again, until nothing waits.
        room.fill(500 * MS);
        room.free(502 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (205 * MS, 202 * MS));
        room.none_waits();
        room.fill(600 * MS);
        room.free(602 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (207 * MS, 202 * MS));
        assert_eq!(cap.unanswered_ns_max, 200 * MS);
    }

    #[test]
    fn what_the_generator_slept_through_is_its_own() {
        let (mut room, mut cap) = (room(), FullCap::default());
        room.fill(200 * MS);
        room.pause(201 * MS, 301 * MS, &mut cap);
        room.free(302 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (2 * MS, 0));
        // Due in the pause, and sent late in what had piled up; due after it.
        assert_eq!(room.waited_ns(250 * MS, 302 * MS), MS);
        room.fill(302 * MS);
        room.free(310 * MS, &mut cap);
        assert_eq!(room.waited_ns(250 * MS, 310 * MS), 9 * MS);
        assert_eq!(room.waited_ns(305 * MS, 310 * MS), 5 * MS);
        assert_eq!(room.waited_ns(180 * MS, 200 * MS), 20 * MS);
    }

    #[test]
    fn a_server_that_never_catches_up_has_too_little_room() {
        let (mut room, mut cap) = (room(), FullCap::default());
        room.fill(200 * MS);
        room.free(210 * MS, &mut cap);
        for from_ms in 210..500 {
            room.fill(from_ms * MS);
            room.free((from_ms + 1) * MS, &mut cap);
        }
        assert_eq!((cap.full_ns, cap.stalled_ns), (300 * MS, 110 * MS));
    }

    #[test]
    fn only_the_window_is_measured() {
        let (mut room, mut cap) = (room(), FullCap::default());
        room.fill(0);
        room.free(150 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (50 * MS, 50 * MS));
        room.fill(990 * MS);
        room.free(2000 * MS, &mut cap);
        assert_eq!((cap.full_ns, cap.stalled_ns), (60 * MS, 60 * MS));
        assert_eq!(cap.unanswered_ns_max, 50 * MS);
    }
}
