//! The distance between attempts to connect.

use std::time::Duration;

/// Doubles from 50 ms to 5 s; each distance is drawn between half and all of that, so that many
/// clients of a server that comes back don't arrive at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    /// Before the first attempt.
    pub(crate) fn new() -> Self {
        Self { attempts: 0 }
    }

    /// Time to wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let full = LONGEST.min(FIRST * 2_u32.saturating_pow(self.attempts.min(16)));
        self.attempts += 1;
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The same in nanoseconds.
    pub(crate) fn next_ns(&mut self) -> u64 {
        self.next().as_nanos() as u64
    }

    /// A connection succeeded.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound_and_is_reset() {
        let mut backoff = Backoff::new();
        for attempt in 0..20 {
            let full = LONGEST.min(FIRST * 2_u32.pow(attempt.min(16)));
            let wait = backoff.next();
            assert!(
                wait >= full / 2 && wait <= full,
                "attempt {attempt}: {wait:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
