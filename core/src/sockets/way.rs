//! The way to a path: one at a time. For a bind, what is stale goes.
//!
//! Invariants:
//! 1. A socket file is taken for stale, and a new one is bound and listens, under a lock that all who
//!    use this module take: so a socket that does not listen is nobody's who is about to.
//! 2. The lock is of a file beside the path, which only its user may open. (The directory itself
//!    could be locked by whoever may read it.)
//! 3. The lock counts only while its file has its name. It is removed by who holds it, last.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    net::SocketAddrUnix,
    process::geteuid,
};
use socket2::{Domain, Socket, Type};

use crate::pidfile::is_at;

/// How long another process is waited for, which holds the lock from its look to its `listen`.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// The right to bind at a path, until it is dropped: after `listen`.
#[derive(Debug)]
pub(crate) struct Way {
    lock: PathBuf,
    file: File,
}

impl Way {
    /// Makes way for a bind at `path`: removes a socket file on which nobody listens.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if a process listens there, or is about to and does not come to it; `EEXIST` if
    /// the file is not a socket.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let way = Self::lock(path);
        // First, for who listens there is a better reason than a directory that is not ours.
        let stale = is_stale(path)?;
        let way = way?;
        if stale {
            match std::fs::remove_file(path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
        }
        Ok(way)
    }

    /// Waits until nobody else has the way to `path`, and changes nothing there.
    pub(crate) fn lock(path: &Path) -> io::Result<Self> {
        let name = path.file_name();
        let name = name.ok_or_else(|| io::Error::other("the path names no file"))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".handover-lock");
        let lock = path.with_file_name(hidden);
        let failed = |err: io::Error| {
            let message = format!("cannot lock {}: {err}", lock.display());
            io::Error::new(err.kind(), message)
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Nonblocking: what is there may be a pipe.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(flags.bits() as i32)
                .open(&lock)
                .map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            if !meta.is_file() || meta.uid() != geteuid().as_raw() {
                return Err(failed(io::Error::other("it is not a file of this user")));
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &lock) => return Ok(Self { lock, file }),
                // Removed between open and lock, by who has held it.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
                Err(err) => return Err(failed(err.into())),
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "another process is about to take the path and does not come to an end: it holds {}",
                    lock.display()
                );
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if is_at(&self.file, &self.lock) {
            let _ = std::fs::remove_file(&self.lock);
        }
    }
}

/// Whether a socket file is there on which nobody listens.
fn is_stale(path: &Path) -> io::Result<bool> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(err) => return Err(err),
    };
    if !meta.file_type().is_socket() {
        let what = "a file that is not a socket is in the way; it was left alone";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    // Nonblocking: a live server whose queue is full would let us wait for ever.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path.as_os_str().as_bytes())?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::ACCESS | Errno::PERM) => Err(Errno::ACCESS.into()),
        // Connected, its queue is full, or it is of another type: somebody listens.
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::sockets::{
        open::{How, Target, open},
        options::SocketOptions,
        record::SocketKind,
    };

    fn kind(way: io::Result<Way>) -> io::ErrorKind {
        way.unwrap_err().kind()
    }

    #[test]
    fn stale_goes_live_and_foreign_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(Way::make(&path).unwrap());

        let live = UnixListener::bind(&path).unwrap();
        assert_eq!(kind(Way::make(&path)), io::ErrorKind::AddrInUse);
        drop(live);
        drop(Way::make(&path).unwrap());
        assert!(!path.exists());

        let precious = dir.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert_eq!(kind(Way::make(&path)), io::ErrorKind::AlreadyExists);
        assert!(path.is_symlink());
        assert_eq!(kind(Way::make(&precious)), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(dir.path().read_dir().unwrap().count(), 2, "no lock is left");
    }

    /// Fails if a socket that is bound, and does not listen yet, is taken for a stale one.
    #[test]
    fn what_is_about_to_listen_is_not_stale() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = Way::make(&path).unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| Way::make(&path));
            // The longer it waits, the surer it is seen if nothing holds the second up.
            thread::sleep(Duration::from_millis(100));
            assert!(!second.is_finished());
            socket.listen(1).unwrap();
            drop(first);
            assert_eq!(kind(second.join().unwrap()), io::ErrorKind::AddrInUse);
        });
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn one_of_many_that_start_at_once_serves() {
        const MANY: usize = 8;
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = dir.path().join(round.to_string());
            if round % 2 == 0 {
                drop(UnixListener::bind(&path).unwrap());
            }
            let how = How {
                kind: SocketKind::Unix,
                options: &SocketOptions::default(),
                beside: false,
            };
            let target = Target::Path(path.clone());
            let together = std::sync::Barrier::new(MANY);
            let opened: Vec<_> = thread::scope(|scope| {
                let start = || {
                    together.wait();
                    open(how, &target)
                };
                let started: Vec<_> = (0..MANY).map(|_| scope.spawn(start)).collect();
                started.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let (won, lost): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1, "{lost:?}");
            let won = won.into_iter().next().unwrap().unwrap();
            assert!(won.path.as_ref().unwrap().is_current());
            for err in lost.into_iter().map(Result::unwrap_err) {
                assert_eq!(err.to_string(), "another process listens there");
            }
            let _client = UnixStream::connect(&path).unwrap();
            Socket::from(won.fd).accept().unwrap();
        }
        assert_eq!(
            dir.path().read_dir().unwrap().count(),
            50,
            "no lock is left"
        );
    }
}
