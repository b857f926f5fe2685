//! What the macros accept and refuse, and how they say it.
//!
//! The expected messages are those of the toolchain that this repository is developed with; after
//! an update of it, `TRYBUILD=overwrite cargo test --test macros` writes them anew, to be read.

#[test]
fn macros_accept_and_refuse() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/message/*.rs");
}
