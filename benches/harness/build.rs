//! Generates tonic's service out of `bench.proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=bench.proto");
    let files = protox::compile(["bench.proto"], ["."])?;
    tonic_prost_build::configure()
        // `Bytes` instead of `Vec<u8>`: a body is not copied out of the receive buffer.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
