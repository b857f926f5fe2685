//! A message with several fields, results that may be out of range, and a client without a runtime.
//!
//! ```sh
//! cargo run --release --example arithmetic
//! ```

use std::error::Error;

use ringcall::{Context, Reply, Request, Server, Status};

#[ringcall::message]
struct Operands {
    a: i64,
    b: i64,
}

/// Arithmetic of 64-bit integers. A result that has no room in one is OUT_OF_RANGE.
#[ringcall::service(name = "arithmetic.v1")]
trait Arithmetic {
    /// `a + b`.
    #[idempotent]
    async fn add(operands: Operands) -> i64;
    /// `a - b`.
    #[idempotent]
    async fn subtract(operands: Operands) -> i64;
}

/// Never wraps around.
struct Checked;

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
    let result = result.ok_or_else(|| Status::out_of_range("the result has more than 64 bits"))?;
    Ok(result.into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| ArithmeticServer::new(Checked))?;

    let arithmetic = ArithmeticClient::connect_blocking(&server.addresses()[0])?;
    let sum = arithmetic.add(Operands { a: 40, b: 2 }).wait()?;
    println!("40 + 2 = {}", sum.to_native());
    let difference = arithmetic.subtract(Operands { a: 40, b: 2 }).wait()?;
    println!("40 - 2 = {}", difference.to_native());

    let too_large = Operands { a: i64::MAX, b: 1 };
    match arithmetic.add(too_large).wait() {
        Ok(sum) => println!("{} + 1 = {}", i64::MAX, sum.to_native()),
        Err(status) => println!("{} + 1: {status}", i64::MAX),
    }
    Ok(())
}
