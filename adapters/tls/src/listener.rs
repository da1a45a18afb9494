//! A listener whose connections speak TLS.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use handover::{Accept, Address, Connection, Stays};

use crate::{Tls, TlsStream};

/// Accepts TLS on any listener; made by [`Tls::accept`].
///
/// It accepts as fast as the listener below does: the handshake is the [connection's](TlsStream).
///
/// In an upgrade its connections are not moved, since their state is in this process; the report
/// counts them as [`Stays::Tls`]. They are told to go elsewhere, served until the announce window is
/// over, and closed; and come back by a handshake that [resumes](crate::TicketKeys) their session.
///
/// # Examples
///
/// ```
/// use handover::Accept;
/// use handover_tls::{Tls, TlsListener};
/// use tokio::net::TcpListener;
///
/// async fn listen(tls: &Tls) -> std::io::Result<TlsListener<TcpListener>> {
///     let mut listener = tls.accept(TcpListener::bind("127.0.0.1:0").await?);
///     listener.get_mut().set_ttl(64)?;
///     println!("{}, which is {}", listener.local_addr()?, listener.get_ref().local_addr()?);
///     Ok(listener)
/// }
/// ```
#[derive(Debug)]
pub struct TlsListener<A> {
    listener: A,
    tls: Tls,
}

impl<A: Accept> TlsListener<A> {
    pub(crate) fn new(listener: A, tls: Tls) -> Self {
        Self { listener, tls }
    }

    /// The listener below.
    pub fn get_ref(&self) -> &A {
        &self.listener
    }

    /// The listener below.
    pub fn get_mut(&mut self) -> &mut A {
        &mut self.listener
    }

    fn wrap(&self, io: A::Io) -> TlsStream<A::Io> {
        TlsStream::new(io, self.tls.clone())
    }
}

impl<A: Accept> Accept for TlsListener<A> {
    type Io = TlsStream<A::Io>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Address)>> {
        let polled = self.listener.poll_accept(cx);
        polled.map_ok(|(io, peer)| (self.wrap(io), peer))
    }

    fn poll_leftover(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(Self::Io, Address)>>> {
        let polled = self.listener.poll_leftover(cx);
        polled.map(|left| left.map(|next| next.map(|(io, peer)| (self.wrap(io), peer))))
    }

    fn introduce(&self, io: &mut Self::Io, connection: &Arc<Connection>) {
        if let Some(io) = io.introduce(connection) {
            self.listener.introduce(io, connection);
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }

    fn stays(&self) -> Stays {
        Stays::Tls
    }
}
