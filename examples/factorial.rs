//! Arguments that are refused: each with the status that says what is wrong with it.
//!
//! ```sh
//! cargo run --release --example factorial
//! ```

use std::error::Error;

use ringcall::{Context, Reply, Request, Server, Status};

/// Factorials up to that of 34, the last that has room in 128 bits.
#[ringcall::service(name = "factorial.v1")]
trait Factorial {
    /// `n!`; INVALID_ARGUMENT when `n` is negative, OUT_OF_RANGE when it is above 34.
    #[idempotent]
    async fn factorial(n: i64) -> u128;
}

/// Rather fails than rounds.
struct Exact;

impl FactorialHandler for Exact {
    async fn factorial(&self, _cx: &Context, n: Request<i64>) -> Result<Reply<u128>, Status> {
        let n = n.to_native();
        if n < 0 {
            return Err(Status::invalid_argument(format!("{n} is negative")));
        }
        let factorial = (1..=n as u128).try_fold(1_u128, u128::checked_mul);
        let factorial = factorial.ok_or_else(|| Status::out_of_range("more than 128 bits"))?;
        Ok(factorial.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| FactorialServer::new(Exact))?;

    let client = FactorialClient::connect(&server.addresses()[0]).await?;
    for n in [0, 10, 34, 35, -1] {
        match client.factorial(n).await {
            Ok(factorial) => println!("{n}! = {}", factorial.to_native()),
            Err(status) => println!("{n}!: {status}"),
        }
    }
    Ok(())
}
