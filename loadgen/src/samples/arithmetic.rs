//! Adds and subtracts.

use ringcall::{Context, Reply, Request, Status};

/// Two numbers to calculate with.
#[ringcall::message]
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// The first.
    pub a: i64,
    /// The second.
    pub b: i64,
}

/// Arithmetic of 64-bit integers. A result that has no room in one is OUT_OF_RANGE.
#[ringcall::service(name = "arithmetic.v1")]
pub trait Arithmetic {
    /// `a + b`.
    #[idempotent]
    async fn add(operands: Operands) -> i64;
    /// `a - b`.
    #[idempotent]
    async fn subtract(operands: Operands) -> i64;
}

/// Never wraps around.
#[derive(Debug)]
pub struct Checked;

impl ArithmeticHandler for Checked {
    async fn add(&self, _cx: &Context, operands: Request<Operands>) -> Result<Reply<i64>, Status> {
        let (a, b) = (operands.a.to_native(), operands.b.to_native());
        within_range(a.checked_add(b))
    }

    async fn subtract(
        &self,
        _cx: &Context,
        operands: Request<Operands>,
    ) -> Result<Reply<i64>, Status> {
        let (a, b) = (operands.a.to_native(), operands.b.to_native());
        within_range(a.checked_sub(b))
    }
}

fn within_range(result: Option<i64>) -> Result<Reply<i64>, Status> {
    match result {
        Some(result) => Ok(result.into()),
        None => Err(Status::out_of_range(
            "the result is too large for 64-bit integers",
        )),
    }
}
