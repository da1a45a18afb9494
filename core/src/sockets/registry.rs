//! Every socket of a generation, by name, for the next one.
//!
//! Invariants:
//! 1. A name is given to at most one socket of this generation; a name that was reserved and whose
//!    socket could not be opened is free again.
//! 2. An inherited socket is claimed at most once.
//! 3. What cannot be opened before the commit fails before the commit.
//! 4. What is passed on is what this generation uses. The duplicate kept here shares the kernel's
//!    queue, so it must be closed in a plain stop: else clients would queue where nobody accepts.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use super::{
    held::{Held, Passing},
    kept::Kept,
    open::{self, How, Opened, Target},
    options::{Difference, SocketOptions},
    overlap::{self, Later},
    record::{self, Record, SocketKind},
    spec::Spec,
    unix_path::OwnedPath,
};
use crate::{
    Graceful,
    error::{Error, Kind},
};

/// The sockets of one generation.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: HashSet<String>,
    inherited: Vec<(Record, OwnedFd)>,
    used: Vec<Arc<Held>>,
    later: Vec<Later>,
    /// Files and connections, which the program keeps.
    pub(crate) kept: Kept,
    closed: bool,
    // Both survive `close`, which comes before the end.
    opened_paths: Vec<OwnedPath>,
    claimed_paths: Vec<OwnedPath>,
    unused_paths: Vec<OwnedPath>,
    graceful: Option<Graceful>,
    probation: Duration,
}

/// What a socket is asked to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) kind: SocketKind,
    pub(crate) target: &'a Target,
    pub(crate) options: &'a SocketOptions,
}

/// A socket for the program.
#[derive(Debug)]
pub(crate) struct Obtained {
    pub(crate) name: String,
    pub(crate) fd: OwnedFd,
    pub(crate) held: Arc<Held>,
    pub(crate) differences: Vec<Difference>,
    /// It is a listener, and listens from the commit on.
    pub(crate) later: bool,
}

impl Registry {
    /// For the drain of this token, and so long after a commit a predecessor may come back.
    pub(crate) fn new(graceful: Graceful, probation: Duration) -> Self {
        Self {
            graceful: Some(graceful),
            probation,
            ..Self::default()
        }
    }

    /// Adds what a predecessor, or another program, left.
    pub(crate) fn inherit(&mut self, sockets: Vec<(Record, OwnedFd)>) {
        for (record, fd) in sockets {
            if record.kind.is_kept() {
                self.kept.inherit(record, fd);
            } else {
                self.inherited.push((record, fd));
            }
        }
    }

    /// Finds the socket that was inherited for this address, or opens one.
    pub(crate) fn obtain(&mut self, wish: Wish<'_>) -> Result<Obtained, Error> {
        let name = self.reserve(wish.spec)?;
        let obtained = match self.claim(&name, wish) {
            Ok(None) => self.open(&name, wish),
            Ok(Some(claimed)) => Ok(claimed),
            Err(err) => Err(err),
        };
        let obtained = obtained.map_err(|err| {
            self.release(&name);
            let place = match wish.target {
                Target::Path(path) => format!("unix:{}", path.display()),
                Target::Abstract(name) => format!("unix:@{name}"),
                Target::Ip(_) => wish.spec.name.clone(),
            };
            let mut message = format!("cannot {} {place}", wish.kind.verb());
            if rustix::io::Errno::from_io_error(&err) == Some(rustix::io::Errno::MFILE) {
                message += ": raise the limit on open files (ulimit -n, LimitNOFILE=)";
            }
            Error::io(Kind::Listen, message, err)
        })?;
        for difference in &obtained.differences {
            let (option, asked, found) =
                (difference.option(), difference.asked(), difference.found());
            tracing::warn!(
                socket = name,
                option,
                asked,
                found,
                "a socket is not as it was asked to be"
            );
        }
        Ok(obtained)
    }

