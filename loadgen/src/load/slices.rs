//! The window in short slices, by when calls were due: how many were slow, and which slices were hit by a
//! pause of a CPU. What the server is to blame for can then be told from the others.

use std::time::Duration;

use super::flight::Window;

/// The slices of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Slices {
    from_ns: u64,
    slice_ns: u64,
    /// From these times on a call is slow.
    limits_ns: Vec<u64>,
    slices: Vec<Slice>,
    /// Times in which a CPU stood still.
    pauses_ns: Vec<(u64, u64)>,
}

/// A slice of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slice {
    /// Calls that were due in it and whose time is known.
    pub calls: u32,
    /// Those that were slow, for each limit.
    pub slow: [u32; LIMITS_MAX],
    /// Whether a CPU stood still in or shortly before it.
    pub is_disturbed: bool,
}

impl Slices {
    /// All of a window. `None` without limits, or with more than [`LIMITS_MAX`].
    pub(crate) fn new(window: Window, limits_ns: &[u64]) -> Option<Self> {
        if limits_ns.is_empty() || limits_ns.len() > LIMITS_MAX {
            return None;
        }
        let window_ns = window.until_ns - window.from_ns;
        let slice_ns = SLICE_NS_MIN.max(window_ns.div_ceil(SLICES_MAX));
        Some(Self {
            from_ns: window.from_ns,
            slice_ns,
            limits_ns: limits_ns.to_vec(),
            slices: vec![Slice::default(); window_ns.div_ceil(slice_ns) as usize],
            pauses_ns: Vec::new(),
        })
    }

    /// A call of the window that was due then has taken so long.
    #[inline]
    pub(crate) fn record(&mut self, intended_ns: u64, response_ns: u64) {
        let at = (intended_ns - self.from_ns) / self.slice_ns;
        let Some(slice) = self.slices.get_mut(at as usize) else {
            return;
        };
        slice.calls += 1;
        for (limit_ns, slow) in self.limits_ns.iter().zip(&mut slice.slow) {
            *slow += u32::from(response_ns >= *limit_ns);
        }
    }

    /// A CPU stood still between these times, in nanoseconds since the beginning of the load.
    pub(crate) fn disturb(&mut self, from_ns: u64, until_ns: u64) {
        if self.pauses_ns.len() < PAUSES_MAX {
            self.pauses_ns.push((from_ns, until_ns));
        }
    }

    /// Marks what the pauses have hit, once all are known: the calls that were due in them, those that were
    /// under way before, and those that queued up behind. That takes the longer the busier the server is.
    pub(crate) fn settle(&mut self, busy_ratio: f64) {
        let busy_ratio = busy_ratio.clamp(0.0, BUSY_RATIO_MAX);
        let queued = (busy_ratio / (1.0 - busy_ratio)).max(QUEUED_PER_PAUSE_MIN);
        let limit_ns = self.limits_ns.iter().copied().max().unwrap_or_default();
        let lead_ns = limit_ns.clamp(self.slice_ns, LEAD_NS_MAX.max(self.slice_ns));
        let mut pauses_ns = std::mem::take(&mut self.pauses_ns);
        pauses_ns.sort_unstable();
        // The backlog of a pause that comes while that of another lasts is added to it. Where both sides
        // saw the same pause, it is one.
        let (mut paused_until_ns, mut caught_up_ns) = (0, 0);
        for (from_ns, until_ns) in pauses_ns {
            let new_ns = until_ns.saturating_sub(from_ns.max(paused_until_ns));
            let behind_ns = (new_ns as f64 * queued) as u64;
            caught_up_ns = if from_ns < caught_up_ns {
                until_ns.max(caught_up_ns + new_ns + behind_ns)
            } else {
                until_ns + behind_ns
            };
            paused_until_ns = until_ns.max(paused_until_ns);
            self.mark(from_ns.saturating_sub(lead_ns), caught_up_ns);
        }
    }

    fn mark(&mut self, first_ns: u64, last_ns: u64) {
        if last_ns < self.from_ns {
            return;
        }
        let place = |at_ns: u64| (at_ns.saturating_sub(self.from_ns) / self.slice_ns) as usize;
        let end = self.slices.len().min(place(last_ns) + 1);
        let start = end.min(place(first_ns));
        for slice in &mut self.slices[start..end] {
            slice.is_disturbed = true;
        }
    }

    /// The same, with times since the beginning of the window.
    pub(crate) fn disturb_in_window(&mut self, from: Duration, until: Duration) {
        let at_ns = |time: Duration| self.from_ns + time.as_nanos() as u64;
        self.disturb(at_ns(from), at_ns(until));
    }

