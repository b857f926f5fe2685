//! Payloads: what a type's values look like, on a server that returns what it was given.

use std::collections::BTreeMap;

use ringcall::__private::access;
use ringcall::rkyv::rancor::Error;
use ringcall::rkyv::util::AlignedVec;
use ringcall::rkyv::{from_bytes, to_bytes};
use ringcall::{Code, Context, Engine, Message, Reply, Request, Server, Service, Status};

use super::ENGINES;
use super::raw::{ERROR, Frame, RESPONSE, RawPeer};
use super::vectors::{DOCUMENT, hex, of_class};

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
    struct Lease { holder: String, token: Vec<u8>, ttl_ms: Option<u32> }
    struct Mixed { flag: bool, wide: u64, small: u16 }
    struct Level(u64, u32);
    struct Nothing;
    struct Tree { label: String, children: Vec<Tree> }
    enum Side { Buy, Sell }
    enum Numbered { Low = 1, High = 9 }
    enum Shape { Point, Circle { radius: f64 }, Label(u8, String) }
    enum Term { Number(i64), Sum(Vec<Term>) }
}

#[test]
fn the_document_defines_the_types_of_its_vectors() {
    let block = DOCUMENT.split("```rust\n").nth(1).expect("a block");
    let documented = block.split("```").next().expect("its end");
    assert_eq!(squeezed(documented), squeezed(DEFINITIONS));
}

/// Without spaces, and without the commas that rustfmt adds.
pub fn squeezed(code: &str) -> String {
    let code: String = code.split_whitespace().collect();
    code.replace(",}", "}")
}

/// A payload vector as this crate knows it.
struct Payload {
    type_name: String,
    value: String,
    bytes: Vec<u8>,
    /// What a payload stands for, in Rust's words.
    read: fn(&[u8]) -> Option<String>,
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

        fn payloads() -> BTreeMap<&'static str, Payload> {
            let mut payloads = BTreeMap::new();
            $({
                let value: $type = $value;
                let payload = Payload {
                    type_name: squeezed(stringify!($type)),
                    value: format!("{value:?}"),
                    bytes: to_bytes::<Error>(&value).expect("fits").to_vec(),
                    read: |bytes| {
                        let payload = aligned(bytes);
                        access::<$type>(&payload)?;
                        let read = from_bytes::<$type, Error>(&payload);
                        Some(format!("{:?}", read.expect("rkyv agrees")))
                    },
                };
                payloads.insert(stringify!($name), payload);
            })*
            payloads
        }

        /// The fingerprint of each type above.
        pub fn fingerprints() -> BTreeMap<String, u64> {
            BTreeMap::from([$((squeezed(stringify!($type)), <$type>::FINGERPRINT)),*])
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
    array_of_none: [u32; 0] = [];
    boxed_unit: Box<()> = Box::new(());
    operands: Operands = Operands { a: 40, b: 2 };
    lease: Lease = Lease { holder: "user:1000001".into(), token: vec![1, 2, 3], ttl_ms: Some(1000) };
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
    term: Term = Term::Sum(vec![Term::Number(1), Term::Sum(vec![])]);
    option_none: Option<u32> = None;
    option_u64: Option<u64> = Some(5);
    option_bytes: Option<Vec<u8>> = Some(vec![1, 2, 3]);
    option_no_bytes: Option<Vec<u8>> = None;
    option_unit: Option<()> = Some(());
}

/// A payload where it lies in practice: at a multiple of 16, even if it is empty.
fn aligned(bytes: &[u8]) -> AlignedVec {
    // One without capacity points nowhere in particular.
    let mut aligned = AlignedVec::with_capacity(bytes.len().max(1));
    aligned.extend_from_slice(bytes);
    aligned
}

fn server(engine: Engine) -> Server {
    Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(1.try_into().unwrap())
        .engine(engine)
        .serve(|_| EchoServer::new(Echoes))
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
            assert!((payload.read)(&vector.bytes).is_none(), "{}", vector.name);
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

/// The server reads what no writer may produce, and returns it as it should have been.
#[test]
fn documented_payloads_are_tolerated() {
    let payloads = payloads();
    for engine in ENGINES {
        let server = server(engine);
        let mut peer = echo_peer(&server);
        for (vector, call_id) in of_class("tolerated").iter().zip(1..) {
            let (type_name, value) = (vector.property("type"), vector.property("value"));
            let (method, payload) = payloads
                .iter()
                .find(|(_, payload)| payload.type_name == squeezed(type_name))
                .unwrap_or_else(|| panic!("no method takes {type_name}"));
            assert_eq!((payload.read)(&vector.bytes).expect("valid"), value);
            peer.send(&Frame::request(index_of(method), call_id, &vector.bytes));
            let echoed = peer.read();
            assert_eq!((echoed.kind, echoed.call_id), (RESPONSE, call_id));
            assert_ne!(hex(&echoed.payload), hex(&vector.bytes), "{}", vector.name);
            assert_eq!((payload.read)(&echoed.payload).expect("valid"), value);
        }
    }
}

/// The bound of section 14.3: 62 levels.
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
