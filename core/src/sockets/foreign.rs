//! Sockets that another program left us, in that program's own dialect.
//!
//! systemd (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`), einhorn and socketmaster
//! (`EINHORN_FD_COUNT` and `EINHORN_FD_<i>`, `EINHORN_FDS`) and Server::Starter
//! (`SERVER_STARTER_PORT`). [`parse`] reads the variables and touches nothing; [`adopt`] looks at
//! the descriptors. The environment itself is never changed.

use std::{collections::HashSet, ffi::OsString, os::fd::OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{
    record::{self, Record},
    unix_path::OwnedPath,
};
use crate::{
    accept::Address,
    error::{Error, Kind},
    kernel, sys,
    systemd::{name, store},
};

/// The first descriptor that systemd passes.
const LISTEN_FDS_START: i32 = 3;
/// More than anybody passes: a typing error, not a wish.
const MOST: i32 = 1 << 16;

/// A descriptor that the environment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) fd: i32,
    /// What its giver calls it, if anything.
    pub(crate) name: Option<String>,
    pub(crate) variable: &'static str,
    /// The service opened it, and its manager kept it. With its file, by device and inode.
    pub(crate) stored: Option<Option<(u64, u64)>>,
}

/// Reads the variables. `pid` is ours and `parent` our parent's.
pub(crate) fn parse(
    env: impl Fn(&str) -> Option<OsString>,
    pid: u32,
    parent: u32,
) -> Result<Vec<Named>, Error> {
    let text = |variable: &str| match env(variable).map(OsString::into_string) {
        None => Ok(None),
        // Set but empty is how some programs unset a variable.
        Some(Ok(text)) if text.is_empty() => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(text)) => Err(bad(variable, &text.to_string_lossy(), "it is not UTF-8")),
    };
    let mut found = Vec::new();
    systemd(&text, pid, &mut found)?;
    einhorn(&text, parent, &mut found)?;
    server_starter(&text, &mut found)?;
    // Two dialects may name one descriptor: the first has it.
    let mut seen = HashSet::new();
    found.retain(|named| seen.insert(named.fd));
    Ok(found)
}

type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Error>;

fn systemd(text: Lookup<'_>, pid: u32, found: &mut Vec<Named>) -> Result<(), Error> {
    let Some(owner) = text("LISTEN_PID")? else {
        return Ok(());
    };
    let number: u32 = owner
        .parse()
        .map_err(|_| bad("LISTEN_PID", &owner, "it is not a process id"))?;
    if number != pid {
        return Ok(());
    }
    let Some(count) = text("LISTEN_FDS")? else {
        return Ok(());
    };
    let number = count_of("LISTEN_FDS", &count)?;
    let names: Vec<Option<String>> = match text("LISTEN_FDNAMES")? {
        None => vec![None; number as usize],
        Some(names) => {
            let list: Vec<_> = names
                .split(':')
                // What systemd says when it has no name.
                .map(|name| (!matches!(name, "" | "unknown")).then(|| name.to_owned()))
                .collect();
            if list.len() != number as usize {
                let why = format!("it holds {} names for {number} descriptors", list.len());
                return Err(bad("LISTEN_FDNAMES", &names, &why));
            }
            list
        }
    };
    for (fd, name) in (LISTEN_FDS_START..).zip(names) {
        let (name, stored) = match name.as_deref().and_then(name::decode) {
            Some((name, file)) => (Some(name), Some(file)),
            None => (name, None),
        };
        found.push(Named {
            fd,
            name,
            variable: "LISTEN_FDS",
            stored,
        });
    }
    Ok(())
}

fn einhorn(text: Lookup<'_>, parent: u32, found: &mut Vec<Named>) -> Result<(), Error> {
    if let Some(master) = text("EINHORN_MASTER_PID")? {
        let number: u32 = master
            .parse()
            .map_err(|_| bad("EINHORN_MASTER_PID", &master, "it is not a process id"))?;
        // Meant for our parent, which einhorn started.
        if number != parent {
            return Ok(());
        }
    }
    if let Some(count) = text("EINHORN_FD_COUNT")? {
        for index in 0..count_of("EINHORN_FD_COUNT", &count)? {
            let variable = format!("EINHORN_FD_{index}");
            let value = text(&variable)?.ok_or_else(|| {
                bad(
                    "EINHORN_FD_COUNT",
                    &count,
                    &format!("{variable} is not set"),
                )
            })?;
            let fd = descriptor(&variable, &value, &value)?;
            found.push(Named {
                fd,
                name: None,
                variable: "EINHORN_FD_COUNT",
                stored: None,
            });
        }
    }
    if let Some(list) = text("EINHORN_FDS")? {
        for item in list.split_ascii_whitespace() {
            let fd = descriptor("EINHORN_FDS", &list, item)?;
            found.push(Named {
                fd,
                name: None,
                variable: "EINHORN_FDS",
                stored: None,
            });
        }
    }
    Ok(())
}

