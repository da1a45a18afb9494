//! Generates the code of the service; no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "proto/hello.proto";
    println!("cargo:rerun-if-changed={proto}");
    tonic_prost_build::compile_fds(protox::compile([proto], ["proto"])?)?;
    Ok(())
}
