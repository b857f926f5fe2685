//! `docs/PROTOCOL.md` against the code: every test vector, and the tables of numbers.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/vectors.rs"]
mod vectors;

use std::collections::HashMap;
use std::sync::Arc;

use raw::{ERROR, Frame, GOAWAY, REQUEST, RESPONSE, RawPeer};
use ringcall::__private::Fingerprint;
use ringcall::proto::client::{ClientConnection, ClientEvent};
use ringcall::proto::frames::{append, append_bare, append_error, append_goaway};
use ringcall::proto::goaway::Goaway;
use ringcall::proto::handshake::Handshake;
use ringcall::proto::header::{Header, Kind};
use ringcall::proto::limits::{self, HEADER_BYTES, Limits};
use ringcall::proto::resolve::{
    Directory, Resolution, answer_resolve, decode_resolved, encode_resolve,
};
use ringcall::proto::server::{ServerConnection, ServerEvent};
use ringcall::proto::violation::{REASONS, Violation};
use ringcall::rkyv::rancor::Error;
use ringcall::rkyv::{from_bytes, to_bytes};
use ringcall::{
    Code, Context, Engine, Message, MethodDescriptor, Reply, Request, Server, Service,
    ServiceDescriptor, Status,
};
use vectors::{DOCUMENT, Vector, hex, of_class};

const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

/// Fails when a vector is added whose class no test here knows, or when many have gone.
#[test]
fn every_vector_belongs_to_a_test() {
    let mut names = Vec::new();
    for vector in vectors::all() {
        let known = [
            "frame",
            "tags",
            "fingerprint",
            "method",
            "payload",
            "invalid",
            "violation",
            "session",
        ];
        assert!(known.contains(&vector.class.as_str()), "{vector:?}");
        names.push((vector.class, vector.name));
    }
    assert!(names.len() >= 100, "only {} vectors are left", names.len());
    assert_eq!(names.len(), DOCUMENT.matches("```vector").count());
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two vectors have the same name");
}

// Frames.

