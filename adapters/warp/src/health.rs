//! Probes as a filter.

use handover::health::{Health, Probe};
use http::Response;
use warp::{Filter, Rejection, filters::path::FullPath};

/// A filter that answers `/livez`, `/readyz` and `/startupz`: see [`handover::health`].
///
/// ```no_run
/// use handover::Generation;
/// use warp::Filter;
///
/// # async fn example() -> Result<(), handover::Error> {
/// let generation = Generation::start()?;
/// let hello = warp::path::end().map(|| "hello");
/// let routes = hello.or(handover_warp::health(&generation.health()));
/// # let _ = warp::service(routes);
/// # Ok(())
/// # }
/// ```
pub fn health(
    health: &Health,
) -> impl Filter<Extract = (Response<String>,), Error = Rejection> + Clone + use<> {
    let health = health.clone();
    let probe = warp::path::full().and_then(async |path: FullPath| {
        Probe::from_path(path.as_str()).ok_or_else(warp::reject::not_found)
    });
    let asked = warp::get().or(warp::head()).unify();
    probe.and(asked).map(move |probe| health.respond(probe))
}
