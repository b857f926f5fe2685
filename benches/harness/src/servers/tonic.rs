//! tonic, with the settings that make it fastest here; docs/PERFORMANCE.md gives the reasons.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::tonic::transport::server::{Connected, Router};
use ::tonic::transport::{Channel, Endpoint, Server, Uri};
use ::tonic::{Request, Response, Status};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tower::service_fn;

use super::ringcall::spin;
use super::store::Store;
use super::{Announce, Caller, Counters, OwnClient, Peer, Task, stopped};
use crate::address::{Address, abstract_path};
use crate::client::{Outcome, Plan, ReadUsage};
use crate::descriptors;
use crate::tasks::{self, AsyncCaller, CONNECT_TIMEOUT, check_bytes};
use crate::work::Call;

/// What `build.rs` made of `bench.proto`.
#[expect(
    clippy::allow_attributes_without_reason,
    reason = "tonic generates them so"
)]
mod proto {
    ::tonic::include_proto!("bench.v1");
}

use proto::bench_client::BenchClient;
use proto::bench_server::{Bench, BenchServer};
use proto::{Body, Empty, Entry, Key, Micros, Order, Value};

/// tonic under one way to spread connections over threads.
pub struct Tonic {
    name: &'static str,
    threads: Threads,
}

#[derive(Clone, Copy)]
enum Threads {
    /// All connections on one thread; on several CPUs, on as many workers.
    OnePerCpu,
    /// A runtime of its own for each connection.
    OnePerConnection,
}

/// One thread per CPU that it may use, so one in most measurements.
pub static ONE_THREAD: Tonic = Tonic {
    name: "tonic",
    threads: Threads::OnePerCpu,
};
/// One thread, with a runtime of its own, per connection.
pub static THREAD_PER_CONNECTION: Tonic = Tonic {
    name: "tonic-threads",
    threads: Threads::OnePerConnection,
};

struct Bencher(Store);

#[::tonic::async_trait]
impl Bench for Bencher {
    async fn echo(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn accept(&self, request: Request<Order>) -> Result<Response<Order>, Status> {
        let order = request.into_inner();
        let id = order.id + 1;
        Ok(Response::new(Order { id, ..order }))
    }

    async fn get(&self, request: Request<Key>) -> Result<Response<Value>, Status> {
        let value = self.0.get(&request.get_ref().key);
        Ok(Response::new(Value { value }))
    }

    async fn put(&self, request: Request<Entry>) -> Result<Response<Empty>, Status> {
        let Entry { key, value } = request.into_inner();
        self.0.put(key, value);
        Ok(Response::new(Empty {}))
    }

    async fn spin(&self, request: Request<Micros>) -> Result<Response<Empty>, Status> {
        spin(Duration::from_micros(request.get_ref().micros.into()));
        Ok(Response::new(Empty {}))
    }
}

impl Peer for Tonic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn serve(&self, task: &Task<'_>, announce: Announce<'_>) -> io::Result<Counters> {
        // Sockets inherit TCP_NODELAY from this listener.
        let (listener, bound) = task.address.listen()?;
        announce(&bound)?;
        match self.threads {
            Threads::OnePerCpu => serve_all(task, listener)?,
            Threads::OnePerConnection => {
                let address = task.address.clone();
                let store = Store::for_work(task.work);
                // It waits for connections until the process ends.
                thread::spawn(move || accept_into_threads(&listener, &address, &store));
                rustix::io::read(task.stop, &mut [0; 1])?;
            }
        }
        Ok(Counters::of_echo("epoll"))
    }

    fn caller(&self) -> Caller<'_> {
        Caller::Own(self)
    }

    fn descriptors_per_connection(&self) -> usize {
        match self.threads {
            Threads::OnePerCpu => 1,
            // The socket, and what each runtime has: two of its epoll instance, and a waker.
            Threads::OnePerConnection => 4,
        }
    }
}

fn router(store: Store) -> Router {
    let service = BenchServer::new(Bencher(store))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .add_service(service)
}

fn serve_all(task: &Task<'_>, listener: Socket) -> io::Result<()> {
    let runtime = match task.cpus {
        1 => tasks::current_thread()?,
        cpus => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cpus)
            .enable_all()
            .build()?,
    };
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let router = router(Store::for_work(task.work));
        let served = async {
            match task.address {
                Address::Tcp(_) => {
                    let listener = TcpListener::from_std(listener.into())?;
                    serve(router, TcpListenerStream::new(listener)).await
                }
                Address::Unix(_) => {
                    let listener = UnixListener::from_std(listener.into())?;
                    serve(router, UnixListenerStream::new(listener)).await
                }
            }
        };
        tokio::select! {
            ended = served => ended,
            stop = stopped(task.stop) => stop,
        }
    })
}

