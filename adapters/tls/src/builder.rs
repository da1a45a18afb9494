//! Sets TLS up from files.

use std::{path::PathBuf, time::Duration};

use crate::{
    Error, TicketKeys, Tls,
    files::{Clients, Files},
};

/// Sets up a [`Tls`]; made by [`Tls::builder`].
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use handover_tls::{TicketKeys, Tls};
///
/// let tls = Tls::builder("cert.pem", "key.pem")
///     .alpn(["http/1.1"])
///     .require_client_certificates("clients.pem")
///     .tickets(TicketKeys::with_period(Duration::from_secs(3600))?)
///     .handshake_timeout(Duration::from_secs(5))
///     .load()?;
/// println!("{tls:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is loaded"]
pub struct Builder {
    certificate: PathBuf,
    key: PathBuf,
    clients: Option<Clients>,
    alpn: Vec<Vec<u8>>,
    tickets: Option<TicketKeys>,
    handshake_timeout: Duration,
}

impl Builder {
    pub(crate) fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self {
            certificate,
            key,
            clients: None,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            tickets: None,
            handshake_timeout: crate::HANDSHAKE_TIMEOUT,
        }
    }

    /// The protocols to agree on by ALPN, the preferred one first. `h2` and `http/1.1` by default;
    /// none at all leaves the extension out.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Serves only clients that show a certificate for which one in this file vouches.
    pub fn require_client_certificates(mut self, authorities: impl Into<PathBuf>) -> Self {
        self.clients = Some(Clients {
            ca: authorities.into(),
            required: true,
        });
        self
    }

    /// Asks clients for a certificate. One for which no one in this file vouches is refused; clients
    /// without one are served, and the handler [sees](crate::TlsInfo::client_certificates) which.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::Connection;
    /// use handover_tls::{Error, Tls, TlsInfo};
    ///
    /// fn tls() -> Result<Tls, Error> {
    ///     Tls::builder("cert.pem", "key.pem")
    ///         .request_client_certificates("clients.pem")
    ///         .load()
    /// }
    ///
    /// /// What is open to everybody, and what is not.
    /// fn may_write(connection: &std::sync::Arc<Connection>) -> bool {
    ///     TlsInfo::of(connection).is_some_and(|tls| !tls.client_certificates().is_empty())
    /// }
    /// ```
    pub fn request_client_certificates(mut self, authorities: impl Into<PathBuf>) -> Self {
        self.clients = Some(Clients {
            ca: authorities.into(),
            required: false,
        });
        self
    }

    /// The keys of session tickets, such as [those of the predecessor](TicketKeys::of). By default
    /// new ones, which nobody else has.
    pub fn tickets(mut self, keys: TicketKeys) -> Self {
        self.tickets = Some(keys);
        self
    }

    /// How long a client may take over its handshake, from the connection on. 10 seconds by default.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Reads the files. It blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, holds no certificate or key, or they do not belong together; or if
    /// the system gives no random numbers.
    pub fn load(self) -> Result<Tls, Error> {
        let tickets = match self.tickets {
            Some(tickets) => tickets,
            None => TicketKeys::new()?,
        };
        let files = Files {
            certificate: self.certificate,
            key: self.key,
            clients: self.clients,
            alpn: self.alpn,
            tickets,
        };
        Tls::load(files, self.handshake_timeout)
    }
}
