//! However a server's stream is cut, the client does the same, and every call that was begun ends
//! exactly once.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringcall::__private::connection::client::{ClientConnection, ClientEvent};
use ringcall::__private::wire::framer::Body;
use ringcall::{Limits, MethodDescriptor, ServiceDescriptor, Status};

use crate::chunks::{Chunking, assert_aligned};
use crate::source::Source;
use crate::wire::{self, ERROR, Frame, GOAWAY, RESOLVED, RESPONSE, WELCOME};

const fn method(name: &'static str, fingerprint: u64) -> MethodDescriptor {
    MethodDescriptor {
        name,
        fingerprint,
        idempotent: false,
        request_bytes_max: u32::MAX,
    }
}

static TWO: ServiceDescriptor = ServiceDescriptor {
    name: "a",
    methods: &[method("a/b", 1), method("a/c", 2)],
};
static ONE: ServiceDescriptor = ServiceDescriptor {
    name: "b",
    methods: &[method("b/x", 3)],
};

/// What the program does, at the beginning and after each event.
#[derive(Clone, Copy, Debug)]
enum Act {
    Begin {
        is_one: bool,
        method: u16,
        bytes: u8,
        fails: bool,
    },
    Cancel {
        nth: u8,
    },
    Nothing,
}

impl Act {
    fn of(source: &mut Source<'_>) -> Self {
        match source.u8() % 4 {
            0 | 1 => {
                let how = source.u8();
                Self::Begin {
                    is_one: how & 1 == 1,
                    method: u16::from(how >> 1 & 1),
                    bytes: source.u8(),
                    fails: how > 240,
                }
            }
            2 => Self::Cancel { nth: source.u8() },
            _ => Self::Nothing,
        }
    }
}

pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let how = source.u8();
    let [whole, others @ ..] = Chunking::three(&mut source);
    let count = usize::from(source.u8() % 24);
    let acts: Vec<Act> = (0..count).map(|_| Act::of(&mut source)).collect();
    let acts_before = acts.len().min(usize::from(source.u8() % 16));
    let ids = {
        let mut driven = Driven::new();
        driven.act_all(&acts[..acts_before]);
        driven.ids
    };
    let mut stream = Vec::new();
    if how & 1 == 1 {
        let payload = wire::handshake(1 << 20, 16);
        let welcome = Frame {
            kind: WELCOME,
            payload: &payload,
            ..Frame::default()
        };
        welcome.append_to(&mut stream);
    }
    if how & 2 == 2 {
        append_frames(&mut stream, &mut source, &ids);
    } else {
        stream.extend_from_slice(source.0);
    }
    let expected = seen(&stream, &whole, &acts, acts_before);
    for chunking in others {
        let other = seen(&stream, &chunking, &acts, acts_before);
        assert_eq!(other, expected, "{chunking:?}");
    }
}

fn append_frames(stream: &mut Vec<u8>, source: &mut Source<'_>, ids: &[u64]) {
    while !source.is_empty() && stream.len() < 300_000 {
        let start = stream.len();
        let (kind, how) = (source.u8() % 16, source.u8());
        // Mostly a call that was made; later ones have ids that can be guessed too.
        let call_id = match source.pick(ids) {
            Some(id) if how & 1 == 0 => id,
            _ => u64::from(source.u8()) << 20 | u64::from(source.u8() & 3),
        };
        let mut payload = Vec::new();
        let (kind, selector, call_id) = match kind {
            0..=2 => {
                let count = u16::from(source.u8() % 4);
                payload.extend_from_slice(&count.to_le_bytes());
                for _ in 0..count {
                    payload.extend_from_slice(&[source.u8(); 8]);
                    let code = [0_u16, 0, 9, 12, 77][usize::from(source.u8() % 5)];
                    payload.extend_from_slice(&code.to_le_bytes());
                    payload.extend_from_slice(&source.u16().to_le_bytes());
                }
                (RESOLVED, 0, u64::from(how & 3))
            }
            3..=6 => {
                let scale = if how & 2 == 0 { 1 } else { 300 };
                payload.resize(usize::from(source.u8()) * scale, 1);
                (RESPONSE, 0, call_id)
            }
            7..=9 => {
                let length = source.u8();
                payload.extend_from_slice(&u32::from(length).to_le_bytes());
                payload.extend_from_slice(source.take(length.into()));
                (ERROR, source.u16() % 20, call_id)
            }
            10 => {
                payload.extend_from_slice(&u16::from(how % 25).to_le_bytes());
                payload.extend_from_slice(&[0, 0, 1, 0, 1, 0]);
                payload.extend_from_slice(&call_id.to_le_bytes());
                payload.extend_from_slice(b"goodbye");
                (GOAWAY, 0, 0)
            }
            _ => (how % 13, 0, u64::from(source.u8())),
        };
        let frame = Frame {
            kind,
            selector,
            call_id,
            payload: &payload,
            ..Frame::default()
        };
        frame.append_to(stream);
        wire::damage(stream, start, source);
    }
}

