//! What the macros accept and refuse, and how they say it.
//!
//! `TRYBUILD=overwrite cargo test --test macros` writes the expected messages anew; read them.

use std::process::Command;

#[test]
fn macros_accept_and_refuse() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/message/*.rs");
    cases.compile_fail("tests/ui/service/*.rs");
    if rustc_version().starts_with(WORDED_BY) {
        cases.compile_fail("tests/ui/compiler/*.rs");
    }
}

/// The compiler that worded and laid out the expected messages in `tests/ui/compiler`. Other versions refuse the
/// same programs, in words of their own.
const WORDED_BY: &str = "rustc 1.95.";

fn rustc_version() -> String {
    let output = Command::new("rustc").arg("--version").output();
    String::from_utf8(output.expect("rustc runs").stdout).expect("a version is text")
}
