//! Makes calls on a shard and measures them.
//!
//! Two kinds of load, told apart wherever results appear. **Closed loop**: each caller waits for an
//! answer before it calls again, so a slow server is asked less; the *service time* counts from the
//! actual call. **Open loop**: calls come at times that were fixed before, as independent users
//! make them; the *response time* counts from the time that was intended, so waiting for a slow
//! server, or for this generator, is part of it.

mod closed;
pub mod cpu_time;
pub mod flight;
mod open;
mod pace;
mod poisson;
pub mod record;
pub mod schedule;
mod tally;
pub mod work;

use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringcall::{LocalClient, Shard, Status};

use self::cpu_time::ProcessClock;
pub use self::pace::Pace;
use crate::samples::echo::EchoClient;

/// A load: echo calls over some connections for some time.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server listens.
    pub address: String,
    /// Connections.
    pub conns: usize,
    /// Most calls in flight on each connection; a closed loop always has that many.
    pub depth: usize,
    /// When calls are made.
    pub arrivals: Arrivals,
    /// Bytes that are echoed.
    pub payload_bytes: usize,
    /// Time before the measurement, under the same load.
    pub warm_up: Duration,
    /// Time that is measured.
    pub measure: Duration,
}

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// As soon as an answer to the previous one has come.
    Closed,
    /// As a Poisson process, whatever the answers do.
    Poisson {
        /// Mean rate of calls in a second.
        per_second: f64,
        /// The same seed gives the same times.
        seed: u64,
    },
}

/// What a load has measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Calls that were answered.
    pub ok: u64,
    /// Calls that were not: refused, timed out, or never sent because the server was behind.
    pub errors: u64,
    /// Why the first of them failed.
    pub first_error: Option<String>,
    /// Time that was measured.
    pub elapsed: Duration,
    /// Service times in a closed loop, response times in an open one, in nanoseconds. An open
    /// loop's failed calls are in it, with the time that they had waited.
    pub latency_ns: Histogram<u64>,
    /// CPU time of the server.
    pub server_cpu: Duration,
}

/// The echo client of one connection.
type Client = Rc<EchoClient<LocalClient>>;

/// What a load needs besides its description.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Where the calls are made.
    pub shard: Shard,
    /// How to wait for the next call of an open loop.
    pub pace: Pace,
    /// Reads the server's CPU time.
    pub server: ProcessClock,
}

impl Driver {
    /// Runs a load to its end.
    ///
    /// # Errors
    /// When the address is wrong, the server's CPU time can't be read, or no call succeeds; the
    /// text says why.
    pub async fn run(&self, load: &Load) -> Result<Outcome, String> {
        let connect = || Ok(Rc::new(EchoClient::new(self.shard.client(&load.address)?)));
        let clients = (0..load.conns)
            .map(|_| connect())
            .collect::<Result<_, Status>>();
        let clients: Vec<Client> = clients.map_err(|status| status.to_string())?;
        let outcome = match load.arrivals {
            Arrivals::Closed => closed::run(self, load, &clients).await,
            Arrivals::Poisson { per_second, seed } => {
                open::run(
                    self,
                    load,
                    &clients,
                    poisson::Poisson::new(per_second, seed),
                )
                .await
            }
        };
        let outcome =
            outcome.map_err(|error| format!("can't read the server's CPU time: {error}"))?;
        match &outcome.first_error {
            _ if outcome.ok > 0 => Ok(outcome),
            Some(why) => Err(format!("no call was answered, the first failed with {why}")),
            None => Err("no call has ended in the time that was measured".into()),
        }
    }
}

/// Time after which a call has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Distance between calls while they fail: without a server they fail at once.
const ERROR_PAUSE: Duration = Duration::from_millis(1);