    fn open(&mut self, name: &str, wish: Wish<'_>) -> io::Result<Obtained> {
        let Wish {
            kind,
            target,
            options,
            ..
        } = wish;
        let mut how = How {
            kind,
            options,
            beside: false,
        };
        // Its port is the name's, although its host has changed.
        let same_port = self
            .inherited
            .iter()
            .filter(|(record, _)| record.name == name && record.kind == kind)
            .find_map(|(_, fd)| target.with_port_of(&record::address(fd).ok()?));
        let beside = |target: &Target, how: &mut How<'_>| {
            let opened = open::open(*how, target);
            match opened {
                Err(err) if err.kind() == io::ErrorKind::AddrInUse => {
                    how.beside = true;
                    overlap::open(*how, target, &self.inherited, err)
                }
                other => other.map(|opened| (opened, Vec::new())),
            }
        };
        let opened = match &same_port {
            Some(same) => beside(same, &mut how).or_else(|_| {
                how.beside = false;
                beside(target, &mut how)
            }),
            None => beside(target, &mut how),
        };
        let (opened, rivals) = opened?;
        let Opened {
            fd,
            path,
            differences,
        } = opened;
        let address = record::address(&fd)?.to_string();
        let duplicate = fd.try_clone()?;
        tracing::debug!(socket = name, address, "opened");
        self.opened_paths.extend(path.clone());
        let record = Record {
            name: name.to_owned(),
            kind,
            address,
            foreign: false,
            path,
            access: options.access(),
        };
        let held = self.hold(record, fd);
        let later = how.beside && kind.listens();
        if !rivals.is_empty() {
            self.later.push(Later {
                socket: Arc::clone(&held),
                rivals,
                queue: later.then(|| options.queue()),
            });
        }
        Ok(Obtained {
            name: name.to_owned(),
            fd: duplicate,
            held,
            differences,
            later,
        })
    }

    /// Gives a socket its name: the user's, or the text of its address, numbered from the second.
    pub(crate) fn reserve(&mut self, spec: &Spec) -> Result<String, Error> {
        if spec.named && self.names.contains(&spec.name) {
            let name = &spec.name;
            let message = format!("a socket is named {name:?} already; name this one otherwise");
            return Err(Error::new(Kind::Address, message));
        }
        let mut name = spec.name.clone();
        let mut number = 1;
        while self.names.contains(&name) {
            number += 1;
            name = format!("{}#{number}", spec.name);
        }
        self.names.insert(name.clone());
        Ok(name)
    }

    /// The address of a socket in use.
    pub(crate) fn address(&self, name: &str) -> Option<&str> {
        let mut records = self.used.iter().map(|held| &held.record);
        records.find_map(|record| (record.name == name).then_some(record.address.as_str()))
    }

    /// Takes a reserved name back.
    pub(crate) fn release(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Finds an inherited socket: by name first, then by address.
    pub(crate) fn claim(&mut self, name: &str, wish: Wish<'_>) -> io::Result<Option<Obtained>> {
        let Some(index) = self.find(name, wish.kind, wish.target) else {
            return Ok(None);
        };
        let (mut record, fd) = self.inherited.swap_remove(index);
        tracing::debug!(socket = name, address = %record.address, was = %record.name, "inherited");
        let duplicate = fd.try_clone()?;
        name.clone_into(&mut record.name);
        let mut differences = wish.options.apply_again(fd.as_fd(), record.kind);
        if let Some(path) = &record.path {
            let access = wish.options.access();
            differences.extend(access.apply_again(&path.path, &record.access));
            record.access = access;
        }
        self.claimed_paths.extend(record.path.clone());
        Ok(Some(Obtained {
            name: name.to_owned(),
            fd: duplicate,
            held: self.hold(record, fd),
            differences,
            later: false,
        }))
    }

    fn find(&self, name: &str, kind: SocketKind, target: &Target) -> Option<usize> {
        let fits = |(record, fd): &(Record, OwnedFd)| {
            let current = record.path.as_ref().is_none_or(OwnedPath::is_current);
            record.kind == kind
                && current
                && record::address(fd).is_ok_and(|bound| target.accepts(&bound))
        };
        let position =
            |test: &dyn Fn(&(Record, OwnedFd)) -> bool| self.inherited.iter().position(test);
        position(&|socket| socket.0.name == name && fits(socket))
            // The administrator named it, so its address is the administrator's too.
            .or_else(|| {
                position(&|(record, _)| {
                    // Of TCP and Unix streams it may be either.
                    let alike = match kind {
                        SocketKind::Tcp | SocketKind::Unix => {
                            matches!(record.kind, SocketKind::Tcp | SocketKind::Unix)
                        }
                        _ => record.kind == kind,
                    };
                    record.name == name && record.foreign && alike
                })
            })
            .or_else(|| position(&|socket| !target.any_port() && fits(socket)))
    }

    /// Holds a socket that this generation uses, for the next one.
    fn hold(&mut self, record: Record, fd: OwnedFd) -> Arc<Held> {
        let held = Held::new(record, fd);
        if !self.closed {
            self.used.push(Arc::clone(&held));
        }
        held
    }

    /// The names of inherited sockets that nobody has asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let names = self.inherited.iter().map(|(record, _)| record.name.clone());
        names.collect()
    }

    /// Listens where that had to wait until the predecessor lets go. After the commit.
    ///
    /// # Errors
    ///
    /// With the name of the socket on which it is impossible.
    pub(crate) fn listen_later(&mut self) -> Result<(), Error> {
        self.later.drain(..).try_for_each(Later::finish)
    }

    /// Closes what was inherited and nobody asked for, and returns how many. The files stay until
    /// [`remove_unused_paths`](Self::remove_unused_paths).
    pub(crate) fn close_unused(&mut self) -> usize {
        self.kept.close_unused();
        let unused = std::mem::take(&mut self.inherited);
        for (record, _) in &unused {
            if record.foreign {
                let (name, address) = (&record.name, &record.address);
                tracing::warn!(%name, %address, "a socket was passed to us that nothing listens on; closed");
            } else {
                tracing::info!(name = %record.name, address = %record.address, "closed an inherited socket that is not used any more");
            }
            self.unused_paths.extend(record.path.clone());
        }
        unused.len()
    }

    /// How many sockets were inherited and are not claimed yet.
    pub(crate) fn inherited(&self) -> usize {
        self.inherited.len()
    }

    /// The sockets that this generation uses, for people.
    pub(crate) fn in_use(&self) -> Vec<crate::status::Socket> {
        let socket = |record: &Record| {
            let kind = serde_json::to_value(record.kind).ok();
            crate::status::Socket {
                name: record.name.clone(),
                address: record.address.clone(),
                kind: kind
                    .and_then(|kind| Some(kind.as_str()?.to_owned()))
                    .unwrap_or_default(),
            }
        };
        self.used.iter().map(|held| socket(&held.record)).collect()
    }

    /// Everything that a successor gets, with what is kept elsewhere.
    pub(crate) fn for_successor(
        &self,
        elsewhere: impl IntoIterator<Item = Arc<Held>>,
    ) -> io::Result<Arc<Passing>> {
        let mut all = self.used.clone();
        all.extend(elsewhere);
        all.extend(self.kept.for_successor()?);
        let passing = Passing::new(all, self.graceful.clone(), self.probation);
        Ok(Arc::new(passing))
    }

    /// Closes our duplicates, those to come as well: nobody inherits them.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.used.clear();
        self.kept.close();
    }

    /// Removes the files of inherited sockets that are not used. Once the predecessor cannot come
    /// back to them.
    pub(crate) fn remove_unused_paths(&mut self) {
        self.unused_paths.drain(..).for_each(|path| path.remove());
    }

    /// Removes the files of the sockets that this process opened. Their listeners end with it.
    pub(crate) fn remove_opened_paths(&mut self) {
        self.opened_paths.drain(..).for_each(|path| path.remove());
    }

    /// Removes the files of the sockets that were inherited and used. For the last generation.
    pub(crate) fn remove_claimed_paths(&mut self) {
        self.claimed_paths.drain(..).for_each(|path| path.remove());
    }
}

#[cfg(test)]
mod tests;
