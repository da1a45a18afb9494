//! Every socket of a generation, by name, for the next one.
//!
//! Invariants:
//! 1. A name is given to at most one socket of this generation; a name that was reserved and whose
//!    socket could not be opened is free again.
//! 2. An inherited socket is claimed at most once.
//! 3. What is passed on is what this generation uses. The duplicate kept here shares the kernel's
//!    queue, so it must be closed in a plain stop: else clients would queue where nobody accepts.

use std::{collections::HashSet, io, os::fd::OwnedFd};

use super::{
    open::{self, Target},
    probe,
    record::{self, Record, SocketKind},
    spec::Spec,
    unix_path::OwnedPath,
};
use crate::{
    error::{Error, Kind},
    upgrade::CheckedSocket,
};

/// The sockets of one generation.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: HashSet<String>,
    inherited: Vec<(Record, OwnedFd)>,
    used: Vec<(Record, OwnedFd)>,
    closed: bool,
    /// In a check: what has been proven.
    proven: Option<Vec<CheckedSocket>>,
    // Both survive `close`, which comes before the end.
    opened_paths: Vec<OwnedPath>,
    claimed_paths: Vec<OwnedPath>,
    unused_paths: Vec<OwnedPath>,
}

impl Registry {
    /// From here on sockets are [proven](probe) and not opened.
    pub(crate) fn only_prove(&mut self) {
        self.proven = Some(Vec::new());
    }

    /// What has been proven so far.
    pub(crate) fn proven(&self) -> Vec<CheckedSocket> {
        self.proven.clone().unwrap_or_default()
    }

    fn prove(&mut self, name: &str, kind: SocketKind, target: &Target) -> io::Result<OwnedFd> {
        let (fd, in_use) = probe::probe(kind, target)?;
        let address = match target {
            Target::Ip(addrs) => addrs.first().map(ToString::to_string).unwrap_or_default(),
            Target::Path(path) => format!("unix:{}", path.display()),
            Target::Abstract(name) => format!("unix:@{name}"),
        };
        let name = name.to_owned();
        self.proven.get_or_insert_default().push(CheckedSocket {
            name,
            address,
            kind: kind.word(),
            in_use,
        });
        Ok(fd)
    }

    /// Adds what a predecessor, or another program, left.
    pub(crate) fn inherit(&mut self, sockets: Vec<(Record, OwnedFd)>) {
        self.inherited.extend(sockets);
    }

    /// Finds the socket that was inherited for this address, or opens one.
    pub(crate) fn obtain(
        &mut self,
        spec: &Spec,
        kind: SocketKind,
        target: &Target,
    ) -> Result<(String, SocketKind, OwnedFd), Error> {
        let name = self.reserve(spec)?;
        let obtained = match self.claim(&name, kind, target) {
            Ok(None) if self.proven.is_some() => {
                self.prove(&name, kind, target).map(|fd| (kind, fd))
            }
            Ok(None) => self.open(&name, kind, target),
            Ok(Some(claimed)) => Ok(claimed),
            Err(err) => Err(err),
        };
        match obtained {
            Ok((kind, fd)) => Ok((name, kind, fd)),
            Err(err) => {
                self.release(&name);
                let what = if kind == SocketKind::Udp {
                    "bind UDP to"
                } else {
                    "listen on"
                };
                let place = match target {
                    Target::Path(path) => format!("unix:{}", path.display()),
                    Target::Abstract(name) => format!("unix:@{name}"),
                    Target::Ip(_) => spec.name.clone(),
                };
                Err(Error::io(
                    Kind::Listen,
                    format!("cannot {what} {place}"),
                    err,
                ))
            }
        }
    }

    fn open(
        &mut self,
        name: &str,
        kind: SocketKind,
        target: &Target,
    ) -> io::Result<(SocketKind, OwnedFd)> {
        let (fd, path) = open::open(kind, target)?;
        let address = record::address(&fd)?.to_string();
        let duplicate = fd.try_clone()?;
        tracing::debug!(socket = name, address, "opened");
        let name = name.to_owned();
        self.opened_paths.extend(path.clone());
        self.keep(
            Record {
                name,
                kind,
                address,
                foreign: false,
                path,
            },
            fd,
        );
        Ok((kind, duplicate))
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
        let mut used = self.used.iter();
        used.find_map(|(record, _)| (record.name == name).then_some(record.address.as_str()))
    }

