//! The appendix "Sample services" of `docs/PROTOCOL.md` against the services themselves.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loadgen::samples::arithmetic::{self, ArithmeticClient};
use loadgen::samples::factorial::FactorialClient;
use loadgen::samples::spin::SpinClient;
use ringcall::{LocalClient, LocalRuntime, Message, MethodDescriptor, Status};
use support::{Serving, run};

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");
const HEADING: &str = "## Appendix: sample services\n";

/// A row of the table of methods, with its types and numbers as they stand there.
struct Row {
    request: &'static str,
    response: &'static str,
    runs_twice: bool,
    errors: BTreeSet<u16>,
    fingerprint: &'static str,
}

fn appendix() -> &'static str {
    let (_, appendix) = DOCUMENT.split_once(HEADING).expect("it has an appendix");
    appendix
}

fn rows() -> BTreeMap<&'static str, Row> {
    let lines = appendix().lines().filter(|line| line.starts_with("| `"));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[name, request, response, twice, errors, fingerprint, _] = &cells[..] else {
            panic!("not seven cells: {line}")
        };
        let code = |cell: &'static str| cell.trim_matches('`');
        let row = Row {
            request: code(request),
            response: code(response),
            runs_twice: match twice {
                "yes" => true,
                "no" => false,
                other => panic!("{other} in {line}"),
            },
            errors: documented_errors(errors),
            fingerprint: code(fingerprint),
        };
        (code(name), row)
    });
    rows.collect()
}

/// The codes in `3: negative; 11: above 34`, or in a dash.
fn documented_errors(cell: &str) -> BTreeSet<u16> {
    let errors = cell.split("; ").filter(|error| *error != "–");
    let codes = errors.map(|error| error.split_once(": ").expect("code: why").0);
    codes.map(|code| code.parse().expect("a code")).collect()
}

macro_rules! definitions {
    ($($item:item)*) => {
        $(#[ringcall::message] $item)*
        const DEFINITIONS: &str = stringify!($($item)*);
    };
}

// The types as the appendix defines them, from which their fingerprints follow.
definitions! {
    struct Operands { a: i64, b: i64 }
    struct Put { key: String, value: Vec<u8> }
    struct ShardStats {
        engine: String,
        engine_features: Vec<String>,
        shard: u32,
        shards: u32,
        cpu: Option<u32>,
        connections: u64,
        requests: u64,
        in_place: u64,
        copied: u64,
        direct: u64,
    }
}

fn fingerprint_of(type_name: &str) -> u64 {
    match type_name {
        "()" => <()>::FINGERPRINT,
        "bool" => bool::FINGERPRINT,
        "i64" => i64::FINGERPRINT,
        "u64" => u64::FINGERPRINT,
        "u128" => u128::FINGERPRINT,
        "f64" => f64::FINGERPRINT,
        "String" => String::FINGERPRINT,
        "Vec<u8>" => Vec::<u8>::FINGERPRINT,
        "Vec<f64>" => Vec::<f64>::FINGERPRINT,
        "Option<Vec<u8>>" => Option::<Vec<u8>>::FINGERPRINT,
        "Operands" => Operands::FINGERPRINT,
        "Put" => Put::FINGERPRINT,
        "ShardStats" => ShardStats::FINGERPRINT,
        other => panic!("what is {other}?"),
    }
}

fn offered() -> Vec<MethodDescriptor> {
    let methods = LocalRuntime::builder().run(|shard| async move {
        let services = loadgen::samples::services(&shard, &Arc::default());
        let methods = services.iter().flat_map(|s| s.descriptor().methods);
        methods.copied().collect()
    });
    methods.expect("a shard")
}

#[test]
fn each_method_is_documented_with_its_types_and_fingerprint() {
    let (mut rows, offered) = (rows(), offered());
    for method in offered {
        let name = method.name;
        let row = rows.remove(name).unwrap_or_else(|| panic!("no row {name}"));
        let (request, response) = (fingerprint_of(row.request), fingerprint_of(row.response));
        let by_types = ringcall::__private::method_fingerprint(request, response);
        assert_eq!(by_types, method.fingerprint, "the types of {name}");
        assert_eq!(row.fingerprint, format!("{by_types:016x}"), "{name}");
        assert_eq!(row.runs_twice, method.idempotent, "{name}");
    }
    assert!(rows.is_empty(), "not offered: {:?}", rows.keys());
}

#[test]
fn the_types_are_documented_as_they_are() {
    let block = appendix().split("```rust\n").nth(1).expect("a block");
    let documented = block.split("```").next().expect("its end");
    assert_eq!(squeezed(documented), squeezed(DEFINITIONS));
}

/// Without spaces, and without the commas that end lists.
fn squeezed(code: &str) -> String {
    let code: String = code.split_whitespace().collect();
    code.replace(",}", "}")
}

/// Errors that no single call brings about. `Store` has a test of its own; `Reader` answers so only
/// while the server starts.
const BEYOND_ONE_CALL: [(&str, u16); 2] = [("kv.v1/put", 8), ("stats.v1/read", 14)];

async fn provoke_errors(client: LocalClient) -> Result<BTreeSet<(&'static str, u16)>, Status> {
    let arithmetic = ArithmeticClient::new(client.clone());
    let factorial = FactorialClient::new(client.clone());
    let spin = SpinClient::new(client);
    let (high, low) = (
        arithmetic::Operands { a: i64::MAX, b: 1 },
        arithmetic::Operands { a: i64::MIN, b: 1 },
    );
    let failures = [
        ("arithmetic.v1/add", arithmetic.add(high).await.map(drop)),
        (
            "arithmetic.v1/subtract",
            arithmetic.subtract(low).await.map(drop),
        ),
        (
            "factorial.v1/factorial",
            factorial.factorial(-1).await.map(drop),
        ),
        (
            "factorial.v1/factorial",
            factorial.factorial(35).await.map(drop),
        ),
        ("spin.v1/spin", spin.spin(60_000_001.0).await.map(drop)),
        ("spin.v1/spin", spin.spin(-1.0).await.map(drop)),
    ];
    // The last ones that have a result.
    factorial.factorial(0).await?;
    factorial.factorial(34).await?;
    let code = |(name, result): (_, Result<(), Status>)| {
        let status = result.expect_err("out of bounds");
        (name, status.code() as u16)
    };
    Ok(failures.into_iter().map(code).collect())
}

#[test]
fn the_errors_are_those_that_calls_end_with() {
    let mut server = Serving::start(&["--shards", "1", "--listen", "tcp://127.0.0.1:0"]);
    let address = server.address();
    let provoked = LocalRuntime::builder()
        .run(|shard| async move { provoke_errors(shard.client(&address)?).await });
    let mut seen = provoked.expect("a shard").expect("the calls are answered");
    seen.extend(BEYOND_ONE_CALL);
    let documented: BTreeSet<_> = rows()
        .into_iter()
        .flat_map(|(name, row)| row.errors.into_iter().map(move |code| (name, code)))
        .collect();
    assert_eq!(documented, seen);
}

#[test]
fn the_help_says_where_they_are_documented() {
    let help = run(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    let title = HEADING.trim().trim_start_matches("## Appendix: ");
    let words: Vec<_> = help.split_whitespace().collect();
    let reference = format!("appendix \"{title}\" of docs/PROTOCOL.md");
    assert!(words.join(" ").contains(&reference), "{help}");
}
