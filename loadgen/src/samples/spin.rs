//! Keeps its CPU busy: a service whose capacity is known, for trying measurements.

use std::time::{Duration, Instant};

use ringcall::{Context, Reply, Request, Status};

/// Calls that take CPU time.
#[ringcall::service(name = "spin.v1")]
pub trait Spin {
    /// Keeps the shard busy for so many microseconds, at most a minute; fractions count. Nothing
    /// else is served on it meanwhile.
    #[idempotent]
    async fn spin(us: f64);
}

/// Looks at the clock until the time is over.
#[derive(Debug)]
pub struct Spinner;

impl SpinHandler for Spinner {
    async fn spin(&self, _cx: &Context, us: Request<f64>) -> Result<Reply<()>, Status> {
        let start = Instant::now();
        let us = us.to_native();
        if !(0.0..=US_MAX).contains(&us) {
            return Err(Status::invalid_argument(format!(
                "{us} is no number of microseconds from 0 to {US_MAX}"
            )));
        }
        busy_until(start, Duration::from_secs_f64(us / 1e6));
        Ok(().into())
    }
}

/// Keeps the CPU busy until so much time has passed since `start`.
pub fn busy_until(start: Instant, time: Duration) {
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A minute.
const US_MAX: f64 = 60e6;
