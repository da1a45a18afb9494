//! The file of a socket, held, so that what is changed is this file and not what lies at its path.
//!
//! Who may write in the directory can put a link or another file in its place at any moment. On Linux the
//! file is held by a descriptor, looked at through it, and changed through it. Elsewhere a link is not
//! followed, and nothing more can be done.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use rustix::{
    fs::{AtFlags, Gid, Mode, Uid, chownat},
    process::geteuid,
};

use super::unix_path::OwnedPath;

/// The file of a socket of ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
    #[cfg(not(target_os = "linux"))]
    path: std::path::PathBuf,
}

impl SocketFile {
    /// Takes hold of it.
    ///
    /// # Errors
    ///
    /// If something else lies at its path by now.
    pub(crate) fn hold(owned: &OwnedPath) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let held = {
            use rustix::fs::{OFlags, open};
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = open(&owned.path, flags, Mode::empty())?.into();
            Self { file }
        };
        #[cfg(not(target_os = "linux"))]
        let held = Self {
            path: owned.path.clone(),
        };
        let meta = held.metadata()?;
        if meta.file_type().is_socket() && owned.is(&meta) {
            return Ok(held);
        }
        Err(io::Error::other("something else has taken its place"))
    }

    /// Fails if this cannot be a file that was just made by us: it is another user's, or has
    /// another name too.
    pub(crate) fn expect_new(&self) -> io::Result<()> {
        let meta = self.metadata()?;
        if meta.uid() == geteuid().as_raw() && meta.nlink() == 1 {
            return Ok(());
        }
        Err(io::Error::other("something else has taken its place"))
    }

    /// The permissions of the file.
    pub(crate) fn mode(&self) -> io::Result<u32> {
        Ok(self.metadata()?.mode() & 0o7777)
    }

    pub(crate) fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        #[cfg(target_os = "linux")]
        chownat(&self.file, c"", user, group, AtFlags::EMPTY_PATH)?;
        #[cfg(not(target_os = "linux"))]
        {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(rustix::fs::CWD, &self.path, user, group, flags)?;
        }
        Ok(())
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use std::os::{fd::AsRawFd, unix::fs::PermissionsExt};
            // What is held like this has no `fchmod`; this name leads to the file itself.
            let name = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            std::fs::set_permissions(&name, std::fs::Permissions::from_mode(mode)).map_err(|err| {
                match err.kind() {
                    io::ErrorKind::NotFound => {
                        io::Error::other("/proc is needed for it, and is not mounted")
                    }
                    _ => err,
                }
            })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let mode = Mode::from_raw_mode(mode as _);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            Ok(rustix::fs::chmodat(
                rustix::fs::CWD,
                &self.path,
                mode,
                flags,
            )?)
        }
    }

    fn metadata(&self) -> io::Result<Metadata> {
        #[cfg(target_os = "linux")]
        return self.file.metadata();
        #[cfg(not(target_os = "linux"))]
        return std::fs::symlink_metadata(&self.path);
    }
}
