//! Generates tonic's side of `samples.proto`, without protoc, and notes commit and compiler.

#[path = "src/commit.rs"]
mod commit;

use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=samples.proto");
    let files = protox::compile(["samples.proto"], ["."])?;
    tonic_prost_build::configure()
        // `Bytes` instead of `Vec<u8>`: a body is not copied out of the receive buffer.
        .bytes(".")
        .compile_fds(files)?;
    let here = Path::new(".");
    if let Some(log) = commit::git(here, &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    // What figures depend on: after a change of it the mark of the commit must be another.
    for source in [
        ".",
        "../src",
        "../macros",
        "../benches",
        "../Cargo.toml",
        "../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={source}");
    }
    let commit = commit::commit(here).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=LOADGEN_COMMIT={commit}");
    let rustc = Command::new(std::env::var("RUSTC")?)
        .arg("--version")
        .output()?;
    let rustc = String::from_utf8(rustc.stdout)?;
    println!("cargo::rustc-env=LOADGEN_RUSTC={}", rustc.trim());
    Ok(())
}
