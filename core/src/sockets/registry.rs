//! Every socket of a generation, by name, for the next one.
//!
//! Invariants:
//! 1. A name is given to at most one socket of this generation; a name that was reserved and whose
//!    socket could not be opened is free again.
//! 2. An inherited socket is claimed at most once.
//! 3. What cannot be opened before the commit fails before the commit.
//! 4. What is passed on is what this generation uses. The duplicate kept here shares the kernel's
//!    queue, so it must be closed in a plain stop: else clients would queue where nobody accepts.

mod claim;
mod obtain;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use super::{
    held::{Held, Passing},
    inherited::Inherited,
    kept::Kept,
    overlap::Later,
    record::Record,
    spec::Spec,
    unix_path::OwnedPath,
};
use crate::{
    Graceful,
    error::{Error, Kind},
    systemd::{name, store},
    upgrade::CheckedSocket,
};

pub(crate) use self::obtain::{Obtained, Wish};

/// The sockets of one generation.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: HashSet<String>,
    inherited: Inherited,
    used: Vec<Arc<Held>>,
    later: Vec<Later>,
    /// Files and connections, which the program keeps.
    pub(crate) kept: Kept,
    closed: bool,
    /// What the service manager keeps of ours.
    pub(crate) ledger: store::Ledger,
    /// In a check: what has been proven.
    proven: Option<Vec<CheckedSocket>>,
    // Both survive `close`, which comes before the end.
    opened_paths: Vec<OwnedPath>,
    claimed_paths: Vec<OwnedPath>,
    unused_paths: Vec<OwnedPath>,
    graceful: Option<Graceful>,
    probation: Duration,
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

    /// From here on sockets are [proven](super::probe) and not opened.
    pub(crate) fn only_prove(&mut self) {
        self.proven = Some(Vec::new());
    }

    /// What has been proven so far.
    pub(crate) fn proven(&self) -> Vec<CheckedSocket> {
        self.proven.clone().unwrap_or_default()
    }

    /// Adds what a predecessor, or another program, left.
    pub(crate) fn inherit(&mut self, sockets: Vec<(Record, OwnedFd)>) {
        for (record, fd) in sockets {
            if record.kind.is_kept() {
                self.kept.inherit(record, fd);
            } else {
                self.inherited.push(record, fd);
            }
        }
    }

    /// Notes which of the sockets that were left the service manager may keep. It may also keep those
    /// that a predecessor opened: a name too many does no harm.
    pub(crate) fn note_stored(&mut self, sockets: &[(Record, OwnedFd)]) {
        let sockets = sockets.iter().filter(|(record, _)| !record.kind.is_kept());
        for (record, fd) in sockets {
            if let Some(name) = name_in_store(record) {
                self.ledger.note(name, store::identity(fd));
            }
        }
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
        let found = self.find(name, wish.kind, wish.target);
        let Some((mut record, fd)) = found.and_then(|place| self.inherited.take(place)) else {
            return Ok(None);
        };
        tracing::debug!(socket = name, address = %record.address, was = %record.name, "inherited");
        let duplicate = fd.try_clone()?;
        name.clone_into(&mut record.name);
        let mut differences = wish.options.apply_again(fd.as_fd(), record.kind);
        if let Some(path) = &record.path {
            let access = wish.options.access();
            differences.extend(access.apply_again(path, &record.access));
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
        for (record, _) in unused.iter() {
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
        let socket = |record: &Record| crate::status::Socket {
            name: record.name.clone(),
            address: record.address.clone(),
            kind: record.kind.word(),
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

    /// What the service manager should keep: what this service opened itself, and no more than it
    /// has room for.
    pub(crate) fn to_store(&self, room: usize) -> io::Result<Vec<store::Kept>> {
        let mut kept = Vec::new();
        for held in &self.used {
            let record = &held.record;
            let Some(name) = name_in_store(record) else {
                continue;
            };
            if kept.len() == room {
                let socket = &record.name;
                tracing::warn!(
                    socket,
                    room,
                    "the service manager has no room for this socket; raise FileDescriptorStoreMax="
                );
                continue;
            }
            kept.push(store::Kept {
                name,
                fd: held.as_fd().try_clone_to_owned()?,
                polled: record.kind.listens(),
            });
        }
        Ok(kept)
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

/// The name under which the service manager keeps a socket; `None` if it does not.
fn name_in_store(record: &Record) -> Option<String> {
    // What another program opened it holds as well, and passes again.
    if record.foreign {
        return None;
    }
    let file = record.path.as_ref().map(|path| (path.dev, path.ino));
    let name = name::encode(&record.name, file);
    if name.is_none() {
        let socket = &record.name;
        tracing::debug!(socket, "its name is too long for the service manager");
    }
    name
}
