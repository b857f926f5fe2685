//! Counts what became of the calls.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringcall::Status;

use super::Outcome;
use super::cpu_time::ProcessClock;

/// The calls that were measured up to now.
#[derive(Debug)]
pub(super) struct Tally {
    ok: u64,
    errors: u64,
    first_error: Option<String>,
    latency_ns: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS);
        Self {
            ok: 0,
            errors: 0,
            first_error: None,
            latency_ns: latency_ns.expect("the bounds are in order"),
        }
    }

    /// A call was answered after this time.
    pub(super) fn succeed(&mut self, latency: Duration) {
        self.ok += 1;
        self.record(latency);
    }

    /// A call has failed.
    pub(super) fn fail(&mut self, status: &Status) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| status.to_string());
    }

    /// Records that a call has taken this long.
    pub(super) fn record(&mut self, latency: Duration) {
        let ns = latency.as_nanos().min(u128::from(LATENCY_NS_MAX));
        self.latency_ns.saturating_record(ns as u64);
    }

    pub(super) fn into_outcome(self, window: Window) -> Outcome {
        Outcome {
            ok: self.ok,
            errors: self.errors,
            first_error: self.first_error,
            elapsed: window.elapsed,
            latency_ns: self.latency_ns,
            server_cpu: window.server_cpu,
        }
    }
}

/// The beginning of the time that is measured.
#[derive(Debug)]
pub(super) struct Begin {
    at: Instant,
    server_cpu: Duration,
}

/// The time that was measured.
#[derive(Debug)]
pub(super) struct Window {
    elapsed: Duration,
    server_cpu: Duration,
}

impl Begin {
    pub(super) fn now(server: ProcessClock) -> io::Result<Self> {
        Ok(Self {
            server_cpu: server.now()?,
            at: Instant::now(),
        })
    }

    pub(super) fn end(&self, server: ProcessClock) -> io::Result<Window> {
        Ok(Window {
            elapsed: self.at.elapsed(),
            server_cpu: server.now()?.saturating_sub(self.server_cpu),
        })
    }
}

/// Longer ones are recorded as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_keep_the_first_reason() {
        let mut tally = Tally::new();
        tally.succeed(Duration::from_micros(10));
        tally.fail(&Status::unavailable("gone"));
        tally.fail(&Status::internal("later"));
        tally.record(Duration::from_secs(1000));
        assert_eq!((tally.ok, tally.errors), (1, 2));
        assert_eq!(tally.first_error.as_deref(), Some("UNAVAILABLE: gone"));
        assert_eq!(tally.latency_ns.len(), 2);
        let slowest_ns = tally.latency_ns.max();
        assert!((LATENCY_NS_MAX..LATENCY_NS_MAX / 1000 * 1001).contains(&slowest_ns));
    }
}
