//! A server made of bytes, whose connections come to the shards that a test wants.

use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::load::STAYS;
use crate::raw::*;

pub struct FalseShards {
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: Mutex<Vec<Connection>>,
    has_changed: Condvar,
}

/// One connection, as a test sees it.
pub struct Connection {
    peer: RawPeer,
    /// Requests that were answered, and those that stay.
    pub answered: usize,
    pub staying: Vec<Frame>,
    /// Whether the client has closed it.
    pub has_ended: bool,
}

impl FalseShards {
    /// `seats` tells how many shards there are, and which of them the connection with this number, from 0,
    /// has come to.
    pub fn start(seats: impl Fn(u16) -> (u16, u16) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for number in 0.. {
                let (socket, _) = listener.accept().expect("a client connects");
                // So that it is a reset when the test ends it.
                let linger = Some(Duration::ZERO);
                socket2::SockRef::from(&socket).set_linger(linger).unwrap();
                let (shards, shard) = seats(number);
                let peer = RawPeer::accepted(socket);
                accepting.change(|connections| {
                    connections.push(Connection {
                        peer: peer.twin(),
                        answered: 0,
                        staying: Vec::new(),
                        has_ended: false,
                    });
                });
                let serving = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    let peer = peer.welcome_to(shards, shard);
                    serving.serve(peer, number.into(), shard);
                });
            }
        });
        Self { address, shared }
    }

    /// Waits until the connections are as they should be.
    pub fn until(&self, what: &str, is_so: impl Fn(&[Connection]) -> bool) {
        let connections = self.shared.connections.lock().unwrap();
        let in_time = self
            .shared
            .has_changed
            .wait_timeout_while(connections, PATIENCE, |now| !is_so(now))
            .unwrap()
            .1;
        assert!(!in_time.timed_out(), "not in time: {what}");
    }

    /// Looks at the connections.
    pub fn look<T>(&self, look: impl FnOnce(&mut [Connection]) -> T) -> T {
        look(&mut self.shared.connections.lock().unwrap())
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Connection>) -> T) -> T {
        let changed = change(&mut self.connections.lock().unwrap());
        self.has_changed.notify_all();
        changed
    }

    /// Answers each request with the number of the shard, but for those that stay.
    fn serve(&self, mut peer: RawPeer, number: usize, shard: u16) {
        while let Ok(Some(frame)) = peer.try_read() {
            match frame.kind {
                RESOLVE => peer.resolve_all(&frame),
                REQUEST => self.change(|connections| {
                    let connection = &mut connections[number];
                    if label(&frame) >= STAYS {
                        connection.staying.push(frame);
                    } else {
                        connection.answered += 1;
                        peer.send(&answer(&frame, shard.into()));
                    }
                }),
                PING => peer.send(&Frame::new(PONG, frame.call_id, &[])),
                CANCEL => (),
                kind => panic!("a client does not send {kind}"),
            }
        }
        self.change(|connections| connections[number].has_ended = true);
    }
}

fn label(request: &Frame) -> u64 {
    u64::from_le_bytes(request.payload[..8].try_into().expect("a number"))
}

fn answer(request: &Frame, number: u64) -> Frame {
    Frame::new(RESPONSE, request.call_id, &number.to_le_bytes())
}

impl Connection {
    /// Answers those that stay, each with its label.
    pub fn let_go(&mut self) {
        for request in std::mem::take(&mut self.staying) {
            self.peer.send(&answer(&request, label(&request)));
        }
    }

    /// Says that the server shuts down, and which call was its last.
    pub fn go_away(&mut self, last_call_id: u64) {
        let mut payload = vec![0, 0, 0, 0, 1, 0, 1, 0];
        payload.extend_from_slice(&last_call_id.to_le_bytes());
        self.peer.send(&Frame::new(GOAWAY, 0, &payload));
    }

    /// Ends it without a word.
    pub fn break_off(&self) {
        self.peer.socket.shut_down(Shutdown::Both).unwrap();
    }
}
