//! Room for calls: when as many as permitted are in flight, for how long, and whether the server
//! answered meanwhile.
//!
//! A call that is due and finds no room waits for the server, or for a higher permission. Only what it
//! waits beyond that is the generator's fault.

use super::flight::Window;
use crate::results::FullCap;

/// A server that answers nothing for so long stands still.
pub const STALL_NS: u64 = 10_000_000;

/// The room of one thread. It is told of each change, and of each turn.
#[derive(Debug)]
pub(super) struct Room {
    window: Window,
    /// Since when there has been room, as of the last time that there was none.
    since_ns: u64,
    /// Set while there is none.
    stretch: Option<Stretch>,
    /// Whether calls have waited ever since the server stood still.
    is_catching_up: bool,
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
            is_catching_up: false,
        }
    }

    /// When a call that was due then could have been sent.
    #[inline]
    pub(super) fn since(&self, intended_ns: u64) -> u64 {
        self.since_ns.max(intended_ns)
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
        self.is_catching_up = false;
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
        self.is_catching_up |= now_ns - stretch.from_ns >= STALL_NS;
        if self.is_catching_up {
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
        assert_eq!((room.since(1), room.since(204 * MS)), (203 * MS, 204 * MS));
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
