//! Certificates of an authority of the test's own, and clients that trust it.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use handover_tls::rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::Resumption,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What the certificates are for.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// How many sessions a client remembers.
const SESSIONS: usize = 64;

/// An authority, and a directory with its certificate, and a server's with its key.
pub struct Certificates {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
}

impl Certificates {
    /// A new authority, and a certificate for `localhost` and `127.0.0.1`.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Not that of the certificates: OpenSSL would take them for their own authority.
        params.distinguished_name = called("handover test authority");
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let this = Self {
            directory: tempfile::tempdir()?,
            issuer: Issuer::new(params, key),
            authority: authority.der().clone(),
        };
        fs::write(this.authority(), authority.pem())?;
        this.renew()?;
        Ok(this)
    }

    /// Puts a new certificate and a new key in place of the server's.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn renew(&self) -> anyhow::Result<()> {
        let (certificate, key) = self.issue()?;
        fs::write(self.certificate(), certificate.pem())?;
        fs::write(self.key(), key.serialize_pem())?;
        Ok(())
    }

    /// A certificate and its key.
    ///
    /// # Errors
    ///
    /// If there are no random numbers for it.
    pub fn issue(&self) -> anyhow::Result<(rcgen::Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
        params.distinguished_name = called(NAMES[0]);
        params.use_authority_key_identifier_extension = true;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    /// The certificate of the authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A path beside them.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client that trusts the authority, and speaks all versions.
    ///
    /// # Errors
    ///
    /// None that can come from these certificates.
    pub fn client(&self) -> anyhow::Result<Client> {
        self.client_with(ALL_VERSIONS, None)
    }

    /// One that speaks these versions, and shows a certificate of its own if it has one.
    ///
    /// # Errors
    ///
    /// If key and certificate do not belong together.
    pub fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<(rcgen::Certificate, KeyPair)>,
    ) -> anyhow::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der());
                let key = key.map_err(anyhow::Error::msg)?;
                builder.with_client_auth_cert(vec![certificate.der().clone()], key)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Client(Arc::new(config)))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates")
            .field(&self.directory.path())
            .finish()
    }
}

/// A client; all clones of one share its sessions.
#[derive(Clone, Debug)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// Connects, and does the handshake.
    ///
    /// # Errors
    ///
    /// If either fails.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(to).await?;
        // Pieces of a request are to arrive when they are sent.
        tcp.set_nodelay(true)?;
        self.connect_over(tcp).await
    }

    /// Does the handshake over a connection.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub async fn connect_over<Io>(&self, io: Io) -> io::Result<TlsStream<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.0.clone());
        connector.connect(name()?, io).await
    }

    /// The session of a handshake that the caller does.
    ///
    /// # Errors
    ///
    /// None that can come from these certificates.
    pub fn session(&self) -> anyhow::Result<handover_tls::rustls::ClientConnection> {
        let session = handover_tls::rustls::ClientConnection::new(self.0.clone(), name()?);
        session.context("no session")
    }

    /// The same with other protocols to agree on; it shares its sessions with this.
    #[must_use]
    pub fn with_alpn(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        Self(Arc::new(config))
    }

    /// The same with sessions of its own.
    #[must_use]
    pub fn with_new_sessions(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Self(Arc::new(config))
    }

    /// The same without sessions: each handshake is a full one.
    #[must_use]
    pub fn without_sessions(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Client {}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn name() -> io::Result<ServerName<'static>> {
    ServerName::try_from(NAMES[0]).map_err(io::Error::other)
}
