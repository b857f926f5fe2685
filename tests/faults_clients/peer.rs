//! The server's end of a connection, made of bytes.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

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
    let mut peer = RawPeer {
        socket: Box::new(socket),
    };
    peer.socket.set_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(peer.read().kind, HELLO);
    peer.send(&Frame::new(WELCOME, 0, &hello()));
    peer
}

/// The next connection, after the handshake and the resolution of methods.
pub fn accept_calls(listener: &TcpListener) -> RawPeer {
    let mut peer = accept(listener);
    peer.serve_resolution();
    peer
}

impl RawPeer {
    /// Answers that every method exists, in the order in which it was asked.
    pub fn serve_resolution(&mut self) {
        let asked = self.read_past_pings();
        assert_eq!(asked.kind, RESOLVE);
        let count = u16::from_le_bytes([asked.payload[0], asked.payload[1]]);
        let mut payload = count.to_le_bytes().to_vec();
        let mut at = 2;
        for index in 0..count {
            payload.extend_from_slice(&asked.payload[at..at + 8]);
            payload.extend_from_slice(&0_u16.to_le_bytes());
            payload.extend_from_slice(&index.to_le_bytes());
            let name_bytes = u16::from_le_bytes([asked.payload[at + 8], asked.payload[at + 9]]);
            at += 10 + usize::from(name_bytes);
        }
        self.send(&Frame::new(RESOLVED, asked.call_id, &payload));
    }

    /// The next request.
    pub fn request(&mut self) -> Frame {
        let request = self.read_past_pings();
        assert_eq!(request.kind, REQUEST, "{request:?}");
        request
    }

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

    /// The next frame that is no PING.
    pub fn read_past_pings(&mut self) -> Frame {
        loop {
            let frame = self.read();
            if frame.kind != PING {
                return frame;
            }
        }
    }

    /// Waits until the client has closed the connection; says what came before.
    pub fn wait_for_end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.try_read().expect("the client closes in time") {
            frames.push(frame);
        }
        frames
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
