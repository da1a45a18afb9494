//! The files of Unix sockets: whose they are, and when one may go.

use std::{
    fs::Metadata,
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{io::Errno, net::SocketAddrUnix};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

/// A socket file that this service made, by what it is and not only by where it is: another
/// program may have put its own at the same path since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnedPath {
    #[serde(with = "lossless")]
    pub(crate) path: PathBuf,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl OwnedPath {
    /// Remembers the socket file at `path`, which was just bound.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// Returns true if the file is still the one that we made.
    pub(crate) fn is_current(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| meta.file_type().is_socket() && self.is(&meta))
    }

    /// Returns true if this is the file that we made.
    pub(crate) fn is(&self, meta: &Metadata) -> bool {
        (meta.dev(), meta.ino()) == (self.dev, self.ino)
    }

    /// Removes the file, if it is still the one that we made.
    pub(crate) fn remove(&self) {
        if !self.is_current() {
            tracing::debug!(path = %self.path.display(), "socket file is not ours any more, left");
        } else if let Err(err) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %err, "cannot remove the socket file");
        }
    }
}

/// Makes way for a bind at `path`: removes a socket file on which nobody listens.
///
/// # Errors
///
/// `EADDRINUSE` if a process listens there, `EEXIST` if the file is not a socket.
pub(crate) fn make_way(path: &Path) -> io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
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
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::ACCESS | Errno::PERM) => Err(Errno::ACCESS.into()),
        // Connected, its queue is full, or it is of another type: somebody listens.
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}

/// Paths are bytes, and JSON is not: a path that is not UTF-8 travels as a list of them.
mod lossless {
    use std::{
        ffi::OsString,
        os::unix::ffi::{OsStrExt, OsStringExt},
        path::{Path, PathBuf},
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Utf8(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => Text::Utf8(text.to_owned()),
            None => Text::Bytes(path.as_os_str().as_bytes().to_vec()),
        }
        .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(match Text::deserialize(from)? {
            Text::Utf8(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn stale_goes_live_and_foreign_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        make_way(&path).unwrap();

        let live = UnixListener::bind(&path).unwrap();
        assert_eq!(
            make_way(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(live);
        make_way(&path).unwrap();
        assert!(!path.exists());

        std::fs::write(&path, "precious").unwrap();
        assert_eq!(
            make_way(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn only_the_same_inode_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _first = UnixListener::bind(&path).unwrap();
        let owned = OwnedPath::of(&path).unwrap();
        // Moved, not removed: its inode must not be given to the second.
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        owned.remove();
        assert!(path.exists(), "it is another's");
        OwnedPath::of(&path).unwrap().remove();
        assert!(!path.exists());
    }

    #[test]
    fn any_path_survives_the_wire() {
        for bytes in [&b"/run/app.sock"[..], b"/run/\xff"] {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
            let owned = OwnedPath {
                path,
                dev: 1,
                ino: 2,
            };
            let text = serde_json::to_string(&owned).unwrap();
            assert_eq!(serde_json::from_str::<OwnedPath>(&text).unwrap(), owned);
        }
    }
}
