//! Everything at once.

#[cfg(feature = "tls")]
use std::path::PathBuf;

use handover::{Error, Report};
use warp::{Filter, Reply};

/// Serves a warp filter until it is told to stop, and hands it over to its next release.
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
/// use warp::Filter;
///
/// #[tokio::main]
/// async fn main() -> Result<(), handover::Error> {
///     let hello = warp::any().map(|| "hello");
///     handover_warp::run("0.0.0.0:3000", hello).await?;
///     Ok(())
/// }
/// ```
pub async fn run<F>(address: impl ToString, filter: F) -> Result<Report, Error>
where
    F: Filter<Extract: Reply> + Clone + Send + Sync + 'static,
{
    handover::run(address, async |listener, graceful| {
        let server = crate::serve(filter).incoming(listener);
        Ok(server.with_graceful(graceful))
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
/// use warp::Filter;
///
/// #[tokio::main]
/// async fn main() -> Result<(), handover::Error> {
///     let hello = warp::any().map(|| "hello");
///     handover_warp::run_tls("0.0.0.0:443", "cert.pem", "key.pem", hello).await?;
///     Ok(())
/// }
/// ```
#[cfg(feature = "tls")]
pub async fn run_tls<F>(
    address: impl ToString,
    certificate: impl Into<PathBuf>,
    key: impl Into<PathBuf>,
    filter: F,
) -> Result<Report, Error>
where
    F: Filter<Extract: Reply> + Clone + Send + Sync + 'static,
{
    handover_tls::run(address, certificate, key, async |listener, graceful| {
        let server = crate::serve(filter).incoming(listener);
        Ok(server.with_graceful(graceful))
    })
    .await
}
