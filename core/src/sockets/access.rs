//! Who may use the file of a Unix socket.
//!
//! A file that was inherited may have been changed by a person since. So what the program asks for
//! is compared with what the program asked for the last time, and not with the file: only a new
//! wish changes the file.

use std::{
    fs::Permissions,
    io,
    os::{
        fd::BorrowedFd,
        unix::fs::{MetadataExt, PermissionsExt, chown},
    },
    path::Path,
};

use rustix::fs::{Mode, fchmod};
use serde::{Deserialize, Serialize};

use super::difference::Difference;

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
    /// [`apply`](Self::apply) at which more is allowed than was asked for.
    pub(crate) fn before_bind(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // With an owner to come, nobody but us until then.
        let mode = match (self.mode, self.user.or(self.group)) {
            (None, None) => return Ok(()),
            (_, Some(_)) => 0o600,
            (Some(mode), None) => mode,
        };
        Ok(fchmod(socket, Mode::from_raw_mode(mode as _))?)
    }

    /// Gives a file its owner and its permissions.
    ///
    /// # Errors
    ///
    /// With what was tried, in words.
    pub(crate) fn apply(&self, path: &Path) -> io::Result<()> {
        let failed = |what: String| {
            move |err: io::Error| io::Error::new(err.kind(), what + &err.to_string())
        };
        if self.user.or(self.group).is_some() {
            let (user, group) = (self.user, self.group);
            chown(path, user, group).map_err(failed(format!(
                "its file cannot be given to user {user:?} and group {group:?}: "
            )))?;
        }
        // Afterwards: a new owner takes some bits away.
        if let Some(mode) = self.mode {
            std::fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(failed(format!("its file cannot have mode {mode:o}: ")))?;
        }
        Ok(())
    }

    /// Applies what is asked for by a new release, and says what is otherwise afterwards.
    pub(crate) fn apply_again(&self, path: &Path, before: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self != before
            && let Err(err) = self.apply(path)
        {
            differences.push(Difference::new("socket file", "a change", err));
        }
        let Ok(meta) = std::fs::symlink_metadata(path) else {
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
    use std::os::fd::AsFd;

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
        let _socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let asked = |mode| Access {
            mode: Some(mode),
            ..Access::default()
        };
        assert_eq!(asked(0o660).apply_again(&path, &Access::default()), []);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let differences = asked(0o660).apply_again(&path, &asked(0o660));
        assert_eq!(differences[0].to_string(), "mode: asked for 660, found 600");
        assert_eq!(asked(0o666).apply_again(&path, &asked(0o660)), []);
    }
}
