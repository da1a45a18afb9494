//! Sockets of a check: it is proven that they could be opened, and what is given out is a stand-in
//! that nobody can reach.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::Path,
};

use rustix::fs::{Access, access};
use socket2::{SockAddr, Socket};

use super::{
    open::{Target, ip, unix},
    record::SocketKind,
};

/// Proves that a socket of this kind could be opened there. Returns a stand-in, and whether the
/// address is in use, which is permitted: mostly it is the service that has it.
pub(crate) fn probe(kind: SocketKind, target: &Target) -> io::Result<(OwnedFd, bool)> {
    match target {
        Target::Ip(addrs) => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for addr in addrs {
                match bind(&ip(kind, *addr)?, &(*addr).into()) {
                    Ok(in_use) => return Ok((stand_in(kind, *addr)?, in_use)),
                    Err(err) => last = err,
                }
            }
            Err(last)
        }
        Target::Path(path) => Ok((unix(kind)?.into(), prove_path(path)?)),
        Target::Abstract(name) => {
            let in_use = bind(&unix(kind)?, &SockAddr::unix(format!("\0{name}"))?)?;
            Ok((unix(kind)?.into(), in_use))
        }
    }
}

/// Proves that a socket file could be made there; whether there is one.
pub(crate) fn prove_path(path: &Path) -> io::Result<bool> {
    // Too long, for one.
    SockAddr::unix(path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    access(
        dir.unwrap_or(Path::new(".")),
        Access::WRITE_OK | Access::EXEC_OK,
    )?;
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => Ok(true),
        Ok(_) => {
            let what = "a file that is not a socket is in the way";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Whether the address is in use. It is let go with the socket, on which nobody has listened.
fn bind(socket: &Socket, addr: &SockAddr) -> io::Result<bool> {
    match socket.bind(addr) {
        Ok(()) => Ok(false),
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => Ok(true),
        Err(err) => Err(err),
    }
}

fn stand_in(kind: SocketKind, addr: SocketAddr) -> io::Result<OwnedFd> {
    let loopback: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let socket = ip(kind, loopback)?;
    socket.bind(&loopback.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_in_use_is_permitted_and_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (stand_in, in_use) = probe(SocketKind::Tcp, &Target::Ip(vec![addr])).unwrap();
        assert!(in_use);
        let at = super::super::record::address(&stand_in).unwrap();
        assert_ne!(at.to_string(), addr.to_string());
        // Whoever connects still gets the one that listens.
        let _client = std::net::TcpStream::connect(addr).unwrap();
        listener.accept().unwrap();
        drop(listener);
        let (_, in_use) = probe(SocketKind::Tcp, &Target::Ip(vec![addr])).unwrap();
        assert!(!in_use);
        TcpListener::bind(addr).expect("it was let go");
    }

    #[test]
    fn what_cannot_be_bound_fails() {
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let err = probe(SocketKind::Tcp, &Target::Ip(vec![elsewhere])).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::AddrNotAvailable);
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("no/such/s");
        assert!(probe(SocketKind::Unix, &Target::Path(absent)).is_err());
        let file = dir.path().join("f");
        std::fs::write(&file, "precious").unwrap();
        let err = probe(SocketKind::Unix, &Target::Path(file)).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::AlreadyExists);
        let fine = dir.path().join("s");
        let (_, in_use) = probe(SocketKind::Unix, &Target::Path(fine.clone())).unwrap();
        assert!(!in_use && !fine.exists());
    }
}
