//! Frames: written and read by the protocol without a socket.

use std::sync::Arc;

use ringcall::__private::connection::client::{ClientConnection, ClientEvent};
use ringcall::__private::connection::server::{ServerConnection, ServerEvent};
use ringcall::__private::wire::frame_writer::{append, append_bare, append_error, append_goaway};
use ringcall::__private::wire::goaway::Goaway;
use ringcall::__private::wire::handshake::{Handshake, ShardIndex};
use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::limits::{HEADER_BYTES, Limits};
use ringcall::__private::wire::resolve::{
    Directory, Resolution, answer_resolve, decode_resolved, encode_resolve,
};
use ringcall::__private::wire::violation::Violation;
use ringcall::rkyv::rancor::Error;
use ringcall::rkyv::{from_bytes, to_bytes};
use ringcall::{Code, Message, MethodDescriptor, ServiceDescriptor, Status};

use super::vectors::{hex, of_class};

static GREETER: ServiceDescriptor = ServiceDescriptor {
    name: "greeter.v1",
    methods: &[MethodDescriptor {
        name: "greeter.v1/hello",
        fingerprint: HELLO_FINGERPRINT,
        idempotent: false,
        request_bytes_max: u32::MAX,
    }],
};

const HELLO_FINGERPRINT: u64 =
    ringcall::__private::method_fingerprint(String::FINGERPRINT, String::FINGERPRINT);

/// What the servers of the vectors know.
struct Known(&'static [(&'static str, u16, u64)]);

impl Directory for Known {
    fn find(&self, name: &str) -> Option<(u16, u64)> {
        let mut methods = self.0.iter();
        methods.find_map(|&(known, index, types)| (known == name).then_some((index, types)))
    }
}

const GREETER_KNOWN: Known = Known(&[("greeter.v1/hello", 0, HELLO_FINGERPRINT)]);
const TWO_KNOWN: Known = Known(&[("a/one", 4, 0xaa), ("a/two", 9, 0xbb)]);

static THREE: ServiceDescriptor = ServiceDescriptor {
    name: "a",
    methods: &[
        method("a/one", 0xaa),
        method("a/two", 0xcc),
        method("a/three", 1),
    ],
};

const fn method(name: &'static str, fingerprint: u64) -> MethodDescriptor {
    MethodDescriptor {
        name,
        fingerprint,
        idempotent: false,
        request_bytes_max: u32::MAX,
    }
}

fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(payload);
        Ok::<_, ()>(())
    };
    append(&mut out, header, write).expect("nothing fails");
    out
}

fn resolved(ask: &ServiceDescriptor, known: &Known) -> Vec<u8> {
    let (mut asked, mut answer) = (Vec::new(), Vec::new());
    encode_resolve(ask, &mut asked);
    answer_resolve(&asked, known, |_| (), &mut answer).expect("well-formed");
    answer
}

fn text(text: &str) -> Vec<u8> {
    to_bytes::<Error>(&text.to_owned()).expect("fits").to_vec()
}

fn too_large() -> Status {
    Status::out_of_range("too large").with_details([1, 2])
}

fn goaway(reason: u16, last_call_id: u64, message: &str) -> Goaway {
    Goaway {
        reason,
        last_call_id,
        message: message.to_owned(),
    }
}

/// The frame of a vector as this crate writes it.
fn build(name: &str) -> Option<Vec<u8>> {
    const TOKEN: u64 = 0x1122_3344_5566_7788;
    let ours = Handshake::ours(&Limits::default());
    let control = |kind, call_id, payload: &[u8]| frame(Header::new(kind, call_id, 0), payload);
    let mut out = Vec::new();
    match name {
        "hello" => out = control(Kind::Hello, 0, &ours.encode()),
        "welcome" => {
            let answer = Handshake::answer(&Limits::default(), &ours, ShardIndex::ALONE);
            out = control(Kind::Welcome, 0, &answer.encode());
        }
        "resolve" => {
            let mut payload = Vec::new();
            encode_resolve(&GREETER, &mut payload);
            out = control(Kind::Resolve, 1, &payload);
        }
        "resolved" => out = control(Kind::Resolved, 1, &resolved(&GREETER, &GREETER_KNOWN)),
        "resolved_three" => out = control(Kind::Resolved, 2, &resolved(&THREE, &TWO_KNOWN)),
        "request" => {
            let header = Header {
                timeout_us: 250_000,
                ..Header::new(Kind::Request, 1, 0)
            };
            out = frame(header, &text("Ada"));
        }
        "response" => out = control(Kind::Response, 1, &text("Hello, Ada!")),
        "error" => append_error(&mut out, 7, &too_large()),
        "cancel" => append_bare(&mut out, Kind::Cancel, 1),
        "ping" => append_bare(&mut out, Kind::Ping, TOKEN),
        "pong" => append_bare(&mut out, Kind::Pong, TOKEN),
        "goaway_shutdown" => append_goaway(&mut out, &goaway(0, 1, "shutting down")),
        "goaway_unknown_kind" => {
            let violation = Violation::UnknownKind { kind: 47 };
            let goaway = goaway(violation.reason(), 0, &violation.to_string());
            append_goaway(&mut out, &goaway);
        }
        _ => return None,
    }
    Some(out)
}