async fn serve<S>(router: Router, sockets: impl Stream<Item = io::Result<S>>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let served = router.serve_with_incoming(sockets).await;
    served.map_err(io::Error::other)
}

fn accept_into_threads(listener: &Socket, address: &Address, store: &Store) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(true)?;
        let (is_tcp, router) = (matches!(address, Address::Tcp(_)), router(store.clone()));
        thread::spawn(move || {
            tasks::current_thread()?.block_on(async {
                if is_tcp {
                    serve(router, only(TcpStream::from_std(socket.into())?)).await
                } else {
                    serve(router, only(UnixStream::from_std(socket.into())?)).await
                }
            })
        });
    }
}

/// One socket and never another; the end of the stream would be the end of its connection.
fn only<S>(socket: S) -> impl Stream<Item = io::Result<S>> {
    stream::iter([Ok(socket)]).chain(stream::pending())
}

impl OwnClient for Tonic {
    fn greet(&self, mut socket: &Socket) -> io::Result<()> {
        socket.write_all(PREFACE)?;
        // The server answers with settings of its own, whatever they are, and acknowledges ours,
        // which are none: nine bytes at least.
        socket.read_exact(&mut [0; 9])
    }

    fn run(&self, plan: &Plan, address: &Address, usage: ReadUsage<'_>) -> io::Result<Outcome> {
        tasks::run(plan, usage, async || connect(address).await)
    }
}

/// A channel with one connection of its own.
pub async fn connect(address: &Address) -> io::Result<BenchClient<Channel>> {
    let endpoint = |uri: String| {
        Endpoint::from_shared(uri).map(|endpoint| {
            endpoint
                .tcp_nodelay(true)
                .connect_timeout(CONNECT_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_frame_size(FRAME_BYTES)
        })
    };
    let channel = match address {
        Address::Tcp(address) => {
            let endpoint = endpoint(format!("http://{address}")).map_err(io::Error::other)?;
            endpoint.connect().await
        }
        Address::Unix(name) => {
            let path: Arc<str> = abstract_path(name).into();
            let connector = service_fn(move |_: Uri| {
                let path = Arc::clone(&path);
                async move { UnixStream::connect(&*path).await.map(TokioIo::new) }
            });
            // The name goes into the requests only; the connector knows where to connect.
            let endpoint = endpoint("http://localhost".into()).map_err(io::Error::other)?;
            endpoint.connect_with_connector(connector).await
        }
    };
    let client = BenchClient::new(channel.map_err(descriptors::with_causes)?);
    Ok(client
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

impl AsyncCaller for BenchClient<Channel> {
    async fn call(&mut self, call: &Call) -> Result<(), String> {
        let told = |status: Status| status.to_string();
        match call {
            Call::Echo(bytes) => {
                let body = Body {
                    bytes: bytes.clone(),
                };
                let answer = BenchClient::echo(self, body).await.map_err(told)?;
                check_bytes(Some(answer.get_ref().bytes.len()), bytes.len())
            }
            Call::Order => self.accept(Order::default()).await.map(drop).map_err(told),
            Call::Get(key, bytes) => {
                let answer = self.get(Key { key: key.clone() }).await.map_err(told)?;
                let value = answer.get_ref().value.as_ref();
                check_bytes(value.map(Bytes::len), *bytes)
            }
            Call::Put(key, value) => {
                let (key, value) = (key.clone(), value.clone());
                let answer = self.put(Entry { key, value }).await;
                answer.map(drop).map_err(told)
            }
            Call::Spin(micros) => {
                let answer = BenchClient::spin(self, Micros { micros: *micros }).await;
                answer.map(drop).map_err(told)
            }
        }
    }
}

/// What an HTTP/2 client says first: the preface, and a SETTINGS frame without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HTTP/2 lets a peer send so much before it must wait for leave: enough for all calls that one
/// connection has in flight, so that no call ever waits for it.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
/// A body of 1 MiB travels in one HTTP/2 frame instead of 64.
const FRAME_BYTES: u32 = 2 << 20;
/// Above the largest payload, with its envelope.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
