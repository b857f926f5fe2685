//! However a client's stream is cut, the server does the same: the same events in the same order, the
//! same bytes of output, the same violation.

use std::sync::Arc;

use ringcall::__private::wire::framer::Body;
use ringcall::__private::wire::header::Header;
use ringcall::__private::wire::resolve::Directory;
use ringcall::__private::connection::server::{ServerConnection, ServerEvent};
use ringcall::Limits;

use crate::chunks::{Chunking, assert_aligned};
use crate::source::Source;
use crate::wire::{self, Frame, HELLO, RESOLVE};

struct Methods;

const FIRST: (&str, u64) = ("a/b", 1);
const LAST: (&str, u64) = ("k/g", 2);
const LAST_INDEX: u16 = 1023;

impl Directory for Methods {
    fn find(&self, name: &str) -> Option<(u16, u64)> {
        match name {
            "a/b" => Some((0, FIRST.1)),
            "k/g" => Some((LAST_INDEX, LAST.1)),
            _ => None,
        }
    }

    fn request_bytes_max(&self, index: u16) -> u32 {
        if index == 0 {
            REQUEST_BYTES_MAX
        } else {
            u32::MAX
        }
    }
}

/// Of the first method.
const REQUEST_BYTES_MAX: u32 = 1000;

#[derive(Debug, PartialEq)]
enum Event {
    Request {
        call_id: u64,
        index: u16,
        timeout_us: u32,
        payload: Vec<u8>,
    },
    /// It is dropped as it arrives, or read and then refused, as the pieces are.
    TooLong(u64),
    Unresolved(u64),
    AfterGoaway(u64),
    Cancel(u32),
    Violation(String),
}

pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let how = source.u8();
    let [whole, others @ ..] = Chunking::three(&mut source);
    let goaway_after = usize::from(source.u8() % 8);
    let mut stream = Vec::new();
    if how & 1 == 1 {
        let payload = wire::handshake(1 << 20, 16);
        let hello = Frame {
            kind: HELLO,
            payload: &payload,
            ..Frame::default()
        };
        hello.append_to(&mut stream);
    }
    if how & 2 == 2 {
        let payload = wire::resolve(&[FIRST, LAST]);
        let resolve = Frame {
            kind: RESOLVE,
            call_id: 1,
            payload: &payload,
            ..Frame::default()
        };
        resolve.append_to(&mut stream);
    }
    if how & 4 == 4 {
        append_frames(&mut stream, &mut source);
    } else {
        stream.extend_from_slice(source.0);
    }
    let expected = seen(&stream, &whole, goaway_after);
    for chunking in others {
        let other = seen(&stream, &chunking, goaway_after);
        assert_eq!(other, expected, "{chunking:?}");
    }
}

fn append_frames(stream: &mut Vec<u8>, source: &mut Source<'_>) {
    while !source.is_empty() && stream.len() < 400_000 {
        let start = stream.len();
        let (kind, how) = (source.u8(), source.u8());
        let call_id = match how & 3 {
            0 => u64::from(source.u8()),
            1 => source.u64(),
            2 => u64::MAX - u64::from(source.u8()),
            _ => u64::from(source.u16()),
        };
        let selector = match how >> 2 & 3 {
            1 => LAST_INDEX,
            2 => source.u16(),
            _ => 0,
        };
        let timeout_us = if how & 16 == 0 { 0 } else { source.u32() };
        let length = match how & 32 {
            0 => usize::from(source.u8()),
            _ => usize::from(source.u16()) * 2,
        };
        let mut payload = source.take(length.min(64)).to_vec();
        payload.resize(length, 0);
        let frame = Frame {
            kind: kind % 13,
            selector,
            call_id,
            timeout_us,
            payload: &payload,
        };
        frame.append_to(stream);
        wire::damage(stream, start, source);
    }
}

/// A connection, and what its driver has done so far.
struct Driven {
    connection: ServerConnection,
    events: Vec<Event>,
    out: Vec<u8>,
    live: Vec<u64>,
    tasks: u32,
    now_ns: u64,
}