/// A connection, and what the program knows of its calls.
struct Driven {
    connection: ClientConnection<u32>,
    out: Vec<u8>,
    ids: Vec<u64>,
    begun: u32,
    waiting: BTreeSet<u32>,
    events: Vec<String>,
    now_ns: u64,
}

fn seen(
    stream: &[u8],
    chunking: &Chunking,
    acts: &[Act],
    acts_before: usize,
) -> (Vec<String>, Vec<u8>) {
    let mut driven = Driven::new();
    driven.act_all(&acts[..acts_before]);
    let mut later = acts[acts_before..].iter();
    chunking.feed(
        stream,
        &mut driven,
        |driven| driven.connection.link_mut().take_direct(),
        |driven, body| driven.connection.link_mut().put_direct(body),
        |driven, chunk, start| driven.receive(chunk, start, &mut later),
    );
    let end = Status::unavailable("the end");
    for (waiter, fate) in driven.connection.take_waiters(None, &end) {
        driven.events.push(format!("fate of {waiter}: {fate:?}"));
        driven.end(waiter);
    }
    assert!(
        driven.waiting.is_empty(),
        "a waiter was lost: {:?}",
        driven.waiting
    );
    assert_eq!(driven.connection.calls_in_flight(), 0);
    (driven.events, driven.out)
}

impl Driven {
    fn new() -> Self {
        let mut limits = Limits::default();
        limits.payload_bytes_max = 128 * 1024;
        limits.calls_in_flight_max = 32;
        let mut out = Vec::new();
        Self {
            connection: ClientConnection::new(Arc::new(limits), 0, &mut out),
            out,
            ids: Vec::new(),
            begun: 0,
            waiting: BTreeSet::new(),
            events: Vec::new(),
            now_ns: 0,
        }
    }

    fn act_all(&mut self, acts: &[Act]) {
        acts.iter().for_each(|&act| self.act(act));
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Begin {
                is_one,
                method,
                bytes,
                fails,
            } if self.connection.has_room_for_calls() => {
                let (service, method) = if is_one { (&ONE, 0) } else { (&TWO, method) };
                let encode = |out: &mut Vec<u8>, bytes_max: u32| {
                    assert!(bytes_max >= 64 * 1024);
                    out.resize(out.len() + usize::from(bytes), 7);
                    if fails {
                        Err(Status::internal("no request"))
                    } else {
                        Ok(())
                    }
                };
                let waiter = self.begun;
                let begun =
                    self.connection
                        .begin_call(service, method, 0, waiter, encode, &mut self.out);
                if let Ok(id) = begun {
                    assert!(self.ids.last().is_none_or(|&last| last < id), "ids rise");
                    self.ids.push(id);
                    self.begun += 1;
                    self.waiting.insert(waiter);
                }
            }
            Act::Cancel { nth } if !self.ids.is_empty() => {
                let id = self.ids[usize::from(nth) % self.ids.len()];
                if let Some(waiter) = self.connection.cancel_call(id, &mut self.out) {
                    self.end(waiter);
                }
            }
            _ => (),
        }
    }

    fn end(&mut self, waiter: u32) {
        assert!(self.waiting.remove(&waiter), "call {waiter} ended twice");
    }

    /// Whether the connection goes on.
    fn receive<'a>(
        &mut self,
        chunk: &[u8],
        start: usize,
        later: &mut impl Iterator<Item = &'a Act>,
    ) -> bool {
        self.now_ns += 1;
        let mut at = start;
        loop {
            let short = self.connection.next_response(chunk, &mut at);
            let next = match short {
                Some((waiter, payload)) => Ok(Some(ClientEvent::Response {
                    waiter,
                    body: Body::InPlace(payload),
                })),
                None => {
                    self.connection
                        .next_event(chunk, &mut at, self.now_ns, &mut self.out)
                }
            };
            let text = match next {
                Ok(None) => {
                    assert_eq!(at, chunk.len(), "the chunk is used up");
                    return true;
                }
                Ok(Some(ClientEvent::Response { waiter, body })) => {
                    self.end(waiter);
                    let payload = body_bytes(&body, chunk);
                    assert_aligned(payload);
                    format!("response to {waiter}: {payload:?}")
                }
                Ok(Some(ClientEvent::Failed { waiter, status })) => {
                    self.end(waiter);
                    format!("failure of {waiter}: {status:?}")
                }
                Ok(Some(ClientEvent::NotSent { waiter, status })) => {
                    self.end(waiter);
                    format!("{waiter} was not sent: {status:?}")
                }
                Ok(Some(other)) => format!("{other:?}"),
                Err(violation) => {
                    self.events.push(format!("violation: {violation}"));
                    return false;
                }
            };
            self.events.push(text);
            self.act(later.next().copied().unwrap_or(Act::Nothing));
        }
    }
}

fn body_bytes<'a>(body: &'a Body, chunk: &'a [u8]) -> &'a [u8] {
    match body {
        Body::InPlace(range) => &chunk[range.clone()],
        Body::Gathered(buf) | Body::Direct(buf) => buf.as_slice(),
        Body::Discarded => unreachable!("a client drops no response"),
    }
}
