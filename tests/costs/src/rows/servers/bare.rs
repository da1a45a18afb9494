//! The loops that one writes around bare hyper: with nothing, and with what others offer for a drain.

use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};

use crate::memory_io::{MemoryIo, MemoryListener};

pub(super) type Io = TokioIo<MemoryIo>;

/// A connection of hyper's that a task can serve.
pub(super) trait Connection: GracefulConnection<Error: Send> + Send + 'static {}

impl<C: GracefulConnection<Error: Send> + Send + 'static> Connection for C {}

/// A task each, and no drain.
pub(super) async fn alone<C: Connection>(mut listener: MemoryListener, serve: impl Fn(Io) -> C) {
    loop {
        let io = TokioIo::new(listener.accept().await);
        tokio::spawn(serve(io));
    }
}

#[cfg(feature = "peers")]
pub(super) use self::peers::{guarded, tracked, watched};

#[cfg(feature = "peers")]
mod peers {
    use std::pin::pin;

    use hyper_util::server::graceful::GracefulShutdown;
    use swansong::Swansong;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::{Connection, Io, MemoryListener, TokioIo};

    /// Watched by hyper-util.
    pub(in super::super) async fn watched<C: Connection>(
        mut listener: MemoryListener,
        serve: impl Fn(Io) -> C,
    ) {
        let graceful = GracefulShutdown::new();
        loop {
            let io = TokioIo::new(listener.accept().await);
            tokio::spawn(graceful.watch(serve(io)));
        }
    }

    /// Tracked, and told by a token.
    pub(in super::super) async fn tracked<C: Connection>(
        mut listener: MemoryListener,
        serve: impl Fn(Io) -> C,
    ) {
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        loop {
            let io = TokioIo::new(listener.accept().await);
            let (connection, token) = (serve(io), token.clone());
            tracker.spawn(async move { until(token.cancelled(), connection).await });
        }
    }

    /// With a guard of swansong's.
    pub(in super::super) async fn guarded<C: Connection>(
        mut listener: MemoryListener,
        serve: impl Fn(Io) -> C,
    ) {
        let swansong = Swansong::new();
        loop {
            let io = TokioIo::new(listener.accept().await);
            let (guard, told) = (swansong.guard(), swansong.shutting_down());
            let connection = serve(io);
            tokio::spawn(async move {
                let _guard = guard;
                until(told, connection).await;
            });
        }
    }

    /// Serves a connection, and ends it well once it is told.
    async fn until(told: impl Future<Output = ()>, connection: impl Connection) {
        let mut connection = pin!(connection);
        tokio::select! {
            served = &mut connection => return drop(served),
            () = told => connection.as_mut().graceful_shutdown(),
        }
        drop(connection.await);
    }
}
