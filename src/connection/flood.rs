//! Counts frames that cost their sender nothing.

use super::link::nanos;
use crate::wire::limits::{PING_WINDOW, PINGS_PER_WINDOW_MAX};
use crate::wire::violation::Violation;

/// Counts frames in windows that begin with the first one after the window before.
#[derive(Debug, Default)]
pub(super) struct FloodGauge {
    window_start_ns: u64,
    count: u32,
}

impl FloodGauge {
    /// Counts one more. `what` says of what there were too many.
    ///
    /// # Errors
    /// [`Violation::Flood`] when there were too many in this window.
    pub(super) fn count(&mut self, what: &'static str, now_ns: u64) -> Result<(), Violation> {
        if now_ns.saturating_sub(self.window_start_ns) > nanos(PING_WINDOW) {
            *self = Self {
                window_start_ns: now_ns,
                count: 0,
            };
        }
        self.count += 1;
        if self.count > PINGS_PER_WINDOW_MAX {
            return Err(Violation::Flood { what });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn each_window_has_room_for_its_own() {
        let mut gauge = FloodGauge::default();
        for _ in 0..PINGS_PER_WINDOW_MAX {
            assert_eq!(gauge.count("ping", 0), Ok(()));
        }
        let flood = Err(Violation::Flood { what: "ping" });
        assert_eq!(gauge.count("ping", 0), flood);
        assert_eq!(gauge.count("ping", SECOND), flood);
        assert_eq!(gauge.count("ping", SECOND + 1), Ok(()));
    }
}
