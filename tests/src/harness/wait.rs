//! Waiting for a condition.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// Asks `condition` until it gives a value, and returns that.
///
/// For what cannot be awaited; wherever an event or a line of output tells, wait for that.
///
/// # Errors
///
/// If there is no value after `within`. The error names `what` was waited for.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {within:?} for {what}");
        }
        sleep(EVERY).await;
    }
}

/// The same for a condition that is no future, looked at so often; the wait may go from thread to
/// thread.
///
/// # Errors
///
/// As [`eventually`].
pub async fn seen<T>(
    what: &str,
    within: Duration,
    every: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {within:?} for {what}");
        }
        sleep(every).await;
    }
}
