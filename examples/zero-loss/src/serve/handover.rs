//! Handover: the same routes, and a server that knows how to be replaced.

use anyhow::bail;

/// Serves until it was replaced or asked to end, and has drained.
pub(crate) async fn run() -> anyhow::Result<()> {
    bail!("generations are not in the library yet; use --against axum --only-against")
}
