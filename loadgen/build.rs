//! Generates tonic's side of `samples.proto`, without protoc, and notes the commit.

use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=samples.proto");
    let files = protox::compile(["samples.proto"], ["."])?;
    tonic_prost_build::configure()
        // `Bytes` instead of `Vec<u8>`: a body is not copied out of the receive buffer.
        .bytes(".")
        .compile_fds(files)?;
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = git(&["rev-parse", "--short=9", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let dirty = if changed.is_some_and(|files| !files.is_empty()) {
        "-dirty"
    } else {
        ""
    };
    println!("cargo::rustc-env=LOADGEN_COMMIT={commit}{dirty}");
    Ok(())
}

/// What git says; `None` outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
