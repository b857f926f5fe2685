//! A peer made of bytes: what a test can do wrong on a real socket.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A test that waits longer than this for a peer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const HELLO: u8 = 1;
pub const WELCOME: u8 = 2;
pub const RESOLVE: u8 = 3;
pub const RESOLVED: u8 = 4;
pub const REQUEST: u8 = 5;
pub const RESPONSE: u8 = 6;
pub const ERROR: u8 = 7;
pub const CANCEL: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const GOAWAY: u8 = 11;

/// A frame as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub selector: u16,
    pub call_id: u64,
    pub timeout_us: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, call_id: u64, payload: &[u8]) -> Self {
        Self {
            kind,
            selector: 0,
            call_id,
            timeout_us: 0,
            payload: payload.to_vec(),
        }
    }

    pub fn request(index: u16, call_id: u64, payload: &[u8]) -> Self {
        Self {
            selector: index,
            ..Self::new(REQUEST, call_id, payload)
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut wire = vec![0; 32];
        wire[0..4].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        wire[4] = self.kind;
        wire[6..8].copy_from_slice(&self.selector.to_le_bytes());
        wire[8..16].copy_from_slice(&self.call_id.to_le_bytes());
        wire[16..20].copy_from_slice(&self.timeout_us.to_le_bytes());
        wire.extend_from_slice(&self.payload);
        wire.resize(wire.len().next_multiple_of(16), 0);
        wire
    }

    /// The code of an ERROR frame.
    pub fn code(&self) -> u16 {
        assert_eq!(self.kind, ERROR, "{self:?}");
        self.selector
    }

    /// The reason of a GOAWAY frame.
    pub fn reason(&self) -> u16 {
        assert_eq!(self.kind, GOAWAY, "{self:?}");
        u16::from_le_bytes([self.payload[0], self.payload[1]])
    }

    /// The message of an ERROR or GOAWAY frame.
    pub fn message(&self) -> String {
        let text = match self.kind {
            ERROR => {
                let length = u32::from_le_bytes(self.payload[..4].try_into().unwrap()) as usize;
                &self.payload[4..4 + length]
            }
            GOAWAY => &self.payload[16..],
            _ => panic!("no message in {self:?}"),
        };
        String::from_utf8(text.to_vec()).unwrap()
    }
}

/// The 40 bytes of an honest handshake.
pub fn hello() -> Vec<u8> {
    let mut payload = b"RINGCALL".to_vec();
    payload.extend_from_slice(&1_u16.to_le_bytes());
    payload.extend_from_slice(&1_u16.to_le_bytes());
    payload.extend_from_slice(&0x0008_2003_u32.to_le_bytes());
    payload.extend_from_slice(&0_u64.to_le_bytes());
    payload.extend_from_slice(&(16_u32 << 20).to_le_bytes());
    payload.extend_from_slice(&1024_u32.to_le_bytes());
    payload.extend_from_slice(&[0; 8]);
    payload
}

/// A RESOLVE frame for these methods and fingerprints.
pub fn resolve(methods: &[(&str, u64)]) -> Frame {
    let mut payload = (methods.len() as u16).to_le_bytes().to_vec();
    for (name, fingerprint) in methods {
        payload.extend_from_slice(&fingerprint.to_le_bytes());
        payload.extend_from_slice(&(name.len() as u16).to_le_bytes());
        payload.extend_from_slice(name.as_bytes());
    }
    Frame::new(RESOLVE, 1, &payload)
}

pub trait Socket: Read + Write + Send {
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn shut_down(&self, how: std::net::Shutdown) -> io::Result<()>;
    fn duplicate(&self) -> io::Result<Box<dyn Socket>>;
}

impl Socket for TcpStream {
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_nodelay(true)?;
        self.set_read_timeout(timeout)?;
        self.set_write_timeout(timeout)
    }
    fn shut_down(&self, how: std::net::Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
    fn duplicate(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }
}

