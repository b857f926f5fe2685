//! What a server made of bytes does that means well, before and beside what a test is about.

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
    pub fn welcome(mut self) -> Self {
        assert_eq!(self.read().kind, HELLO);
        self.send(&Frame::new(WELCOME, 0, &hello()));
        self
    }

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