#[test]
fn frames_are_built_as_documented() {
    for vector in of_class("frame") {
        let built = build(&vector.name).unwrap_or_else(|| panic!("unknown frame {}", vector.name));
        assert_eq!(hex(&built), hex(&vector.bytes), "{}", vector.name);
        let wire = vector.bytes.first_chunk().expect("a header");
        let header = Header::decode(wire, u32::MAX).expect("an honest header");
        assert_eq!(header.encode(), *wire);
        assert_eq!(vector.bytes.len(), HEADER_BYTES + header.body_bytes());
    }
}

fn vector(name: &str) -> Vec<u8> {
    let found = of_class("frame").into_iter().find(|v| v.name == name);
    found.unwrap_or_else(|| panic!("no frame {name}")).bytes
}

fn payload(frame: &[u8]) -> &[u8] {
    let header = Header::decode(frame.first_chunk().expect("a header"), u32::MAX).expect("valid");
    &frame[HEADER_BYTES..][..header.payload_bytes as usize]
}

#[test]
fn documented_payloads_are_read_as_they_are_meant() {
    let ours = Handshake::ours(&Limits::default());
    assert_eq!(Handshake::decode(payload(&vector("hello"))), Ok(ours));
    let answer = Handshake::decode_answer(payload(&vector("welcome")));
    let shard_index = Some(ShardIndex::ALONE);
    assert_eq!(
        answer,
        Ok(Handshake {
            shard_index,
            ..ours
        })
    );
    let resolution = |fingerprint, code, index| Resolution {
        fingerprint,
        code,
        index,
    };
    assert_eq!(
        decode_resolved(payload(&vector("resolved_three")), 3),
        Ok(vec![
            resolution(0xaa, Code::Ok, 4),
            resolution(0xbb, Code::FailedPrecondition, 0),
            resolution(0, Code::Unimplemented, 0),
        ])
    );
    for (name, expected) in [
        ("goaway_shutdown", goaway(0, 1, "shutting down")),
        ("goaway_unknown_kind", goaway(4, 0, "unknown frame kind 47")),
    ] {
        let decoded = Goaway::decode_payload(payload(&vector(name)));
        assert_eq!(decoded, Ok(expected));
    }
}

/// The server of the vectors reads what the client of the vectors sends.
#[test]
fn a_server_reads_the_documented_frames() {
    let mut server = ServerConnection::new(Arc::new(Limits::default()), 0);
    let sent = ["hello", "resolve", "request", "cancel", "ping", "pong"];
    let sent: Vec<u8> = sent.iter().flat_map(|name| vector(name)).collect();
    let (mut at, mut out, mut events) = (0, Vec::new(), Vec::new());
    while let Some(event) = server
        .next_event(&sent, &mut at, 0, &GREETER_KNOWN, &mut out)
        .expect("no violation")
    {
        events.push(event);
    }
    let [ServerEvent::Request { header, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((header.call_id, header.timeout_us), (1, 250_000));
    let answers = ["welcome", "resolved", "pong"].map(vector).concat();
    assert_eq!(hex(&out), hex(&answers));
}

/// The client of this crate reads what the server of the vectors sends.
#[test]
fn a_client_reads_the_documented_frames() {
    let mut out = Vec::new();
    let mut client = ClientConnection::new(Arc::new(Limits::default()), 0, &mut out);
    let mut call = |waiter, client: &mut ClientConnection<char>| {
        let call_id = client.begin_call(&GREETER, 0, 0, waiter, |_, _| Ok(()), &mut out);
        call_id.expect("room for it").to_le_bytes()
    };
    let (first, second) = (call('r', &mut client), call('e', &mut client));
    // Its own ids in place of those of the document.
    let (mut response, mut error) = (vector("response"), vector("error"));
    response[8..16].copy_from_slice(&first);
    error[8..16].copy_from_slice(&second);
    let received = [
        vector("welcome"),
        vector("resolved"),
        response.clone(),
        error,
        vector("ping"),
        vector("goaway_shutdown"),
    ]
    .concat();
    out.clear();
    let (mut at, mut events) = (0, Vec::new());
    while let Some(event) = client
        .next_event(&received, &mut at, 0, &mut out)
        .expect("no violation")
    {
        events.push(event);
    }
    let [
        ClientEvent::Ready,
        ClientEvent::Response { waiter: 'r', .. },
        ClientEvent::Failed {
            waiter: 'e',
            status,
        },
        ClientEvent::Goaway(goaway),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(*status, too_large());
    assert_eq!(goaway.last_call_id, 1);
    assert!(out.ends_with(&vector("pong")));
    let greeting = from_bytes::<String, Error>(payload(&response)).expect("valid");
    assert_eq!(greeting, "Hello, Ada!");
}