static GREETER: ServiceDescriptor = ServiceDescriptor {
    name: "greeter.v1",
    methods: &[MethodDescriptor {
        name: "greeter.v1/hello",
        fingerprint: HELLO_FINGERPRINT,
        idempotent: false,
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
            let answer = Handshake::answer(&Limits::default(), &ours);
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
    assert_eq!(answer, Ok(ours));
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

// Types.

macro_rules! definitions {
    ($($item:item)*) => {
        $(#[ringcall::message]
        #[derive(Debug, PartialEq)]
        $item)*
        const DEFINITIONS: &str = stringify!($($item)*);
    };
}

definitions! {
    struct Operands { a: i64, b: i64 }
    struct Put { key: String, value: Vec<u8>, ttl_ms: Option<u32> }
    struct Mixed { flag: bool, wide: u64, small: u16 }
    struct Level(u64, u32);
    struct Nothing;
    struct Tree { label: String, children: Vec<Tree> }
    enum Side { Buy, Sell }
    enum Numbered { Low = 1, High = 9 }
    enum Shape { Point, Circle { radius: f64 }, Label(u8, String) }
}

#[test]
fn the_document_defines_the_types_of_its_vectors() {
    let block = DOCUMENT.split("```rust\n").nth(1).expect("a block");
    let documented = block.split("```").next().expect("its end");
    assert_eq!(squeezed(documented), squeezed(DEFINITIONS));
}

/// Without spaces, and without the commas that rustfmt adds.
fn squeezed(code: &str) -> String {
    let code: String = code.split_whitespace().collect();
    code.replace(",}", "}")
}

/// A payload vector as this crate knows it.
struct Payload {
    type_name: String,
    value: String,
    bytes: Vec<u8>,
    /// What a payload stands for, in Rust's words.
    read: fn(&[u8]) -> Result<String, Error>,
}

macro_rules! payloads {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        /// Returns what it was given, for every type in the document.
        #[ringcall::service(name = "vectors.v1")]
        trait Echo {
            $(async fn $name(value: $type) -> $type;)*
        }

        struct Echoes;

        impl EchoHandler for Echoes {
            $(async fn $name(
                &self,
                _cx: &Context,
                value: Request<$type>,
            ) -> Result<Reply<$type>, Status> {
                Ok(value.to_owned().into())
            })*
        }

        fn payloads() -> HashMap<&'static str, Payload> {
            let mut payloads = HashMap::new();
            $({
                let value: $type = $value;
                let payload = Payload {
                    type_name: squeezed(stringify!($type)),
                    value: format!("{value:?}"),
                    bytes: to_bytes::<Error>(&value).expect("fits").to_vec(),
                    read: |bytes| Ok(format!("{:?}", from_bytes::<$type, Error>(bytes)?)),
                };
                payloads.insert(stringify!($name), payload);
            })*
            payloads
        }

        fn fingerprints() -> HashMap<String, u64> {
            HashMap::from([$((squeezed(stringify!($type)), <$type>::FINGERPRINT)),*])
        }
    };
}

payloads! {
    string_empty: String = String::new();
    string_inline: String = "hello".into();
    string_eight: String = "ringcall".into();
    string_nine: String = "ringcalls".into();
    string_long: String = "The length of this text does not fit into six bits: it has 80 of them, all ASCII".into();
    vec_empty: Vec<f64> = vec![];
    vec_f64: Vec<f64> = vec![1.5, -2.0];
    vec_u8: Vec<u8> = vec![1, 2, 3];
    vec_string: Vec<String> = vec!["one".into(), "a longer text".into()];
    vec_vec: Vec<Vec<u16>> = vec![vec![1], vec![], vec![2, 3]];
    unit: () = ();
    u32: u32 = 0x1234_5678;
    i64: i64 = -2;
    u128: u128 = 1 << 100;
    f32: f32 = 1.5;
    f64: f64 = -0.1;
    bool: bool = true;
    char: char = '\u{fc}';
    boxed: Box<u32> = Box::new(5);
    array: [u16; 3] = [1, 2, 3];
    operands: Operands = Operands { a: 40, b: 2 };
    put: Put = Put { key: "user:1000001".into(), value: vec![1, 2, 3], ttl_ms: Some(1000) };
    mixed: Mixed = Mixed { flag: true, wide: 1, small: 2 };
    level: Level = Level(1, 2);
    nothing: Nothing = Nothing;
    tuple: (u8, u32, String) = (1, 2, "three".into());
    text_and_numbers: (String, Vec<u64>) = ("ringcalls".into(), vec![]);
    tree: Tree = Tree {
        label: "root".into(),
        children: vec![
            Tree { label: "left".into(), children: vec![] },
            Tree { label: "the right one".into(), children: vec![] },
        ],
    };
    side: Side = Side::Sell;
    numbered: Numbered = Numbered::High;
    shape_point: Shape = Shape::Point;
    shape_circle: Shape = Shape::Circle { radius: 1.0 };
    shape_label: Shape = Shape::Label(7, "a longer label".into());
    option_none: Option<u32> = None;
    option_u64: Option<u64> = Some(5);
    option_bytes: Option<Vec<u8>> = Some(vec![1, 2, 3]);
    option_no_bytes: Option<Vec<u8>> = None;
}

fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| (EchoServer::new(Echoes), GreeterServer::new(Greeting)))
        .expect("starts")
}

/// A peer that has resolved the echoes: their indices are their places.
fn echo_peer(server: &Server) -> RawPeer {
    let mut peer = RawPeer::open(&server.addresses()[0]);
    let methods = EchoServer::new(Echoes).descriptor().methods;
    let asked: Vec<_> = methods.iter().map(|m| (m.name, m.fingerprint)).collect();
    let resolved = peer.resolve(&asked);
    assert!(resolved.iter().all(|&(code, _)| code == 0));
    peer
}

fn index_of(name: &str) -> u16 {
    let methods = EchoServer::new(Echoes).descriptor().methods;
    let full = format!("vectors.v1/{name}");
    let at = methods.iter().position(|method| method.name == full);
    at.unwrap_or_else(|| panic!("no method {full}")) as u16
}

#[test]
fn payloads_are_as_documented() {
    let payloads = payloads();
    let documented = of_class("payload");
    assert_eq!(documented.len(), payloads.len());
    for vector in &documented {
        let name = vector.name.as_str();
        let payload = &payloads[name];
        assert_eq!(
            squeezed(vector.property("type")),
            payload.type_name,
            "{name}"
        );
        assert_eq!(vector.property("value"), payload.value, "{name}");
        assert_eq!(hex(&vector.bytes), hex(&payload.bytes), "{name}");
        let read = (payload.read)(&vector.bytes).expect("valid");
        assert_eq!(read, payload.value, "{name}");
    }
    for engine in ENGINES {
        let server = server(engine);
        let mut peer = echo_peer(&server);
        for (vector, call_id) in documented.iter().zip(1..) {
            let index = index_of(&vector.name);
            peer.send(&Frame::request(index, call_id, &vector.bytes));
            let echoed = peer.read();
            assert_eq!((echoed.kind, echoed.call_id), (RESPONSE, call_id));
            assert_eq!(hex(&echoed.payload), hex(&vector.bytes), "{}", vector.name);
        }
    }
}

