//! The bare frameworks, for comparison: each with its own graceful shutdown.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{Flags, Info, app, filter, ready_line, router};

/// In place of an address.
const STDIN: &str = "stdin";

/// Told to stop by SIGTERM.
type Stopped = watch::Receiver<bool>;

/// `axum::serve`.
///
/// # Errors
///
/// If an address is no TCP address, or cannot be listened on.
pub async fn axum(flags: &Flags) -> anyhow::Result<ExitCode> {
    run(flags, |listener, info, stopped| async move {
        let server = axum::serve(listener, router(info));
        server.with_graceful_shutdown(told(stopped)).await
    })
    .await
}

/// `warp::serve`.
///
/// # Errors
///
/// As [`axum()`].
pub async fn warp(flags: &Flags) -> anyhow::Result<ExitCode> {
    run(flags, |listener, info, stopped| async move {
        let server = warp::serve(filter(info)).incoming(listener);
        server.graceful(told(stopped)).run().await;
        Ok(())
    })
    .await
}

/// `actix_web::HttpServer`.
///
/// # Errors
///
/// As [`axum()`].
pub async fn actix_web(flags: &Flags) -> anyhow::Result<ExitCode> {
    let workers = flags.workers;
    run(flags, move |listener, info, stopped| async move {
        let server = actix_server(listener.into_std()?, info, workers)?;
        let handle = server.handle();
        let mut server = std::pin::pin!(server);
        tokio::select! {
            ended = &mut server => return ended,
            () = told(stopped) => {}
        }
        let ((), ended) = tokio::join!(handle.stop(true), server);
        ended
    })
    .await
}

/// An `HttpServer` that is stopped by its handle.
///
/// # Errors
///
/// If it cannot use the listener.
pub fn actix_server(
    listener: std::net::TcpListener,
    info: Info,
    workers: Option<usize>,
) -> io::Result<actix_web::dev::Server> {
    let mut server = actix_web::HttpServer::new(move || app(info))
        .listen_auto_h2c(listener)?
        .disable_signals();
    if let Some(workers) = workers {
        server = server.workers(workers);
    }
    Ok(server.run())
}

async fn told(mut stopped: Stopped) {
    // An error means that the sender has gone, which stops as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Serves until SIGTERM and what is under way then.
async fn run<F>(
    flags: &Flags,
    serve: impl Fn(TcpListener, Info, Stopped) -> F,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let info = Info::new(flags.bare_generation);
    let mut term = signal(SignalKind::terminate())?;
    let listeners = listen(flags, info).await?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    for listener in listeners {
        servers.spawn(serve(listener, info, stopped.clone()));
    }
    term.recv().await;
    stop.send_replace(true);
    while let Some(served) = servers.join_next().await {
        served??;
    }
    Ok(ExitCode::SUCCESS)
}

/// The listening socket that a parent has put in place of standard input.
///
/// # Errors
///
/// If it is none.
pub fn stdin() -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Opens the listeners and says that this process is ready.
pub(super) async fn listen(flags: &Flags, info: Info) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut sockets = Vec::new();
    for listen in &flags.listen {
        ensure!(
            !listen.address.starts_with("unix:"),
            "--no-handover serves TCP only"
        );
        let listener = match &*listen.address {
            STDIN => stdin(),
            address => TcpListener::bind(address).await,
        };
        let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
        sockets.push((listen.name(), listener.local_addr()?));
        listeners.push(listener);
    }
    io::stdout().write_all(ready_line(info, sockets).as_bytes())?;
    Ok(listeners)
}
