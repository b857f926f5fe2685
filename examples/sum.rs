//! Any number of reals, added up where they were received.
//!
//! ```sh
//! cargo run --release --example sum
//! ```

use std::error::Error;

use ringcall::{Context, Reply, Request, Server, Status};

/// Sums.
#[ringcall::service(name = "sum.v1")]
trait Sum {
    /// The sum of all values, added in their order; 0 when there are none.
    #[idempotent]
    async fn sum(values: Vec<f64>) -> f64;
}

struct InOrder;

impl SumHandler for InOrder {
    async fn sum(&self, _cx: &Context, values: Request<Vec<f64>>) -> Result<Reply<f64>, Status> {
        // `values` derefs to the archived list, in the memory that the kernel has filled.
        let sum = values
            .iter()
            .fold(0.0, |sum, value| sum + value.to_native());
        Ok(sum.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| SumServer::new(InOrder))?;

    let client = SumClient::connect(&server.addresses()[0]).await?;
    for count in [0, 1, 4, 1_000_000] {
        let values: Vec<f64> = (1..=count).map(|k| 1.0 / f64::from(k)).collect();
        // A reference is enough: it is serialised straight into the connection's send buffer.
        let sum = client.sum(&values).await?;
        println!("1 + 1/2 + 1/3 + …, {count} terms: {}", sum.to_native());
    }
    Ok(())
}
