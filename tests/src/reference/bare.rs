//! The bare framework, for comparison: `axum::serve` with its own graceful shutdown.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{Flags, Info, ready_line, router};

/// Serves until SIGTERM and what is under way then.
///
/// # Errors
///
/// If an address is no TCP address, or cannot be listened on.
pub(super) async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let info = Info::new(0);
    let mut term = signal(SignalKind::terminate())?;
    let listeners = listen(flags, info).await?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut stopped = stopped.clone();
        let server = axum::serve(listener, router(info)).with_graceful_shutdown(async move {
            // An error means that the sender has gone, which stops as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        servers.spawn(server.into_future());
    }
    term.recv().await;
    stop.send_replace(true);
    while let Some(served) = servers.join_next().await {
        served??;
    }
    Ok(ExitCode::SUCCESS)
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
        let listener = TcpListener::bind(&listen.address).await;
        let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
        sockets.push((listen.name(), listener.local_addr()?));
        listeners.push(listener);
    }
    io::stdout().write_all(ready_line(info, sockets).as_bytes())?;
    Ok(listeners)
}
