//! What goes wrong with certificates, keys and tickets.

use std::{error, fmt, path::Path};

/// A certificate, key or setting that cannot be used. Its text names the file.
///
/// # Examples
///
/// ```
/// use handover_tls::{Error, Tls};
///
/// let error: Error = Tls::builder("/no/such/cert.pem", "/no/such/key.pem").load().unwrap_err();
/// assert!(error.to_string().contains("/no/such/cert.pem"), "{error}");
/// ```
#[derive(Debug)]
pub struct Error {
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn caused(
        message: impl Into<String>,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            message: message.into(),
            source: Some(source.into()),
        }
    }

    pub(crate) fn file(
        what: &str,
        path: &Path,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self::caused(format!("cannot read {what} {}", path.display()), source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        // With the cause, since it is what one has to mend.
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}
