//! Probes as routes.

use std::future::ready;

use actix_web::{HttpResponse, guard, http::StatusCode, web};
use handover::health::{Health, Probe};

/// Routes that answer `/livez`, `/readyz` and `/startupz`: see [`handover::health`].
///
/// ```no_run
/// use actix_web::{App, web};
/// use handover::Generation;
///
/// # async fn example() -> Result<(), handover::Error> {
/// let generation = Generation::start()?;
/// let health = generation.health();
/// let server = handover_actix_web::serve(move || {
///     App::new()
///         .route("/", web::get().to(async || "hello"))
///         .configure(handover_actix_web::health(&health))
/// });
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
pub fn health(health: &Health) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let health = health.clone();
    move |config| {
        for probe in Probe::ALL {
            let health = health.clone();
            let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
            let answer = move || ready(translated(health.respond(probe)));
            config.route(probe.path(), route.to(answer));
        }
    }
}

/// In the types of an older `http`.
fn translated(answer: http::Response<String>) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status().as_u16());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
    for (name, value) in answer.headers() {
        response.insert_header((name.as_str(), value.as_bytes()));
    }
    response.body(answer.into_body())
}
