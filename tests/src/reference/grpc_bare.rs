//! The bare framework, for comparison: tonic's server with its own graceful shutdown.

use std::process::ExitCode;

use futures_util::stream;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tonic::transport::Server;

use super::{Flags, Info, bare, routes};

/// Serves until SIGTERM and what is under way then.
///
/// # Errors
///
/// If an address is no TCP address, or cannot be listened on.
pub async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let info = Info::new(flags.bare_generation);
    let mut term = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    for listener in bare::listen(flags, info).await? {
        let mut stopped = stopped.clone();
        let incoming = stream::unfold(listener, async |listener: TcpListener| {
            let accepted = listener.accept().await;
            Some((accepted.map(|(stream, _)| stream), listener))
        });
        let server = Server::builder().add_routes(routes(info));
        servers.spawn(server.serve_with_incoming_shutdown(incoming, async move {
            // An error means that the sender has gone, which stops as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    term.recv().await;
    stop.send_replace(true);
    while let Some(served) = servers.join_next().await {
        served??;
    }
    Ok(ExitCode::SUCCESS)
}