fn seen(stream: &[u8], chunking: &Chunking, goaway_after: usize) -> (Vec<Event>, Vec<u8>) {
    let mut limits = Limits::default();
    limits.payload_bytes_max = 128 * 1024;
    let mut driven = Driven {
        connection: ServerConnection::new(Arc::new(limits), 0),
        events: Vec::new(),
        out: Vec::new(),
        live: Vec::new(),
        tasks: 0,
        now_ns: 0,
    };
    chunking.feed(
        stream,
        &mut driven,
        |driven| driven.connection.link_mut().take_direct(),
        |driven, body| driven.connection.link_mut().put_direct(body),
        |driven, chunk, start| driven.receive(chunk, start, chunking.is_quick, goaway_after),
    );
    assert!(driven.connection.poll_timeout() > 0);
    (driven.events, driven.out)
}

impl Driven {
    /// Whether the connection goes on.
    fn receive(&mut self, chunk: &[u8], start: usize, is_quick: bool, goaway_after: usize) -> bool {
        // Too little for anything to expire.
        self.now_ns += 1;
        let mut at = start;
        loop {
            match self.next(chunk, &mut at, is_quick) {
                Some(Event::Violation(text)) => {
                    self.events.push(Event::Violation(text));
                    return false;
                }
                Some(event) => {
                    self.act(&event);
                    self.events.push(event);
                    if self.events.len() == goaway_after {
                        self.connection.go_away(None, &mut self.out);
                    }
                }
                None => {
                    assert_eq!(at, chunk.len(), "the chunk is used up");
                    return true;
                }
            }
        }
    }

    fn next(&mut self, chunk: &[u8], at: &mut usize, is_quick: bool) -> Option<Event> {
        if is_quick && let Some((header, range)) = self.connection.next_request(chunk, at) {
            return Some(request(&header, &chunk[range]));
        }
        let next = self
            .connection
            .next_event(chunk, at, self.now_ns, &Methods, &mut self.out);
        Some(match next {
            Ok(None) => return None,
            Ok(Some(ServerEvent::Request { header, body })) => request(
                &header,
                match &body {
                    Body::InPlace(range) => &chunk[range.clone()],
                    Body::Gathered(buf) | Body::Direct(buf) => buf.as_slice(),
                    Body::Discarded => unreachable!("no request is handed on without its body"),
                },
            ),
            Ok(Some(ServerEvent::TooLong {
                call_id,
                bytes,
                bytes_max,
            })) => {
                assert!(bytes > bytes_max && bytes_max == REQUEST_BYTES_MAX);
                Event::TooLong(call_id)
            }
            Ok(Some(ServerEvent::NoMemory { .. })) => {
                unreachable!("there is memory for all bodies")
            }
            Ok(Some(ServerEvent::Unresolved { call_id })) => Event::Unresolved(call_id),
            Ok(Some(ServerEvent::AfterGoaway { call_id })) => Event::AfterGoaway(call_id),
            Ok(Some(ServerEvent::Cancel { task })) => Event::Cancel(task),
            Err(violation) => {
                self.connection.go_away(Some(&violation), &mut self.out);
                Event::Violation(violation.to_string())
            }
        })
    }

    /// Some handlers wait, and some of those end.
    fn act(&mut self, event: &Event) {
        let Event::Request { call_id, index, .. } = event else {
            return;
        };
        assert!(
            [0, LAST_INDEX].contains(index),
            "only what was resolved is called"
        );
        if call_id % 3 != 0 && self.connection.has_room_for_calls() {
            self.tasks += 1;
            self.connection.suspend_call(*call_id, self.tasks);
            self.live.push(*call_id);
        }
        if call_id % 5 == 4
            && let Some(ended) = self.live.pop()
        {
            self.connection.end_call(ended);
        }
    }
}

fn request(header: &Header, payload: &[u8]) -> Event {
    assert_aligned(payload);
    assert_eq!(payload.len(), header.payload_bytes as usize);
    if header.payload_bytes > Methods.request_bytes_max(header.selector) {
        return Event::TooLong(header.call_id);
    }
    Event::Request {
        call_id: header.call_id,
        index: header.selector,
        timeout_us: header.timeout_us,
        payload: payload.to_vec(),
    }
}
