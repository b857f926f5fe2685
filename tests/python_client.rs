//! The client in `examples/python`, which was written from `docs/PROTOCOL.md`, against a server.
//!
//! It needs `python3` (3.9 or later). Where there is none, set `RINGCALL_NO_PYTHON=1` to leave
//! this test out.

use std::process::Command;

use ringcall::{Context, Engine, Reply, Request, Server, Status};

#[ringcall::message]
struct Operands {
    a: i64,
    b: i64,
}

#[ringcall::service(name = "greeter.v1")]
trait Greeter {
    async fn hello(name: String) -> String;
}

#[ringcall::service(name = "arithmetic.v1")]
trait Arithmetic {
    async fn add(operands: Operands) -> i64;
}

#[ringcall::service(name = "sum.v1")]
trait Reals {
    async fn sum(numbers: Vec<f64>) -> f64;
}

#[ringcall::service(name = "kv.v1")]
trait Kv {
    async fn get(key: String) -> Option<Vec<u8>>;
}

struct Samples;

impl GreeterHandler for Samples {
    async fn hello(&self, _cx: &Context, name: Request<String>) -> Result<Reply<String>, Status> {
        Ok(format!("Hello, {}!", name.as_str()).into())
    }
}

impl ArithmeticHandler for Samples {
    async fn add(&self, _cx: &Context, operands: Request<Operands>) -> Result<Reply<i64>, Status> {
        let (a, b) = (operands.a.to_native(), operands.b.to_native());
        let sum = a.checked_add(b);
        sum.map(Reply::new)
            .ok_or_else(|| Status::out_of_range("the sum does not fit into 64 bits"))
    }
}

impl RealsHandler for Samples {
    async fn sum(&self, _cx: &Context, numbers: Request<Vec<f64>>) -> Result<Reply<f64>, Status> {
        let sum: f64 = numbers.iter().map(|number| number.to_native()).sum();
        // The sum of nothing is -0.0.
        Ok((sum + 0.0).into())
    }
}

impl KvHandler for Samples {
    async fn get(
        &self,
        _cx: &Context,
        key: Request<String>,
    ) -> Result<Reply<Option<Vec<u8>>>, Status> {
        let value: Option<&[u8]> = (key.as_str() == "user:1").then_some(&[1, 2, 3]);
        Ok(Reply::of(value))
    }
}

const EXPECTED: &str = "\
greeter.v1/hello('Ada') = 'Hello, Ada!'
greeter.v1/hello('Grace Hopper') = 'Hello, Grace Hopper!'
arithmetic.v1/add({'a': 40, 'b': 2}) = 42
arithmetic.v1/add({'a': 9223372036854775807, 'b': 1}) failed: OUT_OF_RANGE: the sum does not fit into 64 bits
sum.v1/sum([0.5, 1.25, -3.0]) = -1.25
sum.v1/sum([]) = 0.0
kv.v1/get('user:1') = [1, 2, 3]
kv.v1/get('nobody') = None
";

#[test]
fn a_client_written_from_the_document_makes_calls() {
    if std::env::var_os("RINGCALL_NO_PYTHON").is_some() {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python/client.py");
    for engine in [Engine::Uring, Engine::Epoll] {
        let name = format!("unix:@ringcall-python-{}-{engine:?}", std::process::id());
        let server = Server::builder()
            .listen("tcp://127.0.0.1:0")
            .listen(name)
            .shards(1.try_into().unwrap())
            .engine(engine)
            .serve(|_| {
                (
                    GreeterServer::new(Samples),
                    ArithmeticServer::new(Samples),
                    RealsServer::new(Samples),
                    KvServer::new(Samples),
                )
            })
            .expect("starts");
        for address in server.addresses() {
            let output = Command::new("python3")
                .args([script, address])
                .output()
                .unwrap_or_else(|error| {
                    panic!("can't run python3 ({error}): install it, or set RINGCALL_NO_PYTHON=1 to leave this test out")
                });
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!(complaint, "", "{address} by {engine:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), EXPECTED);
            assert!(output.status.success());
        }
    }
}

/// What the document says of nesting, slack and time limits, as the client in `examples/python` does it.
const BOUNDS: &str = r#"
import socket, struct
from client import *

def deep(levels):
    kind = value = None
    for level in range(levels):
        kind, value = (Vec(kind), [value]) if kind else (Vec(U8), [1])
    return kind, value

def refused(act, *words):
    try:
        act()
    except (CallError, ValueError) as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)

kind, value = deep(62)
assert decode(kind, encode(kind, value)) == value
kind, value = deep(63)
refused(lambda: encode(kind, value), "INVALID_ARGUMENT", "62 levels")
kind.levels = lambda value: 0
refused(lambda: decode(kind, encode(kind, value)), "62 levels")

assert decode(I64, bytes(8) + struct.pack("<q", 5)) == 5
refused(lambda: decode(I64, bytes(16) + struct.pack("<q", 5)), "24 bytes", "at most 16")
refused(lambda: decode(OPERANDS, bytes(32)), "32 bytes", "at most 16")
assert decode(STRING, bytes(4000) + b"hello" + bytes([255] * 3)) == "hello"

ours, theirs = socket.socketpair()
client = Client.__new__(Client)
client.socket, client.last_id, client.goodbye, client.patience = ours, 0, None, 10
client.request_bytes_max = 1 << 20
client.methods = {"a/b": ((I64, I64), (1, 0, 0))}
answer = lambda call_id: struct.pack("<IBBHQIIII", 8, 6, 0, 0, call_id, 0, 0, 0, 0) + struct.pack("<q8x", 7)

def timeout_us_of(timeout):
    theirs.sendall(answer(client.last_id + 1))
    assert client.call("a/b", 5, timeout=timeout) == 7
    return struct.unpack("<IBBHQIIII", theirs.recv(48)[:32])[5]

assert timeout_us_of(0) == 0
assert timeout_us_of(0.25) == 250_000
assert timeout_us_of(4294.5) == 4_294_500_000
assert timeout_us_of(7200) == 0

# A call that ends by its own clock is cancelled, and its late answer is no answer to the next.
refused(lambda: client.call("a/b", 5, timeout=0.01), "DEADLINE_EXCEEDED")
theirs.recv(48)
assert theirs.recv(32)[4] == CANCEL
theirs.sendall(answer(client.last_id))
assert timeout_us_of(0) == 0
print("as documented")
"#;

#[test]
fn the_client_keeps_to_the_documented_bounds() {
    if std::env::var_os("RINGCALL_NO_PYTHON").is_some() {
        return;
    }
    let output = Command::new("python3")
        .args(["-c", BOUNDS])
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| {
            panic!("can't run python3 ({error}): install it, or set RINGCALL_NO_PYTHON=1 to leave this test out")
        });
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "as documented\n");
}
