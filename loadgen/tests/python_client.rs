//! The client in `examples/python` against the samples that `loadgen serve` offers.

mod support;

use std::process::Command;

use support::Serving;

/// What the samples answer to the calls that the script makes. The store is empty.
const EXPECTED: &str = "\
greeter.v1/hello('Ada') = 'Hello, Ada!'
greeter.v1/hello('Grace Hopper') = 'Hello, Grace Hopper!'
arithmetic.v1/add({'a': 40, 'b': 2}) = 42
arithmetic.v1/add({'a': 9223372036854775807, 'b': 1}) failed: OUT_OF_RANGE";

#[test]
fn the_samples_answer_a_client_in_another_language() {
    if std::env::var_os("RINGCALL_NO_PYTHON").is_some() {
        return;
    }
    let listen = ["--listen", "tcp://127.0.0.1:0", "--shards", "1"];
    let mut server = Serving::start(&listen);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/client.py");
    let output = Command::new("python3")
        .args([script, &server.address()])
        .output()
        .expect("python3, or RINGCALL_NO_PYTHON=1");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with(EXPECTED), "{said}");
    assert!(!said.contains("UNIMPLEMENTED"), "{said}");
    assert!(
        said.contains("sum.v1/sum([0.5, 1.25, -3.0]) = -1.25"),
        "{said}"
    );
    assert!(said.contains("kv.v1/get('user:1') = None"), "{said}");
}
