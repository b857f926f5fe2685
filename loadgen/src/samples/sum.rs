//! Adds up any number of reals.

use ringcall::{Context, Reply, Request, Status};

/// Sums.
#[ringcall::service(name = "sum.v1")]
pub trait Sum {
    /// The sum of all values, added in their order; 0 when there are none.
    #[idempotent]
    async fn sum(values: Vec<f64>) -> f64;
}

/// Adds one after the other, where they were received.
#[derive(Debug)]
pub struct InOrder;

impl SumHandler for InOrder {
    async fn sum(&self, _cx: &Context, values: Request<Vec<f64>>) -> Result<Reply<f64>, Status> {
        let sum = values
            .iter()
            .fold(0.0, |sum, value| sum + value.to_native());
        Ok(sum.into())
    }
}
