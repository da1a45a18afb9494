//! What is known of a connection below actix's loop: that it is there, and the request on it.
//!
//! # Invariants
//!
//! 1. A [`Tracking`] lives in the extensions of its connection, so it is dropped with it, whatever
//!    ends it. It counts from `on_connect` on, before the first byte is read.
//! 2. Over HTTP/1 one request at a time is called, so the connection's kind is the request's state:
//!    it is `Request` from the call until the body of the answer has ended or was dropped.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use actix_http::Extensions;
use handover::{Address, Connection, Graceful, Holder, Kind, Phase, Stays};
use slab::Slab;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::timeout,
};

/// The connections that there are.
#[derive(Debug, Default)]
pub(super) struct Open {
    connections: Mutex<Slab<Arc<Connection>>>,
    begun: AtomicUsize,
    last: Notify,
    // One has asked for something for the first time, or has gone.
    heard: Notify,
}

impl Open {
    pub(super) fn is_none(&self) -> bool {
        self.lock().is_empty()
    }

    /// How many there have ever been.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }

    /// Waits until there is none. For one task; cancel safe.
    pub(super) async fn none(&self) {
        while !self.is_none() {
            self.last.notified().await;
        }
    }

    /// Says of all that are open that somebody waits for them: actix was told to stop, and an idle
    /// one would have been closed. Its last answer has not been taken yet.
    pub(super) fn none_is_idle(&self) {
        for (_, connection) in self.lock().iter() {
            if connection.kind() == Kind::Idle {
                connection.set_kind(Kind::Request);
            }
        }
    }

    /// Waits until each that was accepted within this time has asked for something, has gone, or is
    /// older by now. For one task; cancel safe.
    pub(super) async fn no_newcomers(&self, within: Duration) {
        while let Some(left) = self.newcomers(within) {
            let _ = timeout(left, self.heard.notified()).await;
        }
    }

    /// For how long the youngest that has not asked for anything is one of these.
    fn newcomers(&self, within: Duration) -> Option<Duration> {
        let connections = self.lock();
        let open = connections.iter().map(|(_, connection)| connection);
        let fresh = open.filter(|open| open.kind() == Kind::Fresh);
        let age = fresh.map(|open| open.since().elapsed()).min()?;
        within.checked_sub(age).filter(|left| !left.is_zero())
    }

    /// Whether one has left HTTP, and may have something to say at the cut.
    pub(super) fn has_goodbyes(&self) -> bool {
        let connections = self.lock();
        let mut kinds = connections.iter().map(|(_, connection)| connection.kind());
        kinds.any(Kind::is_upgraded)
    }

    fn add(&self, connection: &Arc<Connection>) -> usize {
        let key = self.lock().insert(connection.clone());
        self.begun.fetch_add(1, SeqCst);
        key
    }

    fn remove(&self, key: usize) {
        let is_last = {
            let mut connections = self.lock();
            drop(connections.remove(key));
            connections.is_empty()
        };
        self.heard.notify_one();
        if is_last {
            self.last.notify_one();
        }
    }

    // Nothing that can panic runs under it.
    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of actix's loop.
#[derive(Debug)]
pub(super) struct Tracking {
    connection: Arc<Connection>,
    graceful: Graceful,
    open: Arc<Open>,
    key: usize,
    // None once the drain is over: then nobody waits for it.
    _holder: Option<Holder>,
}

impl Tracking {
    /// Begins with the stream that actix shows, whose extensions these are.
    pub(super) fn begin(
        io: &dyn Any,
        extensions: &mut Extensions,
        graceful: &Graceful,
        open: &Arc<Open>,
    ) {
        let connection = Connection::new(peer(io));
        extensions.insert(Self {
            _holder: connection.hold(graceful),
            key: open.add(&connection),
            connection,
            graceful: graceful.clone(),
            open: open.clone(),
        });
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The request of this method and path begins.
    pub(super) fn request(&self, method: &str, path: &str) -> InFlight {
        let connection = self.connection.clone();
        let is_first = connection.kind() == Kind::Fresh;
        connection.begin_request(method, path);
        if is_first {
            self.open.heard.notify_one();
        }
        InFlight(connection)
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        // It was served by a loop that does not let go of it.
        if self.graceful.phase() > Phase::Running && self.graceful.count_stayed(Stays::Framework) {
            let (peer, why) = (self.connection.peer(), Stays::Framework);
            tracing::debug!(%peer, %why, "a connection was not moved");
        }
        self.open.remove(self.key);
    }
}

fn peer(io: &dyn Any) -> Address {
    let tcp = io.downcast_ref::<TcpStream>();
    if let Some(Ok(peer)) = tcp.map(TcpStream::peer_addr) {
        return peer.into();
    }
    let unix = io.downcast_ref::<UnixStream>();
    match unix.map(UnixStream::peer_addr) {
        Some(Ok(peer)) => peer.into(),
        // It has gone already.
        _ => Address::Unix(None),
    }
}

/// A request under way: it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Connection>);

impl InFlight {
    /// It leaves HTTP.
    pub(super) fn upgrade(&self) {
        // The application may have said already what it has become.
        if !self.0.kind().is_upgraded() {
            self.0.set_kind(Kind::Upgraded);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.kind() == Kind::Request {
            self.0.set_kind(Kind::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const BOUND: Duration = Duration::from_secs(20);

    /// What becomes of a newcomer is heard by who waits for it already.
    async fn is_heard<K>(becomes: impl FnOnce(Extensions) -> K) {
        let (graceful, open) = (Graceful::new(), Arc::new(Open::default()));
        let mut extensions = Extensions::new();
        Tracking::begin(&(), &mut extensions, &graceful, &open);
        let heard = open.no_newcomers(HOUR);
        let mut heard = std::pin::pin!(heard);
        tokio::select! {
            biased;
            () = &mut heard => panic!("it has said nothing yet"),
            () = std::future::ready(()) => {}
        }
        let _kept = becomes(extensions);
        timeout(BOUND, heard).await.expect("nobody is told of it");
    }

    #[tokio::test]
    async fn the_first_request_of_a_newcomer_is_heard() {
        is_heard(|extensions| {
            let in_flight = extensions.get::<Tracking>().unwrap().request("GET", "/");
            // The connection stays: its end is another event.
            (extensions, in_flight)
        })
        .await;
    }

    #[tokio::test]
    async fn the_end_of_a_newcomer_is_heard() {
        is_heard(drop).await;
    }
}
