//! What all connections of a listener share: the certificate that is shown now.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use handover::Accept;
use rustls::ServerConfig;

use crate::{Builder, Error, HANDSHAKE_TIMEOUT, TlsListener, files::Files};

/// TLS for listeners: certificate, key, and what else a handshake needs.
///
/// All clones are handles to one. Handshakes that begin after a [`reload`](Self::reload) show what it
/// has read; what was begun before goes on as it was.
///
/// # Examples
///
/// ```no_run
/// use handover::Generation;
/// use handover_tls::{TicketKeys, Tls};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let generation = Generation::start()?;
/// let tls = Tls::builder("cert.pem", "key.pem")
///     .tickets(TicketKeys::of(&generation)?)
///     .load()?;
/// let listener = tls.accept(generation.listen("0.0.0.0:443").await?);
/// # let app = tower::service_fn(async |_: http::Request<handover_hyper::RequestBody>| {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
/// # });
/// let server = handover_hyper::serve(listener, app).with_graceful(generation.graceful());
/// generation.ready().await?;
/// println!("{}", server.await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    /// `None`: the program gives the configuration.
    files: Option<Files>,
    config: RwLock<Arc<ServerConfig>>,
    handshake_timeout: Duration,
}

impl Tls {
    /// A certificate, followed by those that vouch for it, and its private key, in PEM files.
    pub fn builder(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Builder {
        Builder::new(certificate.into(), key.into())
    }

    /// A configuration of your own: with another provider of cryptography, several certificates, or
    /// whatever else rustls can do.
    ///
    /// Nothing in it is changed: set its `alpn_protocols`, and its `ticketer` to
    /// [one of ours](crate::TicketKeys::ticketer) if sessions are to outlive an upgrade.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    ///
    /// use handover_tls::{TicketKeys, Tls};
    /// use handover_tls::rustls::{ServerConfig, crypto::ring, server::ResolvesServerCertUsingSni};
    ///
    /// let keys = TicketKeys::new()?;
    /// let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
    ///     .with_safe_default_protocol_versions()?
    ///     .with_no_client_auth()
    ///     .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    /// config.ticketer = keys.ticketer(b"no client certificates");
    /// config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    /// let tls = Tls::new(Arc::new(config.clone()));
    /// assert!(tls.reload().is_err(), "there are no files");
    ///
    /// // With other certificates, say.
    /// config.alpn_protocols = vec![b"http/1.1".to_vec()];
    /// tls.set_config(Arc::new(config));
    /// assert_eq!(tls.config().alpn_protocols.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self::of(None, config, HANDSHAKE_TIMEOUT)
    }

    pub(crate) fn load(files: Files, handshake_timeout: Duration) -> Result<Self, Error> {
        let config = files.read()?;
        Ok(Self::of(Some(files), config, handshake_timeout))
    }

    fn of(files: Option<Files>, config: Arc<ServerConfig>, handshake_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            files,
            config: RwLock::new(config),
            handshake_timeout,
        }))
    }

    /// Accepts TLS on a listener, of a [`Generation`](handover::Generation) or any other.
    pub fn accept<A: Accept>(&self, listener: A) -> TlsListener<A> {
        TlsListener::new(listener, self.clone())
    }

    /// Reads the files anew. It blocks for as long as that takes.
    ///
    /// Ticket keys stay, so that sessions are resumed; but none that was begun under other rules for
    /// client certificates.
    ///
    /// # Errors
    ///
    /// If a file cannot be used: then everything stays as it was. Or if there are no files, because
    /// this was [made](Self::new) of a configuration.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_tls::Tls;
    ///
    /// /// What a program's own command to renew does.
    /// fn renew(tls: &Tls) {
    ///     match tls.reload() {
    ///         Ok(()) => println!("the next handshake shows the new certificate"),
    ///         Err(error) => eprintln!("everything stays as it was: {error}"),
    ///     }
    /// }
    /// ```
    pub fn reload(&self) -> Result<(), Error> {
        let Some(files) = &self.0.files else {
            let message = "there are no files to read anew: use `set_config`";
            return Err(Error::new(message));
        };
        self.set_config(files.read()?);
        tracing::info!(certificate = %files.certificate.display(), "certificate read anew");
        Ok(())
    }

    /// Takes this configuration for handshakes from here on.
    pub fn set_config(&self, config: Arc<ServerConfig>) {
        let mut place = self.0.config.write();
        *place
            .as_deref_mut()
            .unwrap_or_else(|poisoned| &mut **poisoned.get_mut()) = config;
    }

    /// The configuration that handshakes use now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let config = self.0.config.read();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.0.handshake_timeout
    }

    /// Reads the files anew at each signal of this kind, for as long as a clone of this lives. What
    /// cannot be used is logged as an error, and changes nothing.
    ///
    /// An upgrade needs no such thing: the next generation reads the files at its start. Take a signal
    /// that [`Signals`](handover::Signals) leaves alone, `SIGUSR1` say.
    ///
    /// ```no_run
    /// # fn example(tls: &handover_tls::Tls) -> std::io::Result<()> {
    /// use tokio::signal::unix::SignalKind;
    ///
    /// tls.reload_on(SignalKind::user_defined1())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the signal cannot be caught.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg(unix)]
    pub fn reload_on(&self, kind: tokio::signal::unix::SignalKind) -> std::io::Result<()> {
        let mut signals = tokio::signal::unix::signal(kind)?;
        let weak = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let Some(tls) = weak.upgrade().map(Self) else {
                    return;
                };
                let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
                if let Ok(Err(error)) = reloaded {
                    tracing::error!(%error, "the certificate is the old one still");
                }
            }
        });
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.0.files)
            .field("handshake_timeout", &self.0.handshake_timeout)
            .finish_non_exhaustive()
    }
}