#[test]
fn invalid_payloads_are_refused() {
    let payloads = payloads();
    for engine in ENGINES {
        let server = server(engine);
        let mut peer = echo_peer(&server);
        for (vector, call_id) in of_class("invalid").iter().zip(1..) {
            let type_name = squeezed(vector.property("type"));
            let (method, payload) = payloads
                .iter()
                .find(|(_, payload)| payload.type_name == type_name)
                .unwrap_or_else(|| panic!("no method takes {type_name}"));
            assert!((payload.read)(&vector.bytes).is_err(), "{}", vector.name);
            peer.send(&Frame::request(index_of(method), call_id, &vector.bytes));
            let refused = peer.read();
            assert_eq!((refused.kind, refused.call_id), (ERROR, call_id));
            assert_eq!(
                refused.code(),
                Code::InvalidArgument as u16,
                "{}",
                vector.name
            );
        }
    }
}

/// The bound of section 14.3: the root and 62 levels below it.
#[test]
fn nesting_is_bounded_as_documented() {
    let server = server(Engine::Epoll);
    let mut peer = echo_peer(&server);
    for (levels, kind) in [(62, RESPONSE), (63, ERROR)] {
        let mut tree = Tree {
            label: String::new(),
            children: vec![],
        };
        // The empty `Vec` at the bottom is a level too.
        for _ in 1..levels {
            tree = Tree {
                label: String::new(),
                children: vec![tree],
            };
        }
        let bytes = to_bytes::<Error>(&tree).expect("fits");
        peer.send(&Frame::request(index_of("tree"), levels, &bytes));
        assert_eq!(peer.read().kind, kind, "{levels} levels");
    }
}

// Fingerprints.

/// Written anew from section 12, so that a mistake in the crate's own can't hide.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn stated(vector: &Vector) -> u64 {
    let hash = u64::from_str_radix(vector.property("fnv"), 16).expect("a number");
    assert_eq!(fnv(&vector.bytes), hash, "{}", vector.name);
    hash
}

#[test]
fn fingerprints_are_as_documented() {
    let types = fingerprints();
    for vector in of_class("fingerprint") {
        let type_name = squeezed(vector.property("type"));
        assert_eq!(types[&type_name], stated(&vector), "{type_name}");
    }
    for vector in of_class("method") {
        let part = |key| match &*squeezed(vector.property(key)) {
            "Put" => Put::FINGERPRINT,
            name => types[name],
        };
        let method = ringcall::__private::method_fingerprint(part("request"), part("response"));
        assert_eq!(method, stated(&vector), "{}", vector.name);
    }
}

#[test]
fn basic_types_have_the_documented_fingerprints() {
    macro_rules! basic {
        ($($type:ty),*) => { [$((stringify!($type), <$type>::FINGERPRINT)),*] };
    }
    let basic = basic!(
        u8,
        u16,
        u32,
        u64,
        u128,
        i8,
        i16,
        i32,
        i64,
        i128,
        f32,
        f64,
        bool,
        char,
        String,
        ()
    );
    let [tags] = &of_class("tags")[..] else {
        panic!("one block has all basic types")
    };
    let stated: Vec<(&str, &str)> = tags.properties().collect();
    let basic: Vec<(&str, String)> = basic
        .iter()
        .map(|&(name, hash)| (name, format!("{hash:016x}")))
        .collect();
    assert_eq!(stated.len(), basic.len());
    for ((name, hash), (ours, expected)) in stated.iter().zip(&basic) {
        assert_eq!((name, hash), (ours, &expected.as_str()));
    }
    assert_eq!(Fingerprint::tag("u8").finish(), fnv(b"u8"));
}

// Connections.

#[ringcall::service(name = "greeter.v1")]
trait Greeter {
    async fn hello(name: String) -> String;
}

struct Greeting;

impl GreeterHandler for Greeting {
    async fn hello(&self, _cx: &Context, name: Request<String>) -> Result<Reply<String>, Status> {
        Ok(format!("Hello, {}!", name.as_str()).into())
    }
}

#[test]
fn violations_end_a_connection_as_documented() {
    for engine in ENGINES {
        let server = server(engine);
        for vector in of_class("violation") {
            let mut peer = match vector.find("state") {
                Some("new") => RawPeer::connect(&server.addresses()[0]),
                Some(state) => panic!("unknown state {state}"),
                None => RawPeer::open(&server.addresses()[0]),
            };
            peer.send_bytes(&vector.bytes);
            let reason = peer.expect_goaway().reason();
            assert_eq!(
                reason.to_string(),
                vector.property("reason"),
                "{}",
                vector.name
            );
        }
    }
}

