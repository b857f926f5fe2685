//! What each fuzz target does with its bytes. The binaries in `fuzz_targets` call this under libFuzzer,
//! `tests/corpus.rs` with the bytes that are kept.

pub mod chunks;
pub mod source;
pub mod targets;
pub mod validator;
pub mod wire;
