//! One listener that speaks TLS, from the start of the process to its end.

use std::{
    future::{Future, IntoFuture},
    io,
    path::PathBuf,
};

use handover::{Error, Graceful, Listener, Report};

use crate::{TicketKeys, Tls, TlsListener};

/// [`handover::run`] over TLS, with a certificate and a key from PEM files. The adapters' `run_tls`
/// is this one; use it for a server that has no adapter.
///
/// Each generation reads the files at its start, and sessions outlive an upgrade.
///
/// # Errors
///
/// As for [`handover::run`], or if a file cannot be used.
///
/// # Examples
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use handover_hyper::RequestBody;
/// use http::{Request, Response};
///
/// #[tokio::main]
/// async fn main() -> Result<(), handover::Error> {
///     let hello = tower::service_fn(async |_: Request<RequestBody>| {
///         Ok::<_, Infallible>(Response::new(String::from("hello")))
///     });
///     handover_tls::run("0.0.0.0:443", "cert.pem", "key.pem", async |listener, graceful| {
///         let server = handover_hyper::serve(listener, hello).with_graceful(graceful);
///         Ok(async move { Ok(server.await?) })
///     })
///     .await?;
///     Ok(())
/// }
/// ```
pub async fn run<F, S>(
    address: impl ToString,
    certificate: impl Into<PathBuf>,
    key: impl Into<PathBuf>,
    start: impl FnOnce(TlsListener<Listener>, Graceful) -> F,
) -> Result<Report, Error>
where
    F: Future<Output = io::Result<S>>,
    S: IntoFuture<Output = io::Result<Report>>,
{
    let builder = Tls::builder(certificate, key);
    handover::run_generation(address, async |listener, generation| {
        let tls = builder.tickets(TicketKeys::of(&generation)?).load()?;
        start(tls.accept(listener), generation.graceful()).await
    })
    .await
}
