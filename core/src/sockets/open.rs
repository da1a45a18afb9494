//! Resolves an address and opens a socket there.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    record::SocketKind,
    spec::{Place, Spec},
    unix_path::{self, OwnedPath},
};
use crate::{
    accept::Address,
    error::{Error, Kind},
};

/// The kernel clamps it to `net.core.somaxconn`, which is 4096 by default: a burst while two
/// generations change places should find room.
const BACKLOG: i32 = 4096;

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

    /// The kind of a listener there.
    pub(crate) fn stream_kind(&self) -> SocketKind {
        match self {
            Self::Ip(_) => SocketKind::Tcp,
            Self::Path(_) | Self::Abstract(_) => SocketKind::Unix,
        }
    }
}

/// Opens a socket. It is close-on-exec and nonblocking; a listener listens.
pub(crate) fn open(kind: SocketKind, target: &Target) -> io::Result<(OwnedFd, Option<OwnedPath>)> {
    match target {
        Target::Ip(addrs) => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for addr in addrs {
                match open_ip(kind, *addr) {
                    Ok(fd) => return Ok((fd, None)),
                    Err(err) => last = err,
                }
            }
            Err(last)
        }
        Target::Path(path) => {
            unix_path::make_way(path)?;
            let fd = open_unix(&SockAddr::unix(path)?)?;
            Ok((fd, Some(OwnedPath::of(path)?)))
        }
        Target::Abstract(name) => Ok((open_unix(&SockAddr::unix(format!("\0{name}"))?)?, None)),
    }
}

fn open_ip(kind: SocketKind, addr: SocketAddr) -> io::Result<OwnedFd> {
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
    socket.bind(&addr.into())?;
    if kind != SocketKind::Udp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

fn open_unix(addr: &SockAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