fn server_starter(text: Lookup<'_>, found: &mut Vec<Named>) -> Result<(), Error> {
    const VARIABLE: &str = "SERVER_STARTER_PORT";
    let Some(list) = text(VARIABLE)? else {
        return Ok(());
    };
    for item in list.split(';') {
        let (place, fd) = item
            .rsplit_once('=')
            .ok_or_else(|| bad(VARIABLE, &list, &format!("{item:?} has no =descriptor")))?;
        let fd = descriptor(VARIABLE, &list, fd)?;
        // In our spelling, so that asking for the same address finds it.
        let name = if place.contains('/') || place.is_empty() {
            format!("unix:{place}")
        } else if place.contains(':') {
            place.to_owned()
        } else {
            format!("0.0.0.0:{place}")
        };
        found.push(Named {
            fd,
            name: Some(name),
            variable: VARIABLE,
            stored: None,
        });
    }
    Ok(())
}

fn count_of(variable: &str, value: &str) -> Result<i32, Error> {
    match value.parse() {
        Ok(count @ 0..MOST) => Ok(count),
        _ => Err(bad(variable, value, "it is not a number of descriptors")),
    }
}

fn descriptor(variable: &str, value: &str, item: &str) -> Result<i32, Error> {
    match item.parse() {
        Ok(fd @ 0..) => Ok(fd),
        _ => Err(bad(
            variable,
            value,
            &format!("{item:?} is not a descriptor"),
        )),
    }
}

fn bad(variable: &str, value: &str, why: &str) -> Error {
    let message = format!("cannot inherit sockets: {variable}={value:?}: {why}");
    Error::new(Kind::Inherited, message)
}

/// What was passed to this process.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    pub(crate) sockets: Vec<(Record, OwnedFd)>,
    /// What the service manager keeps to no use, by the names that it has there.
    pub(crate) useless: Vec<String>,
}

/// Takes the descriptors, each once in the life of this process. Of one socket that comes twice the
/// first is taken.
///
/// # Errors
///
/// If one is not what it should be. What the service manager kept of ours is left out then: the
/// service did without it before, and would never start again if it could not now.
pub(crate) fn adopt(found: Vec<Named>) -> Result<Adopted, Error> {
    let mut adopted = Adopted::default();
    for named in found {
        let (number, variable) = (named.fd, named.variable);
        let stored = match (&named.name, named.stored) {
            (Some(name), Some(file)) => name::encode(name, file),
            _ => None,
        };
        let (record, fd) = match adopt_one(named) {
            Ok(one) => one,
            Err(why) if stored.is_some() => {
                tracing::warn!(
                    number,
                    variable,
                    why,
                    "a descriptor that was kept is of no use"
                );
                adopted.useless.extend(stored);
                // Takes it, and lets it go.
                let _ = sys::adopt(number, |_| Ok(()));
                continue;
            }
            Err(why) => {
                let message = format!("cannot inherit descriptor {number} of {variable}: it {why}");
                return Err(Error::new(Kind::Inherited, message));
            }
        };
        let identity = store::identity(&fd);
        let twice = adopted
            .sockets
            .iter()
            .find(|(_, other)| identity.is_some() && store::identity(other) == identity);
        match twice {
            Some((other, _)) => {
                let (name, other) = (&record.name, &other.name);
                tracing::debug!(number, variable, name, other, "a socket was passed twice");
                adopted.useless.extend(stored);
            }
            None => adopted.sockets.push((record, fd)),
        }
    }
    Ok(adopted)
}

