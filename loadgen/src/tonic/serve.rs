//! The server.

#![expect(
    clippy::disallowed_types,
    reason = "a store that is only ever asked for one key"
)]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::proto::samples_server::{Samples, SamplesServer};
use super::proto::{Entry, Integer, Nothing, Operands, Payload, Real, Reals, Text, Time, Value};
use super::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use crate::samples::spin::busy_until;
use crate::target::placement::pin;

/// Largest message that either side takes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A server that runs. Dropping it tells it to end.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether all threads run.
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Finishes the calls in flight and ends.
    ///
    /// # Errors
    /// When a thread has failed.
    pub fn finish(self) -> io::Result<()> {
        self.stop.send_replace(true);
        for thread in self.threads {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread of the server panicked")))?;
        }
        Ok(())
    }
}

/// Serves the samples: one thread with a runtime and a listener of its own for each of `cpus`, which
/// is pinned to it if it is named. The kernel spreads connections over them.
///
/// # Errors
/// When the address can't be listened on, or a thread can't start.
pub fn serve(address: SocketAddr, cpus: &[Option<usize>]) -> io::Result<Serving> {
    let (stop, stopped) = watch::channel(false);
    let first = listen(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..cpus.len() {
        listeners.push(listen(address)?);
    }
    let mut threads = Vec::new();
    for (number, (listener, cpu)) in listeners.into_iter().zip(cpus.iter().copied()).enumerate() {
        let stopped = stopped.clone();
        let run = move || {
            if let Some(cpu) = cpu {
                pin(&[cpu])?;
            }
            run_shard(listener, stopped)
        };
        let thread = thread::Builder::new().name(format!("grpc {number}"));
        threads.push(thread.spawn(run)?);
    }
    Ok(Serving {
        address,
        stop,
        threads,
    })
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn run_shard(
    listener: std::net::TcpListener,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let sockets = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
        let service = SamplesServer::new(Shard::default())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let served = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .add_service(service)
            .serve_with_incoming_shutdown(sockets, async {
                // An error means that nobody can tell any more: that is the end as well.
                stopped.wait_for(|is_stopped| *is_stopped).await.ok();
            })
            .await;
        served.map_err(io::Error::other)
    })
}

/// One thread's services. tonic wants them to be `Sync`, so the store has a lock that nobody else
/// takes.
#[derive(Clone, Default)]
struct Shard(Arc<Mutex<HashMap<String, Bytes>>>);

#[tonic::async_trait]
impl Samples for Shard {
    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn hello(&self, request: Request<Text>) -> Result<Response<Text>, Status> {
        let text = format!("Hello, {}!", request.get_ref().text);
        Ok(Response::new(Text { text }))
    }

    async fn add(&self, request: Request<Operands>) -> Result<Response<Integer>, Status> {
        let Operands { a, b } = *request.get_ref();
        let value = a.checked_add(b);
        let value =
            value.ok_or_else(|| Status::out_of_range("the result has no room in 64 bits"))?;
        Ok(Response::new(Integer { value }))
    }

    async fn sum(&self, request: Request<Reals>) -> Result<Response<Real>, Status> {
        let value = request.get_ref().values.iter().sum();
        Ok(Response::new(Real { value }))
    }

    async fn get(&self, request: Request<Text>) -> Result<Response<Value>, Status> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = store.get(&request.get_ref().text).cloned();
        Ok(Response::new(Value { value }))
    }

    async fn put(&self, request: Request<Entry>) -> Result<Response<Nothing>, Status> {
        let Entry { key, value } = request.into_inner();
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if store.len() == ENTRIES_MAX && !store.contains_key(&key) {
            return Err(Status::resource_exhausted("the store is full"));
        }
        store.insert(key, value);
        Ok(Response::new(Nothing {}))
    }

    async fn spin(&self, request: Request<Time>) -> Result<Response<Nothing>, Status> {
        let start = Instant::now();
        busy_until(start, duration(request.get_ref())?);
        Ok(Response::new(Nothing {}))
    }

    async fn sleep(&self, request: Request<Time>) -> Result<Response<Nothing>, Status> {
        tokio::time::sleep(duration(request.get_ref())?).await;
        Ok(Response::new(Nothing {}))
    }
}

fn duration(time: &Time) -> Result<Duration, Status> {
    if (0.0..=US_MAX).contains(&time.us) {
        Ok(Duration::from_secs_f64(time.us / 1e6))
    } else {
        Err(Status::invalid_argument(format!(
            "{} is no number of microseconds from 0 to {US_MAX}",
            time.us
        )))
    }
}

/// A minute.
const US_MAX: f64 = 60e6;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Entries of one thread's store.
const ENTRIES_MAX: usize = 1 << 20;
