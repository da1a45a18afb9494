//! The pid file: who serves, for people and scripts.
//!
//! Invariants:
//! 1. The file at the path is complete at every moment: it is written beside, and renamed.
//! 2. The file is locked from before it appears until its process ends, so that a number in it that
//!    has been given to another process since is never taken for ours.
//! 3. A file is replaced only if its process has gone, or is an older generation; who looks at it and
//!    replaces it holds the lock beside it, so two that start at once cannot both succeed.
//! 4. It is removed only by who wrote it, and only while it is still that file.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use tempfile::{Builder, NamedTempFile};

mod lock;

use crate::{
    error::{Error, Kind},
    sockets::way::Way,
};

/// How often a file that changes under our hands is looked at again.
const TRIES: u32 = 100;

/// Proves that a pid file could be written there. Nothing is left behind, and to whom one that is
/// there belongs does not matter: mostly to the service that runs.
pub(crate) fn prove(path: &Path) -> Result<(), Error> {
    let failed = |err| {
        let message = format!("cannot write the pid file {}", path.display());
        Error::io(Kind::PidFile, message, err)
    };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Err(failed(io::Error::other("it is a directory"))),
        _ => write_beside(path).map(drop).map_err(failed),
    }
}

/// A pid file that is written and not yet at its place.
#[derive(Debug)]
pub(crate) struct Prepared {
    path: PathBuf,
    file: NamedTempFile,
}

/// The pid file of this process: of mode 0644, complete at every moment, and locked while the
/// process lives. Removed by [`remove`](Self::remove); dropping only unlocks it.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::supervise::PidFile;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("app.pid");
/// let file = PidFile::write(&path)?;
/// assert_eq!(std::fs::read_to_string(file.path())?, format!("{}\n", std::process::id()));
/// file.remove();
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    // Holds the lock.
    file: File,
}

impl Prepared {
    /// Writes the file beside `path`, and sees whether `path` may be replaced: it may be one of the
    /// processes `ours`, the generations before this one.
    ///
    /// Whatever can fail fails here, before a predecessor is told to go.
    pub(crate) fn new(path: &Path, ours: &[u32]) -> Result<Self, Error> {
        let failed = |err| {
            Error::io(
                Kind::PidFile,
                format!("cannot write the pid file {}", path.display()),
                err,
            )
        };
        let file = write_beside(path).map_err(failed)?;
        let prepared = Self {
            path: path.to_owned(),
            file,
        };
        prepared.current(ours)?;
        Ok(prepared)
    }

    /// Puts the file at its place.
    pub(crate) fn publish(mut self, ours: &[u32]) -> Result<PidFile, Error> {
        let path = self.path.clone();
        let failed = |err| {
            Error::io(
                Kind::PidFile,
                format!("cannot put the pid file at {}", path.display()),
                err,
            )
        };
        // Kept until the new one is there: invariant 3.
        let _way = Way::lock(&path).map_err(failed)?;
        for _ in 0..TRIES {
            match self.current(ours)? {
                Some(_) => {
                    let file = self.file.persist(&path).map_err(|err| failed(err.error))?;
                    return Ok(PidFile { path, file });
                }
                None => match self.file.persist_noclobber(&path) {
                    Ok(file) => return Ok(PidFile { path, file }),
                    Err(err) if err.error.kind() == io::ErrorKind::AlreadyExists => {
                        self.file = err.file;
                    }
                    Err(err) => return Err(failed(err.error)),
                },
            }
        }
        Err(failed(io::Error::other("it changes all the time")))
    }

    /// The file that is there now, of a process that has gone, or of one of these.
    fn current(&self, ours: &[u32]) -> Result<Option<File>, Error> {
        let path = &self.path;
        let failed = |err: io::Error| {
            Error::io(
                Kind::PidFile,
                format!("cannot read the pid file {}", path.display()),
                err,
            )
        };
        for _ in 0..TRIES {
            // Nonblocking: what is there may be a pipe.
            let flags = OFlags::NONBLOCK.bits() as i32;
            let mut file = match File::options().read(true).custom_flags(flags).open(path) {
                Ok(file) => file,
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(err) => return Err(failed(err)),
            };
            if !file.metadata().map_err(failed)?.is_file() {
                return Err(failed(io::Error::other("it is not a regular file")));
            }
            let holder = read_pid(&mut file);
            let ours = holder.is_some_and(|holder| ours.contains(&holder));
            let held = !ours && lock::is_held(&file, holder).map_err(failed)?;
            if !is_at(&file, path) {
                // Replaced in between.
                continue;
            }
            if !held {
                return Ok(Some(file));
            }
            let holder = holder.map_or("another process".to_owned(), |pid| {
                format!("process {pid}, which is alive")
            });
            let path = path.display();
            return Err(Error::new(
                Kind::PidFile,
                format!("the pid file {path} belongs to {holder}; end it, or name another file"),
            ));
        }
        Err(failed(io::Error::other("it changes all the time")))
    }
}

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// If it cannot be written there, or belongs to another living process.
    pub fn write(path: &Path) -> Result<Self, Error> {
        Prepared::new(path, &[])?.publish(&[])
    }

    /// The one that this process wrote before an `exec` of itself, which kept `fd` and so the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::os::fd::AsFd;
    ///
    /// use handover::supervise::PidFile;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.pid");
    /// let before = PidFile::write(&path)?;
    /// let kept = before.as_fd().try_clone_to_owned()?; // goes over an `exec` of this process
    /// let after = PidFile::restore(&path, kept);
    /// drop(before);
    /// after.remove();
    /// assert!(!path.exists());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn restore(path: &Path, fd: OwnedFd) -> Self {
        let (path, file) = (path.to_owned(), fd.into());
        Self { path, file }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file at the path is still this one.
    pub(crate) fn is_ours(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Removes the file, if it is still ours.
    pub fn remove(self) {
        if self.is_ours()
            && let Err(err) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %err, "cannot remove the pid file");
        }
    }
}

