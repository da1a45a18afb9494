//! How a socket comes to a program: it was inherited, or it is opened.

use std::{io, os::fd::OwnedFd, sync::Arc};

use super::{
    super::{
        difference::Difference,
        held::Held,
        open::{self, How, Opened, Target},
        options::SocketOptions,
        overlap::{self, Later},
        probe,
        record::{self, Record, SocketKind},
        spec::Spec,
    },
    Registry,
};
use crate::{
    error::{Error, Kind},
    upgrade::CheckedSocket,
};

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
    /// Finds the socket that was inherited for this address, or opens one.
    pub(crate) fn obtain(&mut self, wish: Wish<'_>) -> Result<Obtained, Error> {
        let name = self.reserve(wish.spec)?;
        let obtained = match self.claim(&name, wish) {
            Ok(None) if self.proven.is_some() => self.prove(&name, wish),
            Ok(None) => self.open(&name, wish),
            Ok(Some(claimed)) => Ok(claimed),
            Err(err) => Err(err),
        };
        let obtained = obtained.map_err(|err| {
            self.release(&name);
            let Spec { name, named, .. } = wish.spec;
            let place = match (wish.target, wish.target.address()) {
                (_, Some(address)) if *named => format!("{address}, named {name}"),
                (Target::Path(_) | Target::Abstract(_), Some(address)) => address.to_string(),
                // As it was written: a host by its name.
                _ => name.clone(),
            };
            let message = format!("cannot {} {place}", wish.kind.verb());
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

    fn prove(&mut self, name: &str, wish: Wish<'_>) -> io::Result<Obtained> {
        let Wish { kind, target, .. } = wish;
        let (fd, in_use) = probe::probe(kind, target)?;
        let address = target.address();
        let address = address.map_or_else(String::new, |address| address.to_string());
        let name = name.to_owned();
        let record = Record {
            name: name.clone(),
            kind,
            address: address.clone(),
            foreign: false,
            path: None,
            access: Default::default(),
        };
        self.proven.get_or_insert_default().push(CheckedSocket {
            name: name.clone(),
            address,
            kind: kind.word(),
            in_use,
        });
        Ok(Obtained {
            name,
            fd: fd.try_clone()?,
            held: Held::new(record, fd),
            differences: Vec::new(),
            later: false,
        })
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
}
