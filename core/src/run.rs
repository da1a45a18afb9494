//! One listener, from the start of the process to its end.

use std::{
    future::{Future, IntoFuture},
    io,
};

use crate::{Error, Generation, Graceful, Listener, Report};

/// Serves on one address until told to stop, and hands over to the next release. The adapters'
/// `run` is this one; use it for a server that has no adapter.
///
/// The process takes its socket from a predecessor, from systemd or another supervisor, or binds
/// it. `start` is given that, and makes the server of it, which is awaited once this process is
/// ready: from then on connections come. The server ends with the report of its drain, and holds
/// it open from when it is made.
///
/// `address` is one of those that [`Generation::listen`] reads. With the feature `log`, and where
/// the program has set no subscriber for `tracing`, what happens is logged to standard error.
///
/// # Errors
///
/// If the address cannot be listened on, if what a predecessor or supervisor left cannot be used,
/// or what `start` and its server fail with.
///
/// # Examples
///
/// ```no_run
/// use handover::accept::{Movable, Movables, Protocol};
///
/// async fn serve(session: Movable<handover::Stream>) {}
///
/// #[tokio::main]
/// async fn main() -> Result<(), handover::Error> {
///     handover::run("127.0.0.1:7000", async |listener, graceful| {
///         let mut sessions = Movables::new(listener, Protocol::new("lines", 1), &graceful);
///         Ok(async move {
///             while let Some(session) = sessions.next().await {
///                 tokio::spawn(serve(session));
///             }
///             Ok(graceful.drained().await)
///         })
///     })
///     .await?;
///     Ok(())
/// }
/// ```
pub async fn run<F, S>(
    address: impl ToString,
    start: impl FnOnce(Listener, Graceful) -> F,
) -> Result<Report, Error>
where
    F: Future<Output = io::Result<S>>,
    S: IntoFuture<Output = io::Result<Report>>,
{
    let with_token = |listener, generation: Generation| start(listener, generation.graceful());
    run_generation(address, with_token).await
}

/// As [`run`], but `start` is given the generation: for what it takes from a predecessor, or keeps
/// for a successor.
///
/// # Errors
///
/// As for [`run`].
///
/// # Examples
///
/// ```
/// # async fn serve(_: handover::Listener) {}
/// # async fn example() -> Result<(), handover::Error> {
/// handover::run_generation("127.0.0.1:7000", async |listener, generation| {
///     // What the release before has learnt, and what the next one is to know.
///     let motto = generation.take_state("motto").map(handover::State::into_bytes);
///     let motto = motto.unwrap_or_else(|| b"festina lente".to_vec());
///     generation.keep_state("motto", 1, move || Ok(motto.clone()));
///     let graceful = generation.graceful();
///     tokio::spawn(serve(listener));
///     Ok(async move { Ok(graceful.drained().await) })
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
pub async fn run_generation<F, S>(
    address: impl ToString,
    start: impl FnOnce(Listener, Generation) -> F,
) -> Result<Report, Error>
where
    F: Future<Output = io::Result<S>>,
    S: IntoFuture<Output = io::Result<Report>>,
{
    #[cfg(feature = "log")]
    log();
    let generation = Generation::start()?;
    let listener = generation.listen(address.to_string()).await?;
    let addr = listener.local_addr()?;
    let server = start(listener, generation.clone()).await?;
    tracing::info!(%addr, generation = generation.number(), "listening");
    generation.ready().await?;
    let report = server.await?;
    generation.finished().await;
    Ok(report)
}

/// A log on standard error, where there is none.
#[cfg(feature = "log")]
fn log() {
    if !tracing::dispatcher::has_been_set() {
        // Fails only if somebody else has just been faster.
        let _ = tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init();
    }
}
