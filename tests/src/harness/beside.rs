//! A program of another package.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// The program `name` of `package`, which is beside `program`, mostly `env!("CARGO_BIN_EXE_…")`. It is
/// built if nobody has built it yet: cargo gives a test the programs of its own package only.
///
/// # Errors
///
/// If it is not there and cannot be built.
pub async fn beside(program: &str, package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let program = Path::new(program);
    let path = program.with_file_name(name);
    if !path.exists() {
        let target = program.ancestors().nth(2).context("no target directory")?;
        let built = Command::new(env!("CARGO"))
            .args(["build", "-q", "-p", package, "--bin", name, "--target-dir"])
            .arg(target)
            .status();
        ensure!(
            built.await?.success(),
            "{name} of {package} cannot be built"
        );
    }
    Ok(path)
}
