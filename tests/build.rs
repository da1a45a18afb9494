//! Generates the code of the gRPC reference server; no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/echo.proto";
    println!("cargo:rerun-if-changed={proto}");
    let files = protox::compile([proto], ["proto"])?;
    // For server reflection.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("echo.fds"), files.encode_to_vec())?;
    tonic_prost_build::compile_fds(files)?;
    Ok(())
}