impl Socket for UnixStream {
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)?;
        self.set_write_timeout(timeout)
    }
    fn shut_down(&self, how: std::net::Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
    fn duplicate(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }
}

pub struct RawPeer {
    pub socket: Box<dyn Socket>,
}

impl RawPeer {
    /// Connects without a word.
    pub fn connect(address: &str) -> Self {
        let socket: Box<dyn Socket> = match address.split_once("://") {
            Some(("tcp", address)) => Box::new(TcpStream::connect(address).expect("listens")),
            _ => {
                let path = address.strip_prefix("unix:").expect("tcp:// or unix:");
                Box::new(UnixStream::connect(path).expect("listens"))
            }
        };
        socket.set_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// Connects to a TCP address without a word, with a socket that was prepared before.
    pub fn connect_with(address: &str, prepare: impl FnOnce(&socket2::Socket)) -> Self {
        let address = address.strip_prefix("tcp://").expect("tcp://");
        let address: SocketAddr = address.parse().expect("an IP address and a port");
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )
        .expect("a socket");
        prepare(&socket);
        socket.connect(&address.into()).expect("listens");
        let socket: Box<dyn Socket> = Box::new(TcpStream::from(socket));
        socket.set_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// Connects and shakes hands.
    pub fn open(address: &str) -> Self {
        Self::connect(address).shaken()
    }

    /// Shakes hands.
    pub fn shaken(mut self) -> Self {
        self.send(&Frame::new(HELLO, 0, &hello()));
        assert_eq!(self.read().kind, WELCOME);
        self
    }

    /// The same connection once more, to write on one thread and read on another.
    pub fn twin(&self) -> Self {
        let socket = self.socket.duplicate().expect("a descriptor");
        Self { socket }
    }

    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.encode());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the server reads");
    }

    /// Resolves methods; returns the code and the index of each.
    pub fn resolve(&mut self, methods: &[(&str, u64)]) -> Vec<(u16, u16)> {
        self.send(&resolve(methods));
        let answer = self.read();
        assert_eq!(answer.kind, RESOLVED, "{answer:?}");
        let word = |entry: &[u8], at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        answer.payload[2..]
            .chunks(12)
            .map(|entry| (word(entry, 8), word(entry, 10)))
            .collect()
    }

    /// The next frame; panics when the connection ends or nothing comes.
    pub fn read(&mut self) -> Frame {
        self.try_read()
            .expect("an answer in time")
            .expect("an open connection")
    }

    /// The next frame, or `None` at the end of the connection.
    pub fn try_read(&mut self) -> io::Result<Option<Frame>> {
        let mut header = [0; 32];
        match self.socket.read_exact(&mut header) {
            Ok(()) => (),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let length = u32::from_le_bytes(header[0..4].try_into().unwrap()) as usize;
        let mut payload = vec![0; length.next_multiple_of(16)];
        self.socket.read_exact(&mut payload)?;
        payload.truncate(length);
        Ok(Some(Frame {
            kind: header[4],
            selector: u16::from_le_bytes([header[6], header[7]]),
            call_id: u64::from_le_bytes(header[8..16].try_into().unwrap()),
            timeout_us: u32::from_le_bytes(header[16..20].try_into().unwrap()),
            payload,
        }))
    }

    /// Sends FIN: nothing more will be sent.
    pub fn finish(&mut self) {
        self.socket.shut_down(Shutdown::Write).expect("connected");
    }

    /// Reads on to the end of the connection, and sees that no GOAWAY comes.
    pub fn expect_end(&mut self) {
        while let Some(frame) = self.try_read().expect("the connection is closed in time") {
            assert_ne!(frame.kind, GOAWAY, "{frame:?}");
        }
    }

    /// Reads the GOAWAY with which the server ends the connection, and its end.
    pub fn expect_goaway(&mut self) -> Frame {
        loop {
            let frame = self.read();
            if frame.kind == GOAWAY {
                let end = self.try_read().expect("the connection is closed in time");
                assert_eq!(end, None, "nothing follows a GOAWAY");
                return frame;
            }
        }
    }
}
