//! What one generation tells the next about a socket.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::FileType,
    net::{AddressFamily, SocketType, sockopt},
};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::unix_path::OwnedPath;
use crate::accept::Address;

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SocketKind {
    /// A TCP listener.
    Tcp,
    /// A Unix stream listener.
    Unix,
    /// A UDP socket.
    Udp,
}

impl SocketKind {
    /// In one word.
    pub(crate) fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        let word = word.and_then(|word| Some(word.as_str()?.to_owned()));
        word.unwrap_or_default()
    }
}

/// A socket by name. The descriptor travels beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) kind: SocketKind,
    /// Where it listens, for people: the socket itself is asked where it matters.
    pub(crate) address: String,
    /// Whether another program opened it (systemd and its kind), so that its address is the
    /// administrator's choice.
    #[serde(default)]
    pub(crate) foreign: bool,
    /// The socket file, if this service made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<OwnedPath>,
}

/// Says what a descriptor is, if it is a socket that a generation can use; in words if not.
pub(crate) fn inspect(fd: BorrowedFd<'_>) -> Result<SocketKind, String> {
    let stat = rustix::fs::fstat(fd).map_err(|err| format!("cannot be looked at: {err}"))?;
    let file = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => None,
        FileType::RegularFile => Some("a regular file"),
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a pipe"),
        FileType::CharacterDevice => Some("a character device"),
        FileType::BlockDevice => Some("a block device"),
        _ => Some("not even a file"),
    };
    if let Some(file) = file {
        return Err(format!("is {file}, not a socket"));
    }
    let failed = |err| format!("does not answer: {err}");
    let domain = sockopt::socket_domain(fd).map_err(failed)?;
    let kind = sockopt::socket_type(fd).map_err(failed)?;
    let kind = match (domain, kind) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => SocketKind::Tcp,
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => SocketKind::Udp,
        (AddressFamily::UNIX, SocketType::STREAM) => SocketKind::Unix,
        (AddressFamily::UNIX, _) => {
            return Err("is a Unix socket, but not a stream".to_owned());
        }
        (domain, _) => {
            let domain = domain.as_raw();
            return Err(format!(
                "is a socket of address family {domain}, not TCP, UDP or Unix"
            ));
        }
    };
    let listens = sockopt::socket_acceptconn(fd).map_err(failed)?;
    if kind != SocketKind::Udp && !listens {
        return Err("is a stream socket that does not listen".to_owned());
    }
    Ok(kind)
}

/// Where a socket is bound.
pub(crate) fn address(fd: impl AsFd) -> std::io::Result<Address> {
    let addr = SockRef::from(&fd).local_addr()?;
    if let Some(addr) = addr.as_socket() {
        return Ok(Address::Tcp(addr));
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = addr.as_abstract_namespace() {
        let name = String::from_utf8_lossy(name);
        return Ok(Address::Unix(Some(format!("@{name}").into())));
    }
    Ok(Address::Unix(addr.as_pathname().map(ToOwned::to_owned)))
}
