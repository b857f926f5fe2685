//! The smallest service: a name comes in, a greeting goes out.
//!
//! ```sh
//! cargo run --release --example greeter
//! ```

use std::error::Error;

use ringcall::{Context, Reply, Request, Server, Status};

/// Greets people.
#[ringcall::service(name = "greeter.v1")]
trait Greeter {
    /// Says hello to somebody.
    async fn hello(name: String) -> String;
}

struct Polite;

impl GreeterHandler for Polite {
    async fn hello(&self, _cx: &Context, name: Request<String>) -> Result<Reply<String>, Status> {
        Ok(format!("Hello, {}!", name.as_str()).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .serve(|_shard| GreeterServer::new(Polite))?;
    let address = &server.addresses()[0];
    println!("{} shards on {address}", server.cpus().len());

    let greeter = GreeterClient::connect(address).await?;
    for name in ["Ada", "Grace", "you"] {
        println!("{}", greeter.hello(name).await?.as_str());
    }

    // Calls in flight are finished first.
    server.shut_down();
    server.wait()?;
    Ok(())
}
