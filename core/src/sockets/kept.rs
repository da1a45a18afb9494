//! Files and connections that a program keeps for its successor, by name.
//!
//! They have names of their own, apart from those of the sockets that a generation opens, and they
//! are the program's: what was taken is passed on only if it is kept again.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{SocketType, sockopt},
};
use socket2::SockRef;

use super::{
    held::Held,
    record::{self, Record, SocketKind},
};
use crate::error::{Error, Kind};

/// The longest name. Many of them go in one message to the successor.
const LONGEST: usize = 512;

/// Files and connections, by name.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    inherited: BTreeMap<String, (SocketKind, OwnedFd)>,
    kept: BTreeMap<String, (SocketKind, OwnedFd)>,
    closed: bool,
}

impl Kept {
    /// Adds what the predecessor kept.
    pub(crate) fn inherit(&mut self, record: Record, fd: OwnedFd) {
        self.inherited.insert(record.name, (record.kind, fd));
    }

    /// Keeps a descriptor. One of the same kind and name is replaced.
    pub(crate) fn keep(
        &mut self,
        name: String,
        kind: SocketKind,
        fd: OwnedFd,
    ) -> Result<(), Error> {
        let bad = |why: String| {
            let message = format!("cannot keep {} {name:?}: {why}", noun(kind));
            Error::new(Kind::File, message)
        };
        if name.is_empty() || name.len() > LONGEST {
            return Err(bad(format!("a name has 1 to {LONGEST} bytes")));
        }
        if let Some((other, _)) = self.kept.get(&name).filter(|(other, _)| *other != kind) {
            let other = noun(*other);
            return Err(bad(format!(
                "{other} is kept under this name; withdraw that first"
            )));
        }
        let failed = |err: io::Error| {
            let message = format!("cannot keep {} {name:?}", noun(kind));
            Error::io(Kind::File, message, err)
        };
        if kind == SocketKind::Stream {
            check_connected(&fd).map_err(failed)?;
        }
        // What the program starts for itself is not to have it.
        fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(|err| failed(err.into()))?;
        if !self.closed {
            self.kept.insert(name, (kind, fd));
        }
        Ok(())
    }

    /// Gives back what was kept.
    pub(crate) fn withdraw(&mut self, name: &str) -> Option<OwnedFd> {
        self.kept.remove(name).map(|(_, fd)| fd)
    }

    /// Takes what the predecessor kept as this kind.
    pub(crate) fn take(&mut self, name: &str, kind: SocketKind) -> Option<OwnedFd> {
        if self.inherited.get(name)?.0 != kind {
            return None;
        }
        self.inherited.remove(name).map(|(_, fd)| fd)
    }

    /// Closes what was inherited and not taken.
    pub(crate) fn close_unused(&mut self) {
        for (name, (kind, _)) in std::mem::take(&mut self.inherited) {
            tracing::info!(
                name,
                ?kind,
                "closed what the predecessor kept and nobody took"
            );
        }
    }

    /// Duplicates of everything.
    pub(crate) fn for_successor(&self) -> io::Result<Vec<Arc<Held>>> {
        let duplicate = |(name, (kind, fd)): (&String, &(SocketKind, OwnedFd))| {
            let address = match kind {
                SocketKind::Stream => record::peer(fd).unwrap_or_default(),
                _ => String::new(),
            };
            let record = Record {
                name: name.clone(),
                kind: *kind,
                address,
                foreign: false,
                path: None,
                access: Default::default(),
            };
            Ok(Held::new(record, fd.try_clone()?))
        };
        self.kept.iter().map(duplicate).collect()
    }

    /// Closes everything, and what is to come: nobody inherits it.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.kept.clear();
    }
}

fn noun(kind: SocketKind) -> &'static str {
    match kind {
        SocketKind::Stream => "a connection",
        _ => "a file",
    }
}

fn check_connected(fd: &OwnedFd) -> io::Result<()> {
    match sockopt::socket_type(fd)? {
        SocketType::STREAM => {}
        _ => {
            let what = "it is not a stream; keep it as a file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }
    SockRef::from(fd).peer_addr().map(drop)
}

/// Makes a descriptor nonblocking, as the runtime needs it.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    use SocketKind::{File, Stream};

    use super::*;

    fn file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    #[test]
    fn replaced_withdrawn_and_never_mixed_up() {
        let mut kept = Kept::default();
        kept.keep("log".into(), File, file()).unwrap();
        kept.keep("log".into(), File, file()).unwrap();
        assert_eq!(kept.for_successor().unwrap().len(), 1);
        let (a, _b) = UnixStream::pair().unwrap();
        let clash = kept
            .keep("log".into(), Stream, a.try_clone().unwrap().into())
            .unwrap_err();
        assert!(clash.is_file() && clash.to_string().contains("a file is kept under this name"));
        assert!(kept.withdraw("log").is_some() && kept.withdraw("log").is_none());
        kept.keep("log".into(), Stream, a.into()).unwrap();
        kept.close();
        assert!(kept.for_successor().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_connection_is_refused() {
        let mut kept = Kept::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for fd in [file(), listener.into()] {
            assert!(kept.keep("up".into(), Stream, fd).unwrap_err().is_file());
        }
        assert!(kept.keep(String::new(), File, file()).is_err());
        assert!(kept.keep("x".repeat(513), File, file()).is_err());
    }

    #[test]
    fn taken_once_and_as_what_it_was_kept() {
        let mut old = Kept::default();
        old.keep("log".into(), File, file()).unwrap();
        let mut new = Kept::default();
        for held in old.for_successor().unwrap() {
            let fd = held.as_fd().try_clone_to_owned().unwrap();
            new.inherit(held.record.clone(), fd);
        }
        assert!(new.take("log", Stream).is_none());
        assert!(new.take("log", File).is_some());
        assert!(new.take("log", File).is_none());
    }
}