    /// Takes a reserved name back.
    pub(crate) fn release(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Finds an inherited socket: by name first, then by address.
    pub(crate) fn claim(
        &mut self,
        name: &str,
        kind: SocketKind,
        target: &Target,
    ) -> io::Result<Option<(SocketKind, OwnedFd)>> {
        let Some(index) = self.find(name, kind, target) else {
            return Ok(None);
        };
        let (mut record, fd) = self.inherited.swap_remove(index);
        tracing::debug!(socket = name, address = %record.address, was = %record.name, "inherited");
        let (kind, duplicate) = (record.kind, fd.try_clone()?);
        name.clone_into(&mut record.name);
        self.claimed_paths.extend(record.path.clone());
        self.keep(record, fd);
        Ok(Some((kind, duplicate)))
    }

    fn find(&self, name: &str, kind: SocketKind, target: &Target) -> Option<usize> {
        let udp = |kind| kind == SocketKind::Udp;
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
                    record.name == name && record.foreign && udp(record.kind) == udp(kind)
                })
            })
            .or_else(|| position(&|socket| !target.any_port() && fits(socket)))
    }

    /// Keeps a socket that this generation uses, for the next one.
    pub(crate) fn keep(&mut self, record: Record, fd: OwnedFd) {
        if !self.closed {
            self.used.push((record, fd));
        }
    }

    /// Closes what was inherited and nobody asked for, and returns how many. The files stay until
    /// [`remove_unused_paths`](Self::remove_unused_paths).
    pub(crate) fn close_unused(&mut self) -> usize {
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
        let socket = |(record, _): &(Record, OwnedFd)| crate::status::Socket {
            name: record.name.clone(),
            address: record.address.clone(),
            kind: record.kind.word(),
        };
        self.used.iter().map(socket).collect()
    }

    /// Duplicates of everything that a successor gets.
    pub(crate) fn for_successor(&self) -> io::Result<Vec<(Record, OwnedFd)>> {
        self.used
            .iter()
            .map(|(record, fd)| Ok((record.clone(), fd.try_clone()?)))
            .collect()
    }

    /// Closes our duplicates, those to come as well: nobody inherits them.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.used.clear();
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
mod tests {
    use super::*;

    async fn target(text: &str) -> (Spec, Target) {
        let spec = Spec::parse(text).unwrap();
        let target = Target::resolve(&spec, std::path::Path::new("/"))
            .await
            .unwrap();
        (spec, target)
    }

    async fn opened(text: &str, kind: SocketKind, foreign: bool) -> (Record, OwnedFd) {
        let (spec, target) = target(text).await;
        let (fd, path) = open::open(kind, &target).unwrap();
        let address = record::address(&fd).unwrap().to_string();
        (
            Record {
                name: spec.name,
                kind,
                address,
                foreign,
                path,
            },
            fd,
        )
    }

    async fn found(registry: &mut Registry, text: &str, kind: SocketKind) -> Option<String> {
        let (spec, target) = target(text).await;
        let name = registry.reserve(&spec).unwrap();
        let (_, fd) = registry.claim(&name, kind, &target).unwrap()?;
        Some(record::address(&fd).unwrap().to_string())
    }

    #[tokio::test]
    async fn port_zero_matches_by_name_only() {
        use SocketKind::{Tcp, Udp};
        let mut registry = Registry::default();
        let socket = opened("127.0.0.1:0", Tcp, false).await;
        let address = socket.0.address.clone();
        registry.inherit(vec![socket]);
        assert_eq!(found(&mut registry, "other=127.0.0.1:0", Tcp).await, None);
        assert_eq!(found(&mut registry, "udp=127.0.0.1:0", Udp).await, None);
        assert_eq!(found(&mut registry, "[::1]:0", Tcp).await, None);
        assert_eq!(
            found(&mut registry, "127.0.0.1:0", Tcp).await,
            Some(address)
        );
        assert_eq!(
            found(&mut registry, "127.0.0.1:0", Tcp).await,
            None,
            "only once"
        );
    }

    #[tokio::test]
    async fn a_renamed_address_is_found_and_a_changed_one_is_not() {
        use SocketKind::Tcp;
        let mut registry = Registry::default();
        let (record, fd) = opened("web=127.0.0.1:0", Tcp, false).await;
        let address = record.address.clone();
        registry.inherit(vec![(record, fd)]);
        assert_eq!(
            found(&mut registry, "web=127.0.0.1:1", Tcp).await,
            None,
            "another port"
        );
        let wildcard = address.replace("127.0.0.1", "0.0.0.0");
        assert_eq!(
            found(&mut registry, &wildcard, Tcp).await,
            None,
            "another host"
        );
        let renamed = address.replace("127.0.0.1", "api=localhost");
        assert_eq!(found(&mut registry, &renamed, Tcp).await, Some(address));
        assert_eq!(registry.for_successor().unwrap()[0].0.name, "api");
    }

    #[tokio::test]
    async fn an_administrators_name_goes_before_the_address() {
        let mut registry = Registry::default();
        let socket = opened("web=127.0.0.1:0", SocketKind::Tcp, true).await;
        let address = socket.0.address.clone();
        registry.inherit(vec![socket]);
        let found = found(&mut registry, "web=0.0.0.0:80", SocketKind::Tcp).await;
        assert_eq!(found, Some(address));
    }

    #[tokio::test]
    async fn names_are_numbered_or_refused() {
        let mut registry = Registry::default();
        let (spec, _) = target("127.0.0.1:0").await;
        assert_eq!(registry.reserve(&spec).unwrap(), "127.0.0.1:0");
        assert_eq!(registry.reserve(&spec).unwrap(), "127.0.0.1:0#2");
        registry.release("127.0.0.1:0#2");
        assert_eq!(registry.reserve(&spec).unwrap(), "127.0.0.1:0#2");
        let (spec, _) = target("a=127.0.0.1:0").await;
        registry.reserve(&spec).unwrap();
        assert!(registry.reserve(&spec).unwrap_err().is_address());
    }

    #[tokio::test]
    async fn an_unused_socket_file_goes_with_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut registry = Registry::default();
        let text = format!("unix:{}", path.display());
        registry.inherit(vec![opened(&text, SocketKind::Unix, false).await]);
        assert_eq!(registry.close_unused(), 1);
        assert!(path.exists(), "the predecessor may come back");
        registry.remove_unused_paths();
        assert!(!path.exists());
    }
}
