//! What one generation tells the next about a socket.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::FileType,
    net::{AddressFamily, SocketType, sockopt},
};
use serde::{Deserialize, Deserializer, Serialize};
use socket2::{SockAddr, SockRef};

use super::{access::Access, unix_path::OwnedPath};
use crate::{accept::Address, kernel};

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SocketKind {
    /// A TCP listener.
    Tcp,
    /// A Unix stream listener.
    Unix,
    /// A Unix seqpacket listener.
    Seqpacket,
    /// A UDP socket.
    Udp,
    /// A Unix datagram socket.
    Datagram,
    /// Any descriptor that the program keeps by name.
    File,
    /// A connected stream that the program keeps by name.
    Stream,
    /// Of a release that knows more kinds. Nothing asks for it, so it is closed with what is unused.
    Unknown,
}

impl SocketKind {
    /// Every kind that is known here, as it is written.
    const KNOWN: [(&'static str, Self); 7] = [
        ("tcp", Self::Tcp),
        ("unix", Self::Unix),
        ("seqpacket", Self::Seqpacket),
        ("udp", Self::Udp),
        ("datagram", Self::Datagram),
        ("file", Self::File),
        ("stream", Self::Stream),
    ];

    /// Returns true if connections are accepted from it.
    pub(crate) fn listens(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix | Self::Seqpacket)
    }

    /// Returns true if the program keeps it, rather than a generation.
    pub(crate) fn is_kept(self) -> bool {
        matches!(self, Self::File | Self::Stream)
    }

    /// What one does with it, for an error.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Udp => "bind UDP to",
            Self::Datagram => "bind a datagram socket to",
            Self::Seqpacket => "listen for packets on",
            _ => "listen on",
        }
    }
}

impl<'de> Deserialize<'de> for SocketKind {
    /// Any text is a kind: one that is not known must not end an upgrade.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let known = Self::KNOWN.iter().find(|(name, _)| *name == text);
        Ok(known.map_or(Self::Unknown, |(_, kind)| *kind))
    }
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
    /// What the program last asked for of that file. A file that differs was changed by a person.
    #[serde(default, skip_serializing_if = "Access::is_default")]
    pub(crate) access: Access,
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
    let domain = kernel::domain(fd).map_err(failed)?;
    let kind = sockopt::socket_type(fd).map_err(failed)?;
    let kind = match (domain, kind) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => SocketKind::Tcp,
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => SocketKind::Udp,
        (AddressFamily::UNIX, SocketType::STREAM) => SocketKind::Unix,
        (AddressFamily::UNIX, SocketType::SEQPACKET) => SocketKind::Seqpacket,
        (AddressFamily::UNIX, SocketType::DGRAM) => SocketKind::Datagram,
        (domain, _) => {
            let domain = domain.as_raw();
            return Err(format!(
                "is a socket of address family {domain}, not TCP, UDP or Unix"
            ));
        }
    };
    let listens = kernel::listens(fd).map_err(|err| format!("does not answer: {err}"))?;
    if kind.listens() && !listens {
        let kind = match kind {
            SocketKind::Seqpacket => "seqpacket",
            _ => "stream",
        };
        return Err(format!("is a {kind} socket that does not listen"));
    }
    Ok(kind)
}

/// Where a socket is bound.
pub(crate) fn address(fd: impl AsFd) -> std::io::Result<Address> {
    SockRef::from(&fd).local_addr().map(of)
}

/// What a connection leads to, for people.
pub(crate) fn peer(fd: impl AsFd) -> std::io::Result<String> {
    SockRef::from(&fd)
        .peer_addr()
        .map(|addr| of(addr).to_string())
}

/// What kind of address the kernel means.
pub(crate) fn of(addr: SockAddr) -> Address {
    if let Some(addr) = addr.as_socket() {
        return Address::Tcp(addr);
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = addr.as_abstract_namespace() {
        let name = String::from_utf8_lossy(name);
        return Address::Unix(Some(format!("@{name}").into()));
    }
    Address::Unix(addr.as_pathname().map(ToOwned::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_and_a_strange_one_is_no_error() {
        for (text, kind) in SocketKind::KNOWN {
            let written = serde_json::to_string(&kind).unwrap();
            assert_eq!(written, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<SocketKind>(&written).unwrap(), kind);
        }
        let strange = serde_json::from_str::<SocketKind>("\"vsock\"").unwrap();
        assert_eq!(strange, SocketKind::Unknown);
    }
}
