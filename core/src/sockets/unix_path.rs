//! The files of Unix sockets: whose they are.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

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
    use std::os::unix::{ffi::OsStrExt, net::UnixListener};

    use super::*;

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
