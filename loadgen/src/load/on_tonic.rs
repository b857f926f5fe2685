//! One thread of the generator that speaks gRPC by tonic, on a runtime of its own.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::generator::Job;
use super::request_data::{FILL_BYTES_MAX, KEYS, RequestData};
use super::sender::{Fault, Pool, Sender, Transport};
use super::work::{Method, Work};
use crate::target::placement::pin;
use crate::tonic::proto::samples_client::SamplesClient;
use crate::tonic::proto::{Entry, Operands, Payload, Reals, Text, Time};
use crate::tonic::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES};

/// Runs a thread's load to its end.
pub(super) fn run(job: Job) -> Result<(), String> {
    if let Some(cpu) = job.cpu {
        pin(&[cpu]).map_err(|error| format!("can't run on CPU {cpu}: {error}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't make a runtime: {error}"))?;
    LocalSet::new().block_on(&runtime, drive(job))
}

async fn drive(job: Job) -> Result<(), String> {
    let is_pinned = job.cpu.is_some();
    let transport = OnTokio::new(&job)?;
    let mut connections = Vec::new();
    for _ in 0..job.conns {
        connections.push(transport.open(&job).await?);
    }
    job.ready();
    let origin = loop {
        match job.control.origin() {
            Some(origin) => break origin,
            None if job.control.is_stopped() => return Ok(()),
            None => a_moment(is_pinned).await,
        }
    };
    let pool = Pool::new(connections, job.depth, job.churn_calls);
    let sender = Sender::new(transport, job.into_worker(origin), pool);
    while sender.turn() {
        a_moment(is_pinned).await;
    }
    Ok(())
}

/// Lets others go on: with a CPU of its own the thread never sleeps.
async fn a_moment(is_pinned: bool) {
    if is_pinned {
        yield_now().await;
    } else {
        tokio::time::sleep(SHORT).await;
    }
}

/// Speaks from a runtime of this thread.
struct OnTokio {
    endpoint: Endpoint,
    request_data: RequestData,
    payload: Bytes,
}

type Client = SamplesClient<Channel>;

impl OnTokio {
    fn new(job: &Job) -> Result<Self, String> {
        let address = job.address.strip_prefix("tcp://").ok_or_else(|| {
            format!(
                "{}: tonic is measured over tcp://HOST:PORT only",
                job.address
            )
        })?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| format!("{}: {error}", job.address))?;
        let request_data = RequestData::new(&job.workload);
        Ok(Self {
            endpoint: endpoint
                .tcp_nodelay(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .connect_timeout(job.connect_timeout),
            payload: Bytes::from(request_data.payload.clone()),
            request_data,
        })
    }

    async fn open(&self, job: &Job) -> Result<Client, String> {
        let channel = self.endpoint.connect().await;
        let channel = channel
            .map_err(|error| format!("can't connect to {}: {}", job.address, root_cause(&error)))?;
        let client = client(channel);
        if job.workload.calls(Method::Get) {
            let bytes = self.payload.len().min(FILL_BYTES_MAX);
            for _ in 0..KEYS {
                let put = client.clone().put(self.entry(bytes)).await;
                put.map_err(|status| {
                    format!("the keys can't be written before the load: {status}")
                })?;
            }
        }
        Ok(client)
    }

    fn entry(&self, bytes: usize) -> Entry {
        Entry {
            key: self.request_data.key().to_owned(),
            value: self.payload.slice(..bytes),
        }
    }

    async fn request(&self, mut client: Client, work: Work) -> Result<(), Status> {
        let bytes = work.amount as usize;
        let time = Time {
            us: f64::from(work.amount) / 1e3,
        };
        let text = |text: &str| Text {
            text: text.to_owned(),
        };
        match self.request_data.method(work) {
            Method::Echo => {
                let bytes = self.payload.slice(..bytes);
                client.echo(Payload { bytes }).await.map(drop)
            }
            Method::Hello => client
                .hello(text(&self.request_data.name[..bytes]))
                .await
                .map(drop),
            Method::Add => client.add(Operands { a: 40, b: 2 }).await.map(drop),
            Method::Sum => {
                let values = vec![0.5; bytes / size_of::<f64>()];
                client.sum(Reals { values }).await.map(drop)
            }
            Method::Get => client.get(text(self.request_data.key())).await.map(drop),
            Method::Put => client.put(self.entry(bytes)).await.map(drop),
            Method::Spin => client.spin(time).await.map(drop),
            Method::Sleep => client.sleep(time).await.map(drop),
        }
    }
}

impl Transport for OnTokio {
    type Connection = Client;

    fn connect(&self) -> Option<Client> {
        Some(client(self.endpoint.connect_lazy()))
    }

    async fn call(&self, connection: &Client, work: Work) -> Result<(), Fault> {
        // A client is a handle: cloning it is tonic's way to make calls side by side.
        let answer = self.request(connection.clone(), work).await;
        answer.map_err(|status| {
            // What tonic makes of its own has a cause.
            let is_of_server = std::error::Error::source(&status).is_none();
            Fault {
                is_unreachable: status.code() == Code::Unavailable && !is_of_server,
                is_of_server,
                text: status.to_string(),
            }
        })
    }

    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        spawn_local(future);
    }
}

/// What lies at the bottom of an error: tonic wraps it several times.
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

fn client(channel: Channel) -> Client {
    SamplesClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// How long to sleep when the CPU is shared with the server.
const SHORT: Duration = Duration::from_micros(100);
