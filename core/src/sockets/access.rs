//! Who may use the file of a Unix socket.
//!
//! A file that was inherited may have been changed by a person since. So what the program asks for
//! is compared with what the program asked for the last time, and not with the file: only a new
//! wish changes the file.

use std::{
    io,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
};

use rustix::fs::{Mode, fchmod};
use serde::{Deserialize, Serialize};

use super::{difference::Difference, socket_file::SocketFile, unix_path::OwnedPath};

/// Permissions and owner. What is not asked for is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<u32>,
}

impl Access {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Narrows what the file of a socket will be when it is bound: on Linux the kernel takes the
    /// socket's own permissions, less the umask. So there is no moment between `bind` and
    /// [`apply`](Self::apply) at which more is allowed than was asked for. Elsewhere nobody can
    /// connect to a listener before it listens, which is after both.
    pub(crate) fn before_bind(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // With an owner to come, nobody but us until then.
        let mode = match (self.mode, self.user.or(self.group)) {
            (None, None) => return Ok(()),
            (_, Some(_)) => 0o600,
            (Some(mode), None) => mode,
        };
        match fchmod(socket, Mode::from_raw_mode(mode as _)) {
            Err(err) if cfg!(target_os = "linux") => Err(err.into()),
            // Elsewhere it is refused or without effect.
            _ => Ok(()),
        }
    }

    /// Gives the file of a socket that was just bound its owner and its permissions.
    ///
    /// # Errors
    ///
    /// With what was tried, in words. Nothing but this file is changed, whatever lies at its path.
    pub(crate) fn apply(&self, owned: &OwnedPath) -> io::Result<()> {
        if self.is_default() {
            return Ok(());
        }
        let file = SocketFile::hold(owned)?;
        let as_it_is = self.user.or(self.group).is_none() && self.mode == Some(file.mode()?);
        if as_it_is {
            return Ok(());
        }
        file.expect_new()?;
        self.change(&file)
    }

    fn change(&self, file: &SocketFile) -> io::Result<()> {
        let failed = |what: String| {
            move |err: io::Error| io::Error::new(err.kind(), what + &err.to_string())
        };
        if self.user.or(self.group).is_some() {
            let (user, group) = (self.user, self.group);
            file.set_owner(user, group).map_err(failed(format!(
                "its file cannot be given to user {user:?} and group {group:?}: "
            )))?;
        }
        // Afterwards: a new owner takes some bits away.
        if let Some(mode) = self.mode.filter(|mode| file.mode().ok() != Some(*mode)) {
            file.set_mode(mode)
                .map_err(failed(format!("its file cannot have mode {mode:o}: ")))?;
        }
        Ok(())
    }

    /// Applies what is asked for by a new release, and says what is otherwise afterwards.
    pub(crate) fn apply_again(&self, owned: &OwnedPath, before: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self != before
            && let Err(err) = SocketFile::hold(owned).and_then(|file| self.change(&file))
        {
            differences.push(Difference::new("socket file", "a change", err));
        }
        let Ok(meta) = std::fs::symlink_metadata(&owned.path) else {
            return differences;
        };
        let mode = meta.mode() & 0o7777;
        if let Some(asked) = self.mode.filter(|asked| *asked != mode) {
            let (asked, mode) = (format!("{asked:o}"), format!("{mode:o}"));
            differences.push(Difference::new("mode", asked, mode));
        }
        for (option, asked, is) in [
            ("owner", self.user, meta.uid()),
            ("group", self.group, meta.gid()),
        ] {
            if let Some(asked) = asked.filter(|asked| *asked != is) {
                differences.push(Difference::new(option, asked, is));
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::{
            fd::AsFd,
            unix::{fs::PermissionsExt, net::UnixDatagram},
        },
        path::Path,
    };

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    /// Fails if there is a moment at which a new file may be used by more than was asked for.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_new_file_is_narrow_from_the_bind_on() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, group, narrow) in [(Some(0o640), None, 0o640), (None, Some(33), 0o600)] {
            let path = dir.path().join(format!("{narrow:o}"));
            let access = Access {
                mode,
                group,
                user: None,
            };
            let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
            access.before_bind(socket.as_fd()).unwrap();
            socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
            let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
            assert_eq!(mode & !narrow, 0, "{mode:o}");
        }
    }

    #[test]
    fn only_a_new_wish_changes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let owned = OwnedPath::of(&path).unwrap();
        assert_eq!(asked(0o660).apply_again(&owned, &Access::default()), []);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let differences = asked(0o660).apply_again(&owned, &asked(0o660));
        assert_eq!(differences[0].to_string(), "mode: asked for 660, found 600");
        assert_eq!(asked(0o666).apply_again(&owned, &asked(0o660)), []);
    }

    /// Fails if a mode is given by path: who may write in the directory would have it given to a
    /// file of his choice.
    #[test]
    fn what_takes_the_place_of_a_socket_file_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("s"), dir.path().join("precious"));
        let links: [fn(&Path, &Path) -> io::Result<()>; 2] = [
            |target, path| std::os::unix::fs::symlink(target, path),
            |target, path| std::fs::hard_link(target, path),
        ];
        let _other = UnixDatagram::bind(&target).unwrap();
        std::fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        for link in links {
            let _socket = UnixDatagram::bind(&path).unwrap();
            let owned = OwnedPath::of(&path).unwrap();
            // Moved, not removed: its inode must not be given to another.
            std::fs::rename(&path, dir.path().join("old")).unwrap();
            link(&target, &path).unwrap();
            asked(0o666).apply(&owned).unwrap_err();
            let differences = asked(0o666).apply_again(&owned, &Access::default());
            assert_eq!(differences[0].option(), "socket file");
            // Taken for the new one, since it was there when it was first looked at.
            let misled = OwnedPath::of(&path).unwrap();
            asked(0o666).apply(&misled).unwrap_err();
            let mode = std::fs::metadata(&target).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600);
            std::fs::remove_file(&path).unwrap();
        }
    }

    fn asked(mode: u32) -> Access {
        Access {
            mode: Some(mode),
            ..Access::default()
        }
    }
}
