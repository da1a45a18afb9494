//! Certificates and keys in PEM files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::digest;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{Error, TicketKeys};

/// Where certificates are, and what is made of them.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) clients: Option<Clients>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) tickets: TicketKeys,
}

/// Which certificates clients show.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) ca: PathBuf,
    pub(crate) required: bool,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// The first file that cannot be used, and why.
    pub(crate) fn read(&self) -> Result<Arc<ServerConfig>, Error> {
        let chain = certificates("the certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|err| {
            Error::file("the private key", &self.key, explained(err, "private key"))
        })?;
        let (verifier, context) = match &self.clients {
            Some(clients) => clients.read()?,
            None => (WebPkiClientVerifier::no_client_auth(), Vec::new()),
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|err| Error::caused("no version of TLS can be spoken", err))?;
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|err| {
                let (certificate, key) = (self.certificate.display(), self.key.display());
                let message =
                    format!("cannot use the certificate {certificate} with the key {key}");
                Error::caused(message, err)
            })?;
        config.alpn_protocols.clone_from(&self.alpn);
        config.ticketer = self.tickets.ticketer(&context);
        Ok(Arc::new(config))
    }
}

impl Clients {
    /// What verifies them, and what it depends on: a session that was begun under other rules is not
    /// resumed under these.
    fn read(&self) -> Result<(Arc<dyn ClientCertVerifier>, Vec<u8>), Error> {
        let what = "the certificates of client authorities";
        let mut roots = RootCertStore::empty();
        let mut context = vec![u8::from(self.required)];
        for certificate in certificates(what, &self.ca)? {
            context.extend_from_slice(digest::digest(&digest::SHA256, &certificate).as_ref());
            let added = roots.add(certificate);
            added.map_err(|err| Error::file(what, &self.ca, err))?;
        }
        let provider = Arc::new(default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match self.required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let verifier = builder
            .build()
            .map_err(|err| Error::file(what, &self.ca, err))?;
        Ok((verifier, context))
    }
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |err| Error::file(what, path, explained(err, "certificate"));
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    match all.is_empty() {
        true => Err(failed(pem::Error::NoItemsFound)),
        false => Ok(all),
    }
}

fn explained(err: pem::Error, wanted: &str) -> String {
    match err {
        pem::Error::NoItemsFound => format!("there is no {wanted} in it, in PEM form"),
        pem::Error::Io(err) => err.to_string(),
        other => other.to_string(),
    }
}
