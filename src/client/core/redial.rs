//! When a client may connect again, and what becomes of calls before that.

use std::time::Duration;

use fastrand::Rng;

use super::backoff::Backoff;
use crate::connection::link::nanos;
use crate::wire::status::Status;

/// Keeps the distance between connections. Times are those of any monotonic clock, in nanoseconds.
///
/// *Inputs*: [`Redial::ended`] when a connection or an attempt to make one has ended;
/// [`Redial::served`] when the server has answered a call. *Outputs*: [`Redial::pause_ns`],
/// [`Redial::refusal`].
#[derive(Debug)]
pub(crate) struct Redial {
    backoff: Backoff,
    last: Option<Ended>,
}

/// How the last connection or attempt has ended.
#[derive(Debug)]
struct Ended {
    retry_ns: u64,
    why: Status,
}

impl Redial {
    /// Before the first attempt. Distances are drawn from `random`.
    pub(crate) fn new(random: Rng) -> Self {
        Self {
            backoff: Backoff::new(random),
            last: None,
        }
    }

    /// A call was answered: the server works.
    pub(crate) fn served(&mut self) {
        self.backoff.reset();
    }

    /// A connection has ended, or an attempt to make one has failed, at that time. If `invites_back`,
    /// nobody made a mistake, and another is made at once as long as they are of use.
    pub(crate) fn ended(&mut self, at_ns: u64, invites_back: bool, why: Status) {
        let pause_ns = nanos(self.backoff.after_end(invites_back));
        let retry_ns = at_ns + pause_ns;
        self.last = Some(Ended { retry_ns, why });
    }

    /// Time until the next attempt may begin.
    pub(crate) fn pause_ns(&self, now_ns: u64) -> u64 {
        let retry_ns = self.last.as_ref().map_or(0, |last| last.retry_ns);
        retry_ns.saturating_sub(now_ns)
    }

    /// Why the last connection or attempt has ended, if one has.
    pub(crate) fn why(&self) -> Option<&Status> {
        self.last.as_ref().map(|last| &last.why)
    }

    /// What a call ends with that does not wait for the next attempt.
    pub(crate) fn refusal(&self, now_ns: u64) -> Option<Status> {
        let why = self.why()?;
        let pause = Duration::from_nanos(self.pause_ns(now_ns));
        Some(Status::unavailable(format!(
            "{}; the next attempt is in {pause:.0?}",
            why.message()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_runs_from_the_end_however_late_it_is_asked_for() {
        let mut redial = Redial::new(Rng::with_seed(1));
        assert_eq!((redial.pause_ns(0), redial.refusal(0)), (0, None));
        let end_ns = 1_000_000_000;
        redial.ended(end_ns, false, Status::unavailable("it was refused"));
        let pause_ns = redial.pause_ns(end_ns);
        assert!((25_000_000..=50_000_000).contains(&pause_ns));
        assert_eq!(redial.pause_ns(end_ns + pause_ns - 1), 1);
        assert_eq!(redial.pause_ns(end_ns + pause_ns), 0);
        let refusal = redial.refusal(end_ns).expect("it has ended");
        let text = refusal.message();
        assert!(
            text.starts_with("it was refused; the next attempt is in"),
            "{text}"
        );
    }

    #[test]
    fn a_connection_that_was_of_use_is_replaced_at_once() {
        let mut redial = Redial::new(Rng::with_seed(1));
        let why = || Status::unavailable("it is lost");
        redial.ended(5, true, why());
        assert_eq!(redial.pause_ns(5), 0);
        redial.ended(5, true, why());
        assert!(redial.pause_ns(5) > 0, "the second was of no use");
        redial.served();
        redial.ended(5, true, why());
        assert_eq!(redial.pause_ns(5), 0);
    }
}
