//! Takes its time.

use std::time::Duration;

use ringcall::{Context, Reply, Request, Status};

/// Calls that take long.
#[ringcall::service(name = "delay.v1")]
pub trait Delay {
    /// Answers after this many microseconds; the shard serves others meanwhile.
    #[idempotent]
    async fn sleep(us: u64);
}

/// Waits without holding the CPU.
#[derive(Debug)]
pub struct Sleeper;

impl DelayHandler for Sleeper {
    async fn sleep(&self, cx: &Context, us: Request<u64>) -> Result<Reply<()>, Status> {
        cx.sleep(Duration::from_micros(us.to_native())).await;
        Ok(().into())
    }
}
