//! One thread of the generator that speaks this project's protocol: a shard of its own, with its
//! connections.

use std::time::Duration;

use ringcall::{Code, Idle, LocalClient, LocalRuntime, Shard, Status};

use super::generator::Job;
use super::request_data::{FILL_BYTES_MAX, KEYS, RequestData};
use super::sender::{Fault, Pool, Sender, Transport};
use super::wait_mode::WaitMode;
use super::work::{Method, Work};
use crate::samples::arithmetic::{ArithmeticClient, Operands};
use crate::samples::delay::DelayClient;
use crate::samples::echo::EchoClient;
use crate::samples::greeter::GreeterClient;
use crate::samples::kv::{KvClient, Put};
use crate::samples::spin::SpinClient;
use crate::samples::stats::StatsClient;
use crate::samples::sum::SumClient;

/// Runs a thread's load to its end.
pub(super) fn run(job: Job) -> Result<(), String> {
    // With a CPU of its own it never sleeps, so that waking up is no part of what it measures.
    let (idle, wait_mode) = match job.cpu {
        Some(_) => (Idle::Spin, WaitMode::Spin),
        None => (Idle::Park, WaitMode::Sleep),
    };
    let runtime = LocalRuntime::builder().cpu(job.cpu).idle(idle);
    let result = runtime.run(move |shard| drive(shard, wait_mode, job));
    result.unwrap_or_else(|error| Err(error.to_string()))
}

async fn drive(shard: Shard, wait_mode: WaitMode, job: Job) -> Result<(), String> {
    let transport = OnShard {
        shard: shard.clone(),
        address: job.address.clone(),
        request_data: RequestData::new(&job.workload),
    };
    let mut connections = Vec::new();
    for _ in 0..job.conns {
        connections.push(transport.open(&job).await?);
    }
    job.ready();
    let origin = loop {
        match job.control.origin() {
            Some(origin) => break origin,
            None if job.control.is_stopped() => return Ok(()),
            None => wait_mode.a_moment(&shard).await,
        }
    };
    let pool = Pool::new(connections, job.depth, job.churn_calls);
    let sender = Sender::new(transport, job.into_worker(origin), pool);
    while sender.turn() {
        wait_mode.a_moment(&shard).await;
    }
    Ok(())
}

/// Speaks from a shard.
struct OnShard {
    shard: Shard,
    address: String,
    request_data: RequestData,
}

impl OnShard {
    /// Connects and makes first calls, so that neither is part of the load.
    async fn open(&self, job: &Job) -> Result<Connection, String> {
        let client = self.shard.client(&self.address);
        let client = client.map_err(|status| status.to_string())?;
        greet(&client, job.connect_timeout).await?;
        let connection = Connection::new(&client);
        // The methods of each service are resolved by the first call of it.
        for method in 0..job.workload.methods.len() as u8 {
            let first = connection
                .call(&self.request_data, Work { method, amount: 0 })
                .await;
            if let Err(status) = first
                && status.code() == Code::Unavailable
            {
                return Err(status.to_string());
            }
        }
        if job.workload.calls(Method::Get) {
            fill(&connection, &self.request_data, job.connect_timeout).await?;
        }
        Ok(connection)
    }
}

impl Transport for OnShard {
    type Connection = Connection;

    fn connect(&self) -> Option<Connection> {
        let client = self.shard.client(&self.address).ok()?;
        Some(Connection::new(&client))
    }

    async fn call(&self, connection: &Connection, work: Work) -> Result<(), Fault> {
        let answer = connection.call(&self.request_data, work).await;
        answer.map_err(|status| Fault {
            is_unreachable: status.code() == Code::Unavailable && !status.is_from_peer(),
            is_of_server: status.is_from_peer(),
            text: status.to_string(),
        })
    }

    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.shard.spawn(future);
    }
}

/// A connection with a client for each service.
struct Connection {
    echo: EchoClient<LocalClient>,
    greeter: GreeterClient<LocalClient>,
    arithmetic: ArithmeticClient<LocalClient>,
    sum: SumClient<LocalClient>,
    kv: KvClient<LocalClient>,
    spin: SpinClient<LocalClient>,
    delay: DelayClient<LocalClient>,
}

impl Connection {
    fn new(client: &LocalClient) -> Self {
        Self {
            echo: EchoClient::new(client.clone()),
            greeter: GreeterClient::new(client.clone()),
            arithmetic: ArithmeticClient::new(client.clone()),
            sum: SumClient::new(client.clone()),
            kv: KvClient::new(client.clone()),
            spin: SpinClient::new(client.clone()),
            delay: DelayClient::new(client.clone()),
        }
    }

    async fn call(&self, request_data: &RequestData, work: Work) -> Result<(), Status> {
        let bytes = work.amount as usize;
        let us = f64::from(work.amount) / 1e3;
        match request_data.method(work) {
            Method::Echo => self
                .echo
                .echo(&request_data.payload[..bytes])
                .await
                .map(drop),
            Method::Hello => self
                .greeter
                .hello(&request_data.name[..bytes])
                .await
                .map(drop),
            Method::Add => {
                let operands = Operands { a: 40, b: 2 };
                self.arithmetic.add(operands).await.map(drop)
            }
            Method::Sum => {
                let values = vec![0.5; bytes / size_of::<f64>()];
                self.sum.sum(values).await.map(drop)
            }
            Method::Get => self.kv.get(request_data.key()).await.map(drop),
            Method::Put => self.kv.put(put(request_data, bytes)).await.map(drop),
            Method::Spin => self.spin.spin(us).await.map(drop),
            Method::Sleep => self.delay.sleep(us.round() as u64).await.map(drop),
        }
    }
}

fn put(request_data: &RequestData, bytes: usize) -> Put {
    Put {
        key: request_data.key().to_owned(),
        value: request_data.payload[..bytes].to_vec(),
    }
}

/// Makes a first call, so that connecting is no part of the load. A server that does not know the
/// method is there all the same.
async fn greet(client: &LocalClient, timeout: Duration) -> Result<(), String> {
    match StatsClient::new(client.clone())
        .read()
        .deadline(timeout)
        .await
    {
        Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            Err(status.to_string())
        }
        _ => Ok(()),
    }
}

/// Gives every key a value in the store that this connection has come to.
async fn fill(
    connection: &Connection,
    request_data: &RequestData,
    timeout: Duration,
) -> Result<(), String> {
    let bytes = request_data.payload.len().min(FILL_BYTES_MAX);
    for _ in 0..KEYS {
        let put = connection
            .kv
            .put(put(request_data, bytes))
            .deadline(timeout)
            .await;
        put.map_err(|status| format!("the keys can't be written before the load: {status}"))?;
    }
    Ok(())
}
