//! Resolves an address and opens a socket there.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    difference::Difference,
    options::SocketOptions,
    record::SocketKind,
    spec::{Place, Spec},
    unix_path::OwnedPath,
    way::Way,
};
use crate::{
    accept::Address,
    error::{Error, Kind},
};

/// A [`Place`], resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// What the host resolves to, in the resolver's order.
    Ip(Vec<SocketAddr>),
    /// An absolute path.
    Path(PathBuf),
    /// A name in the abstract namespace.
    Abstract(String),
}

impl Target {
    /// Resolves names; relative paths are taken from `dir`.
    pub(crate) async fn resolve(spec: &Spec, dir: &Path) -> Result<Self, Error> {
        match &spec.place {
            Place::Path(path) => Ok(Self::Path(dir.join(path))),
            Place::Abstract(name) => Ok(Self::Abstract(name.clone())),
            Place::Ip { host, port } => {
                let message = || format!("cannot resolve host {host:?} to listen on {}", spec.name);
                let found = tokio::net::lookup_host((host.as_str(), *port))
                    .await
                    .map_err(|err| Error::io(Kind::Address, message(), err))?;
                let mut addrs: Vec<_> = Vec::new();
                for addr in found {
                    if !addrs.contains(&addr) {
                        addrs.push(addr);
                    }
                }
                if addrs.is_empty() {
                    return Err(Error::new(Kind::Address, message() + ": it has no address"));
                }
                Ok(Self::Ip(addrs))
            }
        }
    }

    /// Where a socket that is opened there is bound, if it is the first of them.
    pub(crate) fn address(&self) -> Option<Address> {
        match self {
            Self::Ip(addrs) => addrs.first().copied().map(Address::Tcp),
            Self::Path(path) => Some(Address::Unix(Some(path.clone()))),
            Self::Abstract(name) => Some(Address::Unix(Some(format!("@{name}").into()))),
        }
    }

    /// All of them.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Ip(addrs) => addrs.iter().copied().map(Address::Tcp).collect(),
            _ => self.address().into_iter().collect(),
        }
    }

    /// Returns true if a socket bound to `bound` is what was asked for. Port 0 asks for any port.
    /// `0.0.0.0` and `[::]` are different wishes, although the kernel lets one cover the other.
    pub(crate) fn accepts(&self, bound: &Address) -> bool {
        match (self, bound) {
            (Self::Ip(addrs), Address::Tcp(bound)) => addrs.iter().any(|addr| {
                addr.ip() == bound.ip() && (addr.port() == 0 || addr.port() == bound.port())
            }),
            (Self::Path(path), Address::Unix(Some(bound))) => path == bound,
            (Self::Abstract(name), Address::Unix(Some(bound))) => {
                bound.to_str().and_then(|bound| bound.strip_prefix('@')) == Some(name)
            }
            _ => false,
        }
    }

    /// Returns true if the port is the kernel's choice, so that an address alone finds nothing.
    pub(crate) fn any_port(&self) -> bool {
        matches!(self, Self::Ip(addrs) if addrs.iter().any(|addr| addr.port() == 0))
    }

    /// Returns true if `bound` is there under another host, so that neither could be bound beside
    /// the other in the ordinary way.
    pub(crate) fn overlaps(&self, bound: &Address) -> bool {
        let Self::Ip(addrs) = self else { return false };
        let Some(bound) = bound.as_socket_addr() else {
            return false;
        };
        let all = |addr: &SocketAddr| addr.ip().is_unspecified();
        addrs.iter().any(|addr| {
            addr.port() == bound.port() && addr.ip() != bound.ip() && (all(addr) || all(&bound))
        })
    }

    /// The same hosts with the port of a socket, where any port will do.
    pub(crate) fn with_port_of(&self, bound: &Address) -> Option<Self> {
        match (self, bound.as_socket_addr()) {
            (Self::Ip(addrs), Some(bound)) if self.any_port() => {
                let with = |addr: &SocketAddr| SocketAddr::new(addr.ip(), bound.port());
                Some(Self::Ip(addrs.iter().map(with).collect()))
            }
            _ => None,
        }
    }

    /// The kind of a listener there.
    pub(crate) fn stream_kind(&self) -> SocketKind {
        match self {
            Self::Ip(_) => SocketKind::Tcp,
            Self::Path(_) | Self::Abstract(_) => SocketKind::Unix,
        }
    }
}

/// How to open a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    pub(crate) kind: SocketKind,
    pub(crate) options: &'a SocketOptions,
    /// Beside sockets of a predecessor that overlap with it: a listener does not listen yet.
    pub(crate) beside: bool,
}

/// A socket that was just opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    pub(crate) path: Option<OwnedPath>,
    pub(crate) differences: Vec<Difference>,
}

/// Opens a socket. It is close-on-exec and nonblocking; a listener listens.
pub(crate) fn open(how: How<'_>, target: &Target) -> io::Result<Opened> {
    // Until it listens.
    let mut way = None;
    let (fd, path) = match target {
        Target::Ip(addrs) => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            let opened = addrs.iter().find_map(|addr| match open_ip(how, *addr) {
                Ok(fd) => Some(fd),
                Err(err) => {
                    last = err;
                    None
                }
            });
            (opened.ok_or(last)?, None)
        }
        Target::Path(path) => {
            way = Some(Way::make(path)?);
            let socket = unix(how.kind)?;
            let access = how.options.access();
            access.before_bind(socket.as_fd())?;
            socket.bind(&SockAddr::unix(path)?)?;
            let owned = OwnedPath::of(path)?;
            // Before it listens: until then nobody can connect.
            access.apply(&owned).inspect_err(|_| owned.remove())?;
            (socket, Some(owned))
        }
        Target::Abstract(name) => {
            let socket = unix(how.kind)?;
            socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
            (socket, None)
        }
    };
    let differences = how.options.apply(fd.as_fd(), how.kind);
    if how.kind.listens() && !how.beside {
        fd.listen(how.options.queue())
            .inspect_err(|_| path.iter().for_each(OwnedPath::remove))?;
    }
    drop(way);
    Ok(Opened {
        fd: fd.into(),
        path,
        differences,
    })
}

fn open_ip(how: How<'_>, addr: SocketAddr) -> io::Result<Socket> {
    let socket = ip(how.kind, addr)?;
    socket.set_reuse_port(how.beside)?;
    how.options.before_bind(socket.as_fd(), addr.is_ipv6())?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// A socket that is to be bound to this address.
pub(super) fn ip(kind: SocketKind, addr: SocketAddr) -> io::Result<Socket> {
    let (ty, protocol) = match kind {
        SocketKind::Udp => (Type::DGRAM, Protocol::UDP),
        _ => (Type::STREAM, Protocol::TCP),
    };
    // `new` sets close-on-exec in the same system call.
    let socket = Socket::new(Domain::for_address(addr), ty, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if kind != SocketKind::Udp {
        // Binds although connections of an earlier process are in TIME_WAIT. On UDP it would let
        // another process of the same user take the packets.
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

pub(super) fn unix(kind: SocketKind) -> io::Result<Socket> {
    let ty = match kind {
        SocketKind::Datagram => Type::DGRAM,
        SocketKind::Seqpacket => Type::SEQPACKET,
        _ => Type::STREAM,
    };
    let socket = Socket::new(Domain::UNIX, ty, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
