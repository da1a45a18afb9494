//! Everything at once.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::PathBuf;

use actix_http::{Request, Response, body::MessageBody};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::AppConfig;
use handover::{Error, Report};

/// Serves an actix-web application until it is told to stop, and hands it over to its next release.
///
/// The process takes its sockets from a predecessor, from systemd or another supervisor, or binds
/// them. TERM, INT and QUIT drain it, a second TERM or INT cuts. HUP starts the program again (the
/// new binary, if it was replaced), waits until that is ready, gives it the sockets and drains. Each
/// drain ends on its deadline: 25 s, or 60 s after an upgrade. What happens is logged by `tracing`;
/// where the program has set no subscriber, to standard error.
///
/// `address` is one of those that [`Generation::listen`](handover::Generation::listen) reads:
/// `0.0.0.0:3000`, `unix:/run/app.sock`.
///
/// For anything else than these defaults, write its few lines yourself, with
/// [`Generation`](handover::Generation) and [`serve`](crate::serve).
///
/// # Errors
///
/// If the address cannot be listened on, or what a predecessor or supervisor left cannot be used.
///
/// # Examples
///
/// ```no_run
/// use actix_web::{App, web};
///
/// #[actix_web::main]
/// async fn main() -> Result<(), handover::Error> {
///     let app = || App::new().route("/", web::get().to(async || "hello"));
///     handover_actix_web::run("0.0.0.0:3000", app).await?;
///     Ok(())
/// }
/// ```
pub async fn run<F, I, S, B>(address: impl ToString, factory: F) -> Result<Report, Error>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<actix_web::Error>,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    handover::run(address, async |listener, graceful| {
        let server = crate::serve(factory).listen(listener);
        server.with_graceful(graceful).start().await
    })
    .await
}

/// [`run`] over TLS, with a certificate and a key from PEM files. Feature `tls`.
///
/// Each generation reads the files at its start, so an upgrade renews the certificate; and clients
/// resume the sessions that the generation before began. For anything else, such as client
/// certificates, see `handover_tls`.
///
/// # Errors
///
/// As for [`run`], or if a file cannot be used.
///
/// # Examples
///
/// ```no_run
/// use actix_web::{App, web};
///
/// #[actix_web::main]
/// async fn main() -> Result<(), handover::Error> {
///     let app = || App::new().route("/", web::get().to(async || "hello"));
///     handover_actix_web::run_tls("0.0.0.0:443", "cert.pem", "key.pem", app).await?;
///     Ok(())
/// }
/// ```
#[cfg(feature = "tls")]
pub async fn run_tls<F, I, S, B>(
    address: impl ToString,
    certificate: impl Into<PathBuf>,
    key: impl Into<PathBuf>,
    factory: F,
) -> Result<Report, Error>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<actix_web::Error>,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    handover_tls::run(address, certificate, key, async |listener, graceful| {
        let server = crate::serve(factory).listen(listener);
        server.with_graceful(graceful).start().await
    })
    .await
}
