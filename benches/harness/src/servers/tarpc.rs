//! tarpc with bincode over length-delimited frames, its usual transport.

use std::io;
use std::time::Duration;

use ::tarpc::client::{Config as ClientConfig, RpcError};
use ::tarpc::context;
use ::tarpc::serde_transport::{self, Transport as SerdeTransport};
use ::tarpc::server::{BaseChannel, Channel, Config as ServerConfig};
use ::tarpc::tokio_util::codec::LengthDelimitedCodec;
use ::tarpc::{ClientMessage, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_serde::formats::Bincode;

use super::ringcall::spin;
use super::store::Store;
use super::{Announce, Caller, Counters, OwnClient, Peer, Task, stopped};
use crate::address::{Address, abstract_path};
use crate::client::{Outcome, Plan, ReadUsage};
use crate::tasks::{self, AsyncCaller, check_bytes};
use crate::work::Call;

/// tarpc on one thread.
pub struct Tarpc;

/// An order, as the other peers have it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    id: u64,
    account: u64,
    instrument: u64,
    price: i64,
    quantity: u64,
    placed_ns: u64,
    valid_until_ns: u64,
    is_sell: bool,
}

#[::tarpc::service]
trait Bench {
    /// Returns what it was given.
    async fn echo(body: Bytes) -> Bytes;
    /// Accepts an order: returns it with a new id.
    async fn accept(order: Order) -> Order;
    /// The value of a key.
    async fn get(key: String) -> Option<Bytes>;
    /// Keeps a value.
    async fn put(key: String, value: Bytes);
    /// Spins for so many microseconds.
    async fn spin(micros: u32);
}

#[derive(Clone)]
struct Bencher(Store);

impl Bench for Bencher {
    async fn echo(self, _: context::Context, body: Bytes) -> Bytes {
        body
    }

    async fn accept(self, _: context::Context, order: Order) -> Order {
        let id = order.id + 1;
        Order { id, ..order }
    }

    async fn get(self, _: context::Context, key: String) -> Option<Bytes> {
        self.0.get(&key)
    }

    async fn put(self, _: context::Context, key: String, value: Bytes) {
        self.0.put(key, value);
    }

    async fn spin(self, _: context::Context, micros: u32) {
        spin(Duration::from_micros(micros.into()));
    }
}

impl Peer for Tarpc {
    fn name(&self) -> &'static str {
        "tarpc"
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        // Sockets inherit TCP_NODELAY from this listener.
        let (listener, bound) = task.address.listen()?;
        announce(&bound)?;
        tasks::current_thread()?.block_on(async {
            let bencher = Bencher(Store::for_work(task.work));
            tokio::select! {
                ended = accept(listener, task.address, bencher) => ended,
                stop = stopped(task.stop) => stop,
            }
        })?;
        Ok(Counters::of_echo("epoll"))
    }

    fn caller(&self) -> Caller<'_> {
        Caller::Own(self)
    }
}

async fn accept(listener: Socket, address: &Address, bencher: Bencher) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    match address {
        Address::Tcp(_) => {
            let listener = TcpListener::from_std(listener.into())?;
            loop {
                let (socket, _) = listener.accept().await?;
                tokio::spawn(serve(socket, bencher.clone()));
            }
        }
        Address::Unix(_) => {
            let listener = UnixListener::from_std(listener.into())?;
            loop {
                let (socket, _) = listener.accept().await?;
                tokio::spawn(serve(socket, bencher.clone()));
            }
        }
    }
}

async fn serve<S>(socket: S, bencher: Bencher)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let config = ServerConfig {
        pending_response_buffer: CALLS_WAITING_MAX,
    };
    let framed: SerdeTransport<S, ClientMessage<BenchRequest>, Response<BenchResponse>, _> =
        serde_transport::new(frames(socket), Bincode::default());
    let calls = BaseChannel::new(config, framed).execute(bencher.serve());
    calls
        .for_each(|call| async {
            tokio::spawn(call);
        })
        .await;
}

fn frames<S>(socket: S) -> ::tarpc::tokio_util::codec::Framed<S, LengthDelimitedCodec>
where
    S: AsyncRead + AsyncWrite,
{
    LengthDelimitedCodec::builder()
        .max_frame_length(FRAME_BYTES_MAX)
        .new_framed(socket)
}

impl OwnClient for Tarpc {
    fn greet(&self, _socket: &Socket) -> io::Result<()> {
        // It has no handshake.
        Ok(())
    }

    fn run(&self, plan: &Plan, address: &Address, usage: ReadUsage<'_>) -> io::Result<Outcome> {
        tasks::run(plan, usage, async || match address {
            Address::Tcp(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Ok(connect(socket))
            }
            Address::Unix(name) => Ok(connect(UnixStream::connect(abstract_path(name)).await?)),
        })
    }
}

fn connect<S: AsyncRead + AsyncWrite + Send + 'static>(socket: S) -> BenchClient {
    let mut config = ClientConfig::default();
    config.max_in_flight_requests = CALLS_WAITING_MAX;
    config.pending_request_buffer = CALLS_WAITING_MAX;
    let framed = serde_transport::new(frames(socket), Bincode::default());
    BenchClient::new(config, framed).spawn()
}

impl AsyncCaller for BenchClient {
    async fn call(&mut self, call: &Call) -> Result<(), String> {
        let told = |error: RpcError| error.to_string();
        let context = context::current();
        match call {
            Call::Echo(body) => {
                let answer = self.echo(context, body.clone()).await.map_err(told)?;
                check_bytes(Some(answer.len()), body.len())
            }
            Call::Order => {
                let answer = self.accept(context, Order::default()).await;
                answer.map(drop).map_err(told)
            }
            Call::Get(key, bytes) => {
                let value = self.get(context, key.clone()).await.map_err(told)?;
                check_bytes(value.as_ref().map(Bytes::len), *bytes)
            }
            Call::Put(key, value) => {
                let answer = self.put(context, key.clone(), value.clone()).await;
                answer.map_err(told)
            }
            Call::Spin(micros) => {
                let answer = BenchClient::spin(self, context, *micros).await;
                answer.map_err(told)
            }
        }
    }
}

/// Requests and responses that may wait on a connection: more than any depth.
const CALLS_WAITING_MAX: usize = 1024;
/// Above the largest payload, with its envelope.
const FRAME_BYTES_MAX: usize = 4 << 20;
