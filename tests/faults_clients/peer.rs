//! The server's end of a connection, made of bytes.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ringcall::Limits;

use crate::raw::*;

/// A server that does what a test says, and gives what the test wants to know.
pub struct Hostile<T> {
    pub address: String,
    told: Receiver<T>,
}

impl<T: Send + 'static> Hostile<T> {
    /// Runs `act` on a thread of its own.
    pub fn start(act: impl FnOnce(TcpListener) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let (tell, told) = channel();
        std::thread::spawn(move || tell.send(act(listener)));
        Self { address, told }
    }

    /// What `act` has returned.
    pub fn end(self) -> T {
        self.told
            .recv_timeout(PATIENCE)
            .expect("the server ends in time and does not panic")
    }
}

/// The next connection, after the handshake.
pub fn accept(listener: &TcpListener) -> RawPeer {
    shake_hands(listener.accept().expect("a client connects").0)
}

/// The same, but its end is a reset.
pub fn accept_to_reset(listener: &TcpListener) -> RawPeer {
    let (socket, _) = listener.accept().expect("a client connects");
    let linger = Some(Duration::ZERO);
    socket2::SockRef::from(&socket).set_linger(linger).unwrap();
    let mut peer = shake_hands(socket);
    peer.serve_resolution();
    peer
}

fn shake_hands(socket: TcpStream) -> RawPeer {
    RawPeer::accepted(socket).welcome()
}

/// The next connection, after the handshake and the resolution of methods.
pub fn accept_calls(listener: &TcpListener) -> RawPeer {
    let mut peer = accept(listener);
    peer.serve_resolution();
    peer
}

impl RawPeer {
    /// Answers the next request with its own number, which is returned.
    pub fn serve_one(&mut self) -> u64 {
        let request = self.request();
        self.answer(&request)
    }

    /// Answers a request with its own number.
    pub fn answer(&mut self, request: &Frame) -> u64 {
        self.send(&Frame::new(RESPONSE, request.call_id, &request.payload));
        u64::from_le_bytes(request.payload[..8].try_into().unwrap())
    }

    pub fn go_away(&mut self, reason: u16, last_call_id: u64) {
        let mut payload = reason.to_le_bytes().to_vec();
        payload.extend_from_slice(&[0, 0, 1, 0, 1, 0]);
        payload.extend_from_slice(&last_call_id.to_le_bytes());
        payload.extend_from_slice(b"so it is");
        self.send(&Frame::new(GOAWAY, 0, &payload));
    }
}

/// Lets so much time pass: what is tested happens because of it.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// A server that does the same with each connection, on a thread of its own, and counts them.
pub struct Crowd {
    pub address: String,
    has_ended: Arc<AtomicBool>,
    counting: JoinHandle<usize>,
}

impl Crowd {
    pub fn start(act: impl Fn(RawPeer) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let has_ended = Arc::new(AtomicBool::new(false));
        let counting = std::thread::spawn({
            let has_ended = Arc::clone(&has_ended);
            move || {
                let mut connections = 0;
                for socket in listener.incoming() {
                    if has_ended.load(Ordering::SeqCst) {
                        break;
                    }
                    connections += 1;
                    let socket: Box<dyn Socket> = Box::new(socket.unwrap());
                    socket.set_timeout(Some(PATIENCE)).unwrap();
                    let act = act.clone();
                    std::thread::spawn(move || act(RawPeer { socket }));
                }
                connections
            }
        });
        Self {
            address,
            has_ended,
            counting,
        }
    }

    /// The number of connections so far.
    pub fn end(self) -> usize {
        self.has_ended.store(true, Ordering::SeqCst);
        let address = self.address.strip_prefix("tcp://").unwrap();
        drop(TcpStream::connect(address).unwrap());
        self.counting.join().unwrap()
    }
}

/// Most connections that a client makes in such a time if none is of use: one, another at once, and then one
/// after 25, 50, 100 ms and so on, each twice the one before and 2.5 s at most.
pub fn connections_in(time: Duration) -> usize {
    let (mut connections, mut at, mut pause) = (2, Duration::ZERO, Duration::from_millis(25));
    while at + pause <= time {
        connections += 1;
        at += pause;
        pause = Duration::from_millis(2500).min(2 * pause);
    }
    connections
}

/// A server that waits for a PING, answers it, and its one call last.
pub struct Pinged {
    pub server: Hostile<()>,
    /// The PING has come.
    pub pinged: Receiver<()>,
    /// It was answered.
    pub answered: Receiver<()>,
    /// Has the call answered.
    pub go_on: Sender<()>,
}

impl Pinged {
    pub fn start() -> Self {
        let (begin, pinged) = channel();
        let (tell, answered) = channel();
        let (go_on, last) = channel::<()>();
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            let request = peer.request();
            let ping = peer.read();
            assert_eq!(ping.kind, PING);
            begin.send(()).unwrap();
            peer.send(&Frame::new(PONG, ping.call_id, &[]));
            tell.send(()).unwrap();
            last.recv_timeout(PATIENCE).unwrap();
            peer.answer(&request);
        });
        Self {
            server,
            pinged,
            answered,
            go_on,
        }
    }
}

/// Limits of a client that pings soon, and waits as long for the answer.
pub fn pings_soon(time: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.keepalive_interval = time;
    limits.keepalive_timeout = time;
    limits
}
