//! Where the programs are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::row::Row;

/// The directory with the programs of these rows. They are built for it, with their points of failure,
/// unless it is given.
pub(super) fn directory(given: Option<&Path>, rows: &[Row]) -> anyhow::Result<PathBuf> {
    let directory = match given {
        Some(directory) => directory.to_owned(),
        None => {
            build(rows)?;
            let program = env::current_exe().context("find this program")?;
            program.parent().context("its directory")?.to_owned()
        }
    };
    for row in rows {
        let path = directory.join(row.program);
        ensure!(path.exists(), "there is no {}", path.display());
    }
    Ok(directory)
}

/// Has cargo build them in the profile of this program, beside it.
fn build(rows: &[Row]) -> anyhow::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "-p", "handover-tests", "--features", "faults"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    for row in rows {
        command.args(["--bin", row.program]);
    }
    let status = command
        .status()
        .context("run cargo, to build the servers; or say where they are with --servers")?;
    ensure!(
        status.success(),
        "cargo could not build the servers: {status}"
    );
    Ok(())
}
