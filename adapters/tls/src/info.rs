//! What was agreed in a handshake.

use std::sync::Arc;

use handover::Connection;
use rustls::{
    HandshakeKind, ProtocolVersion, ServerConnection, SupportedCipherSuite,
    pki_types::CertificateDer,
};

/// What is known of a TLS connection once its handshake is done.
///
/// The serve loops put an `Arc<Connection>` into the extensions of each request; from there
/// [`of`](Self::of) has it:
///
/// ```
/// use std::sync::Arc;
///
/// use handover::Connection;
/// use handover_tls::TlsInfo;
///
/// fn user<B>(request: &http::Request<B>) -> String {
///     let connection = request.extensions().get::<Arc<Connection>>();
///     match connection.and_then(TlsInfo::of) {
///         Some(tls) if !tls.client_certificates().is_empty() => "known".to_owned(),
///         Some(tls) => format!("over {:?}", tls.version()),
///         None => "in the clear".to_owned(),
///     }
/// }
/// # assert_eq!(user(&http::Request::new(())), "in the clear");
/// ```
#[derive(Clone, Debug)]
pub struct TlsInfo {
    version: Option<ProtocolVersion>,
    cipher_suite: Option<SupportedCipherSuite>,
    alpn: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    client_certificates: Box<[CertificateDer<'static>]>,
    resumed: bool,
}

impl TlsInfo {
    pub(crate) fn new(session: &ServerConnection) -> Self {
        let certificates = session.peer_certificates().unwrap_or_default();
        Self {
            version: session.protocol_version(),
            cipher_suite: session.negotiated_cipher_suite(),
            alpn: session.alpn_protocol().map(Into::into),
            server_name: session.server_name().map(Into::into),
            client_certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// That of a connection; `None` if it does not speak TLS.
    #[must_use]
    pub fn of(connection: &Arc<Connection>) -> Option<&Self> {
        connection.facts()
    }

    /// The version of TLS.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_tls::TlsInfo;
    ///
    /// /// A line for the access log.
    /// fn describe(tls: &TlsInfo) -> String {
    ///     format!(
    ///         "{:?}, {:?}, {} for {}{}",
    ///         tls.version(),
    ///         tls.cipher_suite().map(|suite| suite.suite()),
    ///         String::from_utf8_lossy(tls.alpn().unwrap_or(b"nothing agreed")),
    ///         tls.server_name().unwrap_or("no name"),
    ///         if tls.is_resumed() { ", resumed" } else { "" },
    ///     )
    /// }
    /// ```
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// What it is encrypted with.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.cipher_suite
    }

    /// The protocol that was agreed on by ALPN: `h2`, `http/1.1`.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The name that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The client's certificate, followed by those that vouch for it; empty if it has shown none.
    ///
    /// On a resumed connection it is that of the handshake in which it was shown.
    #[must_use]
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        &self.client_certificates
    }

    /// Returns true if an earlier session was resumed, with a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }
}