    /// Adds those of another thread of the same load.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.slices.iter_mut().zip(&other.slices) {
            mine.calls += theirs.calls;
            for (mine, theirs) in mine.slow.iter_mut().zip(theirs.slow) {
                *mine += theirs;
            }
        }
        self.pauses_ns.extend(&other.pauses_ns);
    }

    /// Those in which no CPU stood still.
    pub fn quiet(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().filter(|slice| !slice.is_disturbed)
    }

    /// Length of each.
    pub fn slice_s(&self) -> f64 {
        self.slice_ns as f64 / 1e9
    }
}

/// Limits that are looked at; objectives with more latencies are rare.
pub const LIMITS_MAX: usize = 4;
/// Some pauses are shorter, and calls take less time on a quiet machine.
const SLICE_NS_MIN: u64 = 5_000_000;
/// However long the window is.
const SLICES_MAX: u64 = 1 << 14;
/// For how many times its length calls queue up behind a pause at least. A server that is busy for a share ρ
/// of its time has caught up after ρ ÷ (1 − ρ) times the pause.
const QUEUED_PER_PAUSE_MIN: f64 = 4.0;
/// Nearer to saturation it would never have caught up.
const BUSY_RATIO_MAX: f64 = 0.97;
/// Calls that were under way before a pause are left out for as long as the limit is, but not longer.
const LEAD_NS_MAX: u64 = 50_000_000;
/// As many as there can be in half an hour.
const PAUSES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const WINDOW: Window = Window {
        from_ns: 1000 * MS,
        until_ns: 1100 * MS,
    };

    fn quiet(slices: &Slices) -> Vec<usize> {
        let places = 0..slices.slices.len();
        places
            .filter(|&at| !slices.slices[at].is_disturbed)
            .collect()
    }

    #[test]
    fn calls_are_in_the_slice_in_which_they_were_due() {
        let mut slices = Slices::new(WINDOW, &[MS, 2 * MS]).unwrap();
        assert_eq!(slices.slices.len(), 20);
        slices.record(1000 * MS, MS - 1);
        slices.record(1004 * MS, MS);
        slices.record(1099 * MS, 50 * MS);
        let mut both = slices.clone();
        both.add(&slices);
        let (first, last) = (both.slices[0], both.slices[19]);
        assert_eq!((first.calls, first.slow), (4, [2, 0, 0, 0]));
        assert_eq!((last.calls, last.slow), (2, [2, 2, 0, 0]));
    }

    /// The quiet slices of the window after these pauses, with a server that is busy for such a share.
    fn quiet_after(pauses_ms: &[(u64, u64)], busy_ratio: f64) -> Vec<usize> {
        let mut slices = Slices::new(WINDOW, &[MS]).unwrap();
        for (from_ms, until_ms) in pauses_ms {
            slices.disturb(from_ms * MS, until_ms * MS);
        }
        slices.settle(busy_ratio);
        quiet(&slices)
    }

    #[test]
    fn a_pause_hits_what_was_due_shortly_before_and_what_queues_up_behind() {
        // Up to 1045 ms, and with a busy server nearly up to 1090 ms.
        assert_eq!(
            quiet_after(&[(1030, 1033)], 0.5),
            [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
        );
        assert_eq!(quiet_after(&[(1030, 1033)], 0.95), [0, 1, 2, 3, 4, 18, 19]);
        // Two pauses of 2 ms within each other's backlog: 1010 + 2 × (1 + 4) × 2 ms; the same one twice.
        let two = quiet_after(&[(1010, 1012), (1014, 1016)], 0.5);
        assert_eq!(two, [0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        let same = quiet_after(&[(1010, 1012), (1010, 1012)], 0.5);
        assert_eq!(same, quiet_after(&[(1010, 1012)], 0.5));
        // Before the window, reaching into it; and at its very end.
        assert_eq!(
            quiet_after(&[(990, 999), (1099, 1200)], 0.0),
            [8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
        );
        assert_eq!(quiet_after(&[(100, 101), (2000, 2001)], 0.9).len(), 20);
    }

    #[test]
    fn a_limit_that_is_long_reaches_back_further() {
        let mut slices = Slices::new(WINDOW, &[30 * MS]).unwrap();
        slices.disturb_in_window(Duration::from_millis(60), Duration::from_millis(61));
        slices.settle(0.0);
        assert_eq!(quiet(&slices), [0, 1, 2, 3, 4, 5, 14, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn without_limits_nothing_is_sliced() {
        assert_eq!(Slices::new(WINDOW, &[]), None);
        assert_eq!(Slices::new(WINDOW, &[1; LIMITS_MAX + 1]), None);
    }
}
