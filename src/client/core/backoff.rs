//! The distance between attempts to connect.

use std::time::Duration;

use fastrand::Rng;

/// Doubles from 50 ms to 5 s; each distance is drawn between half and all of that, so that many
/// clients of a server that comes back don't arrive at once.
///
/// Only an answer to a call shows that a server works, so only that begins the row anew: a server that
/// takes connections and sends each of them away is left in peace more and more.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    /// Whether a connection may be replaced at once: one since the last call that was answered.
    has_free_attempt: bool,
    random: Rng,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    /// Before the first attempt. Distances are drawn from `random`.
    pub(crate) fn new(random: Rng) -> Self {
        Self {
            attempts: 0,
            has_free_attempt: true,
            random,
        }
    }

    /// Time to wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let full = LONGEST.min(FIRST * 2_u32.saturating_pow(self.attempts.min(16)));
        self.attempts += 1;
        full.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    /// Time to wait after the end of a connection that could be used; none, the first time, if
    /// `invites_back`: nobody made a mistake.
    pub(crate) fn after_end(&mut self, invites_back: bool) -> Duration {
        if invites_back && std::mem::take(&mut self.has_free_attempt) {
            return Duration::ZERO;
        }
        self.next()
    }

    /// A call was answered.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
        self.has_free_attempt = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_generator_that_was_given() {
        let row = |seed| {
            let mut backoff = Backoff::new(Rng::with_seed(seed));
            [0; 4].map(|_| backoff.next())
        };
        assert_eq!(row(1), row(1));
        assert_ne!(row(1), row(2), "clients don't arrive at once");
    }

    #[test]
    fn it_grows_to_its_bound_and_is_reset() {
        let mut backoff = Backoff::new(Rng::with_seed(1));
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

    #[test]
    fn one_connection_is_replaced_at_once_for_each_answer() {
        let mut backoff = Backoff::new(Rng::with_seed(1));
        assert!(!backoff.after_end(false).is_zero(), "a mistake");
        let pauses = [0; 4].map(|_| backoff.after_end(true));
        assert!(pauses[0].is_zero() && pauses[1..].iter().all(|pause| !pause.is_zero()));
        backoff.reset();
        assert!(backoff.after_end(true).is_zero());
    }
}
