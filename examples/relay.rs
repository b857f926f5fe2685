//! A handler that calls another service. The client is one of the shard: its connection belongs to the
//! ring that the handler's own requests come in by, and no other thread takes part.
//!
//! ```sh
//! cargo run --release --example relay
//! ```

use std::error::Error;

use ringcall::{Context, LocalClient, Reply, Request, Server, Status};

/// Knows prices.
#[ringcall::service(name = "prices.v1")]
trait Prices {
    /// The price of one piece, in cents.
    async fn price(article: String) -> u64;
}

/// Takes orders.
#[ringcall::service(name = "orders.v1")]
trait Orders {
    /// What so many pieces cost, in cents.
    async fn total(order: Order) -> u64;
}

#[ringcall::message]
struct Order {
    article: String,
    pieces: u32,
}

struct List;

impl PricesHandler for List {
    async fn price(&self, _cx: &Context, article: Request<String>) -> Result<Reply<u64>, Status> {
        match article.as_str() {
            "tea" => Ok(350.into()),
            other => Err(Status::not_found(format!("no price for {other}"))),
        }
    }
}

struct Till {
    prices: PricesClient<LocalClient>,
}

impl OrdersHandler for Till {
    async fn total(&self, _cx: &Context, order: Request<Order>) -> Result<Reply<u64>, Status> {
        // The request stays where it was received while the handler waits; a failure of the other
        // service, NOT_FOUND say, becomes that of this call.
        let price = self.prices.price(order.article.as_str()).await?;
        Ok((price.to_native() * u64::from(order.pieces.to_native())).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let prices = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| PricesServer::new(List))?;
    let address = prices.addresses()[0].clone();
    let orders = Server::builder()
        .listen("tcp://127.0.0.1:0")
        // A factory may fail: then the server does not start, and says why.
        .serve(move |shard| -> Result<_, Status> {
            let prices = PricesClient::new(shard.client(&address)?);
            Ok(OrdersServer::new(Till { prices }))
        })?;

    let client = OrdersClient::connect(&orders.addresses()[0]).await?;
    for article in ["tea", "gold"] {
        let order = Order {
            article: article.into(),
            pieces: 3,
        };
        match client.total(order).await {
            Ok(total) => println!("3 × {article}: {total} cents"),
            Err(status) => println!("3 × {article}: {status}"),
        }
    }
    Ok(())
}
