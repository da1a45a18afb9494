//! One type for where a socket listens and where a connection comes from.

use std::{
    fmt,
    net::{AddrParseError, IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The address of a listener or of a peer.
///
/// Its text is what a user writes to listen there: `127.0.0.1:80`, `[::1]:80`, `unix:/run/app.sock`,
/// `unix:@name` for Linux's abstract names. The client end of a Unix connection has no name and
/// reads `unix:`.
///
/// # Examples
///
/// ```
/// use handover::Address;
///
/// let tcp: Address = "127.0.0.1:80".parse()?;
/// assert_eq!(tcp.as_socket_addr().map(|addr| addr.port()), Some(80));
/// assert!(tcp.ip().is_some_and(|ip| ip.is_loopback()));
///
/// let unix: Address = "unix:/run/app.sock".parse()?;
/// assert_eq!(unix.as_path(), Some("/run/app.sock".as_ref()));
/// assert_eq!(unix.to_string(), "unix:/run/app.sock");
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A path in the file system, an abstract name (beginning with `@`), or nothing.
    Unix(Option<PathBuf>),
}

impl Address {
    /// The socket address, where this is one.
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The IP address, where this is a socket address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_socket_addr().map(|addr| addr.ip())
    }

    /// The path, where this is a Unix socket that has one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => path.as_deref(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    /// Reads what [`Display`](fmt::Display) writes. No name is resolved.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.strip_prefix("unix:") {
            Some("") => Ok(Self::Unix(None)),
            Some(path) => Ok(Self::Unix(Some(path.into()))),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

#[cfg(unix)]
impl From<tokio::net::unix::SocketAddr> for Address {
    fn from(addr: tokio::net::unix::SocketAddr) -> Self {
        std::os::unix::net::SocketAddr::from(addr).into()
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::SocketAddr> for Address {
    fn from(addr: std::os::unix::net::SocketAddr) -> Self {
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            if let Some(name) = addr.as_abstract_name() {
                let name = String::from_utf8_lossy(name);
                return Self::Unix(Some(PathBuf::from(format!("@{name}"))));
            }
        }
        Self::Unix(addr.as_pathname().map(Path::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_user_would_write_it() {
        let tcp = Address::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        assert_eq!(tcp.to_string(), "127.0.0.1:80");
        let unix = Address::Unix(Some("/run/app.sock".into()));
        assert_eq!(unix.to_string(), "unix:/run/app.sock");
        assert_eq!(Address::Unix(None).to_string(), "unix:");
        for address in [tcp, unix, Address::Unix(None)] {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        assert!("localhost:80".parse::<Address>().is_err());
    }
}
