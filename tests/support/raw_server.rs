//! What a server made of bytes does that means well, before and beside what a test is about.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::TcpStream;

use crate::raw::*;

impl RawPeer {
    /// The server's end of a connection that was just accepted, to which nothing was said.
    pub fn accepted(socket: TcpStream) -> Self {
        let peer = Self {
            socket: Box::new(socket),
        };
        peer.socket.set_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    /// Takes the client's HELLO, and welcomes it.
    pub fn welcome(self) -> Self {
        self.welcome_to(0, 0)
    }

    /// The same, and tells how many shards there are and which of them it has come to.
    pub fn welcome_to(mut self, shards: u16, shard: u16) -> Self {
        assert_eq!(self.read().kind, HELLO);
        let mut payload = hello();
        payload[32..34].copy_from_slice(&shards.to_le_bytes());
        payload[34..36].copy_from_slice(&shard.to_le_bytes());
        self.send(&Frame::new(WELCOME, 0, &payload));
        self
    }

    /// Answers that every method exists, in the order in which it was asked.
    pub fn serve_resolution(&mut self) {
        let asked = self.read_past_pings();
        self.resolve_all(&asked);
    }

    /// The same for what was asked already.
    pub fn resolve_all(&mut self, asked: &Frame) {
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

    /// The next frame that is no ping, which an impatient client sends at any time.
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
