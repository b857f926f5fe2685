//! Says hello.

use ringcall::{Context, Reply, Request, Status};

/// Greets people.
#[ringcall::service(name = "greeter.v1")]
pub trait Greeter {
    /// Says hello to somebody.
    async fn hello(name: String) -> String;
}

/// Greets everybody alike.
#[derive(Debug)]
pub struct Polite;

impl GreeterHandler for Polite {
    async fn hello(&self, _cx: &Context, name: Request<String>) -> Result<Reply<String>, Status> {
        Ok(format!("Hello, {}!", name.as_str()).into())
    }
}
