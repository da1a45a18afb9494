//! Probes as routes.

use std::future::ready;

use axum::{Router, routing::get};
use handover::health::{Health, Probe};

/// Routes that answer `/livez`, `/readyz` and `/startupz`: see [`handover::health`].
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use handover::Generation;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let generation = Generation::start()?;
/// let app = Router::new()
///     .route("/", get(async || "hello"))
///     .merge(handover_axum::health(&generation.health()));
/// # let _: Router = app;
/// # Ok(())
/// # }
/// ```
pub fn health<S: Clone + Send + Sync + 'static>(health: &Health) -> Router<S> {
    Probe::ALL.into_iter().fold(Router::new(), |routes, probe| {
        let health = health.clone();
        routes.route(probe.path(), get(move || ready(health.respond(probe))))
    })
}