impl AsFd for PidFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn write_beside(path: &Path) -> io::Result<NamedTempFile> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("the path names no file"))?;
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = Builder::new()
        .prefix(name)
        .suffix(".new")
        .tempfile_in(dir)?;
    // While it is for us alone.
    lock::hold(file.as_file())?;
    writeln!(file, "{}", std::process::id())?;
    file.flush()?;
    // Not left to the umask: monitoring that runs as somebody else reads it.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    Ok(file)
}

/// Returns true if this file is what lies at the path.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(path: &Path, predecessor: Option<u32>) -> Result<PidFile, Error> {
        let ours = predecessor.as_slice();
        Prepared::new(path, ours)?.publish(ours)
    }

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn holds_our_pid_for_everybody_and_goes_with_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        let file = publish(&path, None).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(entries(dir.path()), 1);
        file.remove();
        assert_eq!(entries(dir.path()), 0);
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_held_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        fs::write(&path, "1\n").unwrap();
        let first = publish(&path, None).unwrap();
        let err = publish(&path, None).unwrap_err();
        assert!(err.is_pid_file());
        let text = err.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert_eq!(entries(dir.path()), 1);

        // As a successor does, which then owns it.
        let second = publish(&path, Some(std::process::id())).unwrap();
        first.remove();
        assert!(path.exists(), "it is the successor's");
        second.remove();
        assert!(!path.exists());
    }

    /// Neither in a file that is stale nor in one that somebody holds.
    #[test]
    fn what_is_no_number_in_a_file_does_no_harm() {
        for text in [
            "",
            "\n",
            "-1\n",
            "1 2",
            "no number",
            "99999999999999999999",
            "\0\0",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.pid");
            fs::write(&path, text).unwrap();
            let first = publish(&path, None).unwrap();
            fs::write(&path, text).unwrap();
            let err = publish(&path, None).unwrap_err();
            assert!(err.is_pid_file(), "{text:?}: {err}");
            assert!(err.to_string().contains(path.to_str().unwrap()), "{err}");
            drop(first);
        }
    }

    /// Fails if whoever may read a stale file can make it look like a living process's.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_may_only_read_a_stale_file_cannot_hold_it() {
        use nix::fcntl::{FcntlArg::F_OFD_SETLK, fcntl};
        use rustix::fs::{FlockOperation, flock};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        // Of a process that has gone: a number above the highest that there is.
        fs::write(&path, "4194305\n").unwrap();
        let stale = File::open(&path).unwrap();
        flock(&stale, FlockOperation::NonBlockingLockExclusive).unwrap();
        let read = lock::whole(nix::libc::F_RDLCK);
        fcntl(&stale, F_OFD_SETLK(&read)).unwrap();
        let ours = publish(&path, None).unwrap();
        // And what is held looks held to who may only read it, also by `flock`.
        let live = File::open(&path).unwrap();
        fcntl(&live, F_OFD_SETLK(&read)).unwrap_err();
        flock(&live, FlockOperation::NonBlockingLockShared).unwrap_err();
        assert!(publish(&path, None).unwrap_err().is_pid_file());
        ours.remove();
    }

    /// Other programs know nothing but `flock`.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_another_program_holds_is_respected_while_that_lives() {
        use rustix::fs::{FlockOperation, flock};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        let mut other = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        fs::write(&path, format!("{}\n", other.id())).unwrap();
        let file = File::open(&path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let err = publish(&path, None).unwrap_err().to_string();
        assert!(err.contains(&other.id().to_string()), "{err}");
        drop(other.stdin.take());
        other.wait().unwrap();
        publish(&path, None).unwrap().remove();
    }

    #[test]
    fn one_of_many_that_start_at_once_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        for round in 0..50 {
            if round % 2 == 0 {
                fs::write(&path, "1\n").unwrap();
            }
            let won: Vec<_> = std::thread::scope(|scope| {
                let start = || publish(&path, None).ok();
                let started: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                started
                    .into_iter()
                    .filter_map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(won.len(), 1);
            won.into_iter().for_each(PidFile::remove);
            assert_eq!(entries(dir.path()), 0);
        }
    }

    #[test]
    fn what_is_not_a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(publish(dir.path(), None).unwrap_err().is_pid_file());
        assert!(
            publish(&dir.path().join("no/such/dir"), None)
                .unwrap_err()
                .is_pid_file()
        );
        assert!(dir.path().is_dir());
    }

    /// Fails, by never coming to an end, if who opens a pipe waits for its other end.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_left_alone() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let err = publish(&pipe, None).unwrap_err();
        assert!(err.is_pid_file() && pipe.exists(), "{err}");
        assert_eq!(entries(dir.path()), 1);
    }

    /// Fails if a link is written through, replaced or removed: it may be an attacker's, to a file
    /// that only we may write.
    #[test]
    fn a_link_is_neither_followed_nor_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("app.pid"), dir.path().join("precious"));
        std::os::unix::fs::symlink(&target, &path).unwrap();
        for content in [None, Some("1\n")] {
            if let Some(content) = content {
                fs::write(&target, content).unwrap();
            }
            assert!(publish(&path, None).unwrap_err().is_pid_file());
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), content);
        }
        assert_eq!(entries(dir.path()), 2);
    }
}