#[test]
fn the_worked_session_happens() {
    for engine in ENGINES {
        for session in of_class("session") {
            let server = Server::builder()
                .listen("tcp://127.0.0.1:0")
                .shards(1.try_into().unwrap())
                .engine(engine)
                .serve(|_| GreeterServer::new(Greeting))
                .expect("starts");
            let mut peer = RawPeer::connect(&server.addresses()[0]);
            let [.., (_, last)] = &session.turns[..] else {
                panic!("{session:?}")
            };
            assert_eq!(last[4], GOAWAY, "a session ends with the server");
            assert!(session.turns.iter().any(|(_, turn)| turn[4] == REQUEST));
            for (who, turn) in &session.turns {
                if *who == 'C' {
                    peer.send_bytes(turn);
                    continue;
                }
                if turn[4] == GOAWAY {
                    server.shut_down();
                }
                assert_eq!(hex(&peer.read().encode()), hex(turn));
            }
            assert_eq!(peer.try_read().expect("in time"), None);
        }
    }
}

// Tables.

#[test]
fn the_tables_have_the_numbers_of_the_code() {
    let mut rows = Vec::new();
    for reason in 0..REASONS as u16 {
        rows.push(format!(
            "| {reason} | `{}` |",
            Violation::reason_name(reason)
        ));
    }
    for code in Code::ALL {
        rows.push(format!("| {} | `{code}` |", code as u16));
    }
    use Kind::*;
    for kind in [
        Hello, Welcome, Resolve, Resolved, Request, Response, Error, Cancel, Ping, Pong, Goaway,
    ] {
        let name = format!("{kind:?}").to_uppercase();
        rows.push(format!("| {} | {name} |", kind as u8));
    }
    rows.extend(limit_rows());
    for row in rows {
        assert!(DOCUMENT.contains(&row), "the document lacks {row}");
    }
}

fn limit_rows() -> Vec<String> {
    use limits::*;
    let ours = Limits::default();
    let (kib, mib) = (|bytes: usize| bytes >> 10, |bytes: usize| bytes >> 20);
    let payload = mib(ours.payload_bytes_max as usize);
    let control = kib(CONTROL_BYTES_MAX as usize);
    let ceiling = PAYLOAD_BYTES_CEILING >> 30;
    let mut rows = vec![
        format!("| Header | | {HEADER_BYTES} bytes |"),
        format!("| Alignment of frames | | {FRAME_ALIGN} bytes |"),
        format!("| `payload_bytes_max` | {payload} MiB; from {control} KiB to {ceiling} GiB |"),
        format!("| Payload of every other kind | | {control} KiB |"),
        format!(
            "| `calls_in_flight_max` | {}; at least 1 |",
            ours.calls_in_flight_max
        ),
        format!("| Methods of a server | | {METHODS_MAX} |"),
        format!("| Methods in one RESOLVE, and in one service | | {RESOLVE_METHODS_MAX} |"),
        format!("| Name of a method | | {METHOD_NAME_BYTES_MAX} bytes |"),
        format!("| RESOLVE frames of a connection | | {RESOLVES_PER_CONNECTION_MAX} |"),
        format!(
            "| PING frames | | {PINGS_PER_WINDOW_MAX} in {} s |",
            PING_WINDOW.as_secs()
        ),
        format!("| CANCEL frames | | {CANCELS_BEYOND_REQUESTS_MAX} more than"),
        format!("| Message of ERROR and GOAWAY | | {STATUS_MESSAGE_BYTES_MAX} bytes |"),
        format!(
            "| Details of ERROR | | {} KiB |",
            kib(STATUS_DETAILS_BYTES_MAX)
        ),
        format!(
            "| Nesting of an archive (14.3) | | {} levels |",
            VALIDATION_DEPTH_MAX - 1
        ),
        format!(
            "| `write_queue_bytes_high` | {} KiB |",
            kib(ours.write_queue_bytes_high)
        ),
        format!(
            "| `write_queue_bytes_max` | {} MiB |",
            mib(ours.write_queue_bytes_max)
        ),
        format!(
            "| `body_grace`, `body_rate_min` | {} s, {} bytes/s |",
            ours.body_grace.as_secs(),
            ours.body_rate_min
        ),
    ];
    for (name, time) in [
        ("handshake_timeout", ours.handshake_timeout),
        ("header_timeout", ours.header_timeout),
        ("keepalive_interval", ours.keepalive_interval),
        ("keepalive_timeout", ours.keepalive_timeout),
        ("write_stall_timeout", ours.write_stall_timeout),
    ] {
        rows.push(format!("| `{name}` | {} s |", time.as_secs()));
    }
    rows
}
