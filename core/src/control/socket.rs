//! Opens the control socket, or takes the predecessor's.
//!
//! It travels like any socket of the service, and is kept apart from them: the program has not asked
//! for it by `listen`, and it answers until this process ends, also in a drain.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::{
    error::{Error, Kind},
    sockets::{
        access::Access,
        held::Held,
        probe,
        record::{Record, SocketKind},
        unix_path::OwnedPath,
        way::Way,
    },
};

/// No name that a user can give: a name holds no colon.
const NAME: &str = "handover:control";
/// How many may wait to be accepted.
const BACKLOG: i32 = 64;
/// Its owner, who is the service's user, and nobody else.
const MODE: u32 = 0o600;

/// The control socket of a generation, for its successor.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    record: Record,
    fd: OwnedFd,
    /// This process opened it, so that no predecessor comes back to it.
    opened: bool,
    /// Once: the number of a file that has gone may be given to another.
    removed: AtomicBool,
}

impl ControlSocket {
    /// Takes the control socket out of what was inherited.
    pub(crate) fn claim(sockets: &mut Vec<(Record, OwnedFd)>) -> Option<Self> {
        let index = sockets.iter().position(|(record, _)| record.name == NAME)?;
        let (record, fd) = sockets.swap_remove(index);
        Some(Self {
            record,
            fd,
            opened: false,
            removed: AtomicBool::new(false),
        })
    }

    /// The inherited one, if it is still at this path, or a new one.
    pub(crate) fn obtain(inherited: &mut Option<Self>, path: &Path) -> Result<Self, Error> {
        let fits = |socket: &mut Self| {
            let owned = socket.record.path.as_ref();
            owned.is_some_and(|owned| owned.path == path && owned.is_current())
        };
        if let Some(inherited) = inherited.take_if(fits) {
            return Ok(inherited);
        }
        let (record, fd) = open_recorded(path)?;
        Ok(Self {
            record,
            fd,
            opened: true,
            removed: AtomicBool::new(false),
        })
    }

    /// Registers a duplicate with the runtime.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        UnixListener::from_std(self.fd.try_clone()?.into())
    }

    /// A duplicate for a successor.
    pub(crate) fn for_successor(&self) -> io::Result<Arc<Held>> {
        Ok(Held::new(self.record.clone(), self.fd.try_clone()?))
    }

    /// The file, of one that is not used here.
    pub(crate) fn into_path(self) -> Option<OwnedPath> {
        self.record.path
    }

    /// Removes the file, in the last generation. `alone`: no predecessor can come back to it.
    pub(crate) fn remove(&self, alone: bool) {
        if let Some(path) = self.record.path.as_ref().filter(|_| self.opened || alone)
            && !self.removed.swap(true, Ordering::AcqRel)
        {
            path.remove();
        }
    }
}

/// Opens one, and says what it is.
pub(crate) fn open_recorded(path: &Path) -> Result<(Record, OwnedFd), Error> {
    let failed = |err| {
        let message = format!("cannot open the control socket {}", path.display());
        Error::io(Kind::Control, message, err)
    };
    let (fd, owned) = open(path).map_err(failed)?;
    let record = Record {
        name: NAME.to_owned(),
        kind: SocketKind::Unix,
        address: format!("unix:{}", path.display()),
        foreign: false,
        path: Some(owned),
        access: Access::default(),
    };
    Ok((record, fd))
}

/// Proves that it could be opened there.
pub(crate) fn prove(path: &Path) -> Result<(), Error> {
    probe::prove_path(path).map(drop).map_err(|err| {
        let message = format!("cannot open the control socket {}", path.display());
        Error::io(Kind::Control, message, err)
    })
}

/// Nobody but its owner can connect at any moment: on Linux the file has its mode from birth, and
/// elsewhere nobody can connect before it listens, which is once it has its mode.
fn open(path: &Path) -> io::Result<(OwnedFd, OwnedPath)> {
    // Until it listens.
    let _way = Way::make(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let access = Access {
        mode: Some(MODE),
        ..Access::default()
    };
    access.before_bind(socket.as_fd())?;
    socket.bind(&SockAddr::unix(path)?)?;
    let owned = OwnedPath::of(path)?;
    let listens = access.apply(&owned).and_then(|()| socket.listen(BACKLOG));
    listens.inspect_err(|_| owned.remove())?;
    Ok((socket.into(), owned))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::Mode;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_the_owner_may_connect_and_a_stale_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::obtain(&mut None, &path).unwrap();
        assert_eq!(mode(&path), MODE);
        let err = ControlSocket::obtain(&mut None, &path).unwrap_err();
        assert!(err.is_control(), "{err}");
        assert!(
            err.chain().contains("another process listens"),
            "{}",
            err.chain()
        );
        socket.remove(false);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn it_is_taken_by_its_path_and_left_to_who_may_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let first = ControlSocket::obtain(&mut None, &path).unwrap();
        let held = first.for_successor().unwrap();
        let fd = held.as_fd().try_clone_to_owned().unwrap();
        let mut left = vec![(held.record.clone(), fd)];
        let mut inherited = ControlSocket::claim(&mut left);
        assert!(left.is_empty());
        let elsewhere = dir.path().join("elsewhere");
        let other = ControlSocket::obtain(&mut inherited, &elsewhere).unwrap();
        assert!(inherited.is_some() && other.opened);
        let second = ControlSocket::obtain(&mut inherited, &path).unwrap();
        assert!(inherited.is_none() && !second.opened);
        second.remove(false);
        assert!(path.exists(), "the predecessor may come back");
        second.remove(true);
        assert!(!path.exists());
    }

    /// Fails if the mode is set only after the file has appeared.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_is_born_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        rustix::fs::fchmod(&socket, Mode::from_bits_truncate(MODE)).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(mode(&path), MODE);
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        std::fs::write(&path, "precious").unwrap();
        let err = ControlSocket::obtain(&mut None, &path).unwrap_err();
        assert!(err.chain().contains("in the way"), "{}", err.chain());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