fn adopt_one(named: Named) -> Result<(Record, OwnedFd), String> {
    let (fd, kind) = sys::adopt(named.fd, record::inspect)?;
    if named.stored.is_some() && kernel::is_nowhere(&fd) {
        return Err("was given up by an older generation".to_owned());
    }
    // Shared with whoever holds it too, and a blocking accept would stop the runtime.
    fcntl_getfl(&fd)
        .and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK))
        .map_err(|err| format!("cannot be made nonblocking: {err}"))?;
    let address = record::address(&fd).map_err(|err| format!("has no address: {err}"))?;
    let path = match (&address, named.stored.flatten()) {
        (Address::Unix(Some(path)), Some((dev, ino))) => Some(OwnedPath {
            path: path.clone(),
            dev,
            ino,
        }),
        _ => None,
    };
    let address = address.to_string();
    let record = Record {
        name: named.name.unwrap_or_else(|| address.clone()),
        kind,
        address,
        foreign: named.stored.is_none(),
        path,
        access: Default::default(),
    };
    Ok((record, fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 77;
    const PARENT: u32 = 7;

    fn parsed(env: &[(&str, &str)]) -> Result<Vec<(i32, Option<String>)>, String> {
        let env = |variable: &str| {
            env.iter()
                .find(|(name, _)| *name == variable)
                .map(|(_, value)| value.into())
        };
        parse(env, PID, PARENT)
            .map(|found| {
                found
                    .into_iter()
                    .map(|named| (named.fd, named.name))
                    .collect()
            })
            .map_err(|err| err.to_string())
    }

    fn named(list: &[(i32, &str)]) -> Vec<(i32, Option<String>)> {
        list.iter()
            .map(|(fd, name)| (*fd, (!name.is_empty()).then(|| (*name).to_owned())))
            .collect()
    }

    #[test]
    fn reads_each_dialect() {
        assert_eq!(parsed(&[]), Ok(vec![]));
        let systemd = [("LISTEN_PID", "77"), ("LISTEN_FDS", "3")];
        assert_eq!(parsed(&systemd), Ok(named(&[(3, ""), (4, ""), (5, "")])));
        let with_names = [
            systemd[0],
            systemd[1],
            ("LISTEN_FDNAMES", "web:unknown:web"),
        ];
        assert_eq!(
            parsed(&with_names),
            Ok(named(&[(3, "web"), (4, ""), (5, "web")]))
        );
        let einhorn = [
            ("EINHORN_MASTER_PID", "7"),
            ("EINHORN_FD_COUNT", "2"),
            ("EINHORN_FD_0", "6"),
            ("EINHORN_FD_1", "9"),
            ("EINHORN_FDS", "6 9"),
        ];
        assert_eq!(parsed(&einhorn), Ok(named(&[(6, ""), (9, "")])));
        assert_eq!(
            parsed(&[("EINHORN_FDS", "3")]),
            Ok(named(&[(3, "")])),
            "as socketmaster"
        );
        let starter = "127.0.0.1:80=4;81=5;[::1]:82=6;/tmp/a=b.sock=7";
        assert_eq!(
            parsed(&[("SERVER_STARTER_PORT", starter)]),
            Ok(named(&[
                (4, "127.0.0.1:80"),
                (5, "0.0.0.0:81"),
                (6, "[::1]:82"),
                (7, "unix:/tmp/a=b.sock")
            ]))
        );
    }

    #[test]
    fn what_is_meant_for_another_is_left_alone() {
        for env in [
            &[("LISTEN_PID", "78"), ("LISTEN_FDS", "garbage")][..],
            &[("LISTEN_FDS", "1")],
            &[("EINHORN_MASTER_PID", "8"), ("EINHORN_FDS", "3")],
            &[("SERVER_STARTER_PORT", "")],
        ] {
            assert_eq!(parsed(env), Ok(vec![]), "{env:?}");
        }
    }

    #[test]
    fn garbage_is_named() {
        for (variable, value) in [
            ("LISTEN_PID", "me"),
            ("LISTEN_FDS", "-1"),
            ("LISTEN_FDS", "99999999999"),
            ("LISTEN_FDNAMES", "one:two:three"),
            ("EINHORN_MASTER_PID", "x"),
            ("EINHORN_FD_COUNT", "1"),
            ("EINHORN_FDS", "3,4"),
            ("SERVER_STARTER_PORT", "127.0.0.1:80"),
            ("SERVER_STARTER_PORT", "80=x"),
            ("SERVER_STARTER_PORT", "80=-1"),
        ] {
            // The later of two equal names would be ignored, so what is tested goes first.
            let env = [(variable, value), ("LISTEN_PID", "77"), ("LISTEN_FDS", "2")];
            let err = parsed(&env).unwrap_err();
            assert!(
                err.contains(variable) && err.contains(value),
                "{variable}={value}: {err}"
            );
        }
    }
}
