//! Sends back what it gets: the load of the demonstration.

use ringcall::{Context, Reply, Request, Status};

/// Echoes.
#[ringcall::service(name = "echo.v1")]
pub trait Echo {
    /// The same bytes.
    #[idempotent]
    async fn echo(payload: Vec<u8>) -> Vec<u8>;
}

/// Passes the message on as it was received.
#[derive(Debug)]
pub struct Mirror;

impl EchoHandler for Mirror {
    async fn echo(
        &self,
        _cx: &Context,
        payload: Request<Vec<u8>>,
    ) -> Result<Reply<Vec<u8>>, Status> {
        Ok(payload.into())
    }
}
