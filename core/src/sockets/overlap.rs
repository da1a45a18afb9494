//! An address that a new release widens (`127.0.0.1:80` to `0.0.0.0:80`) or narrows.
//!
//! Two listening TCP sockets may share a port only if their addresses differ and neither is the
//! wildcard, or if both have `SO_REUSEPORT` and one user. The kernel looks at that flag when the
//! second is bound, and again when it begins to listen, and not at who set it when. So:
//!
//! 1. Before `ready` the flag is set on the socket of the predecessor, which we have inherited, and
//!    on ours, and ours is bound. If that fails, so does the upgrade, while the predecessor serves.
//! 2. Right after the commit ours listens: not before, or it would take, being the more exact one,
//!    connections that nobody accepts if this process fails.
//! 3. The flag is taken from both. It was never used for what it is for: as their addresses differ,
//!    the kernel does not spread connections over the two. The more exact one gets what is meant for
//!    both. (The kernel remembers that the port was shared, so another process of the same user
//!    could still bind there, as it could trace this one.)
//! 4. The predecessor finishes its own: [`held`](super::held).
//!
//! A UDP socket cannot be bound without hearing. There the two are both heard from the bind on, each
//! by its own process.

use std::{io, os::fd::OwnedFd, sync::Arc};

use socket2::SockRef;

use super::{
    held::Held,
    inherited::Inherited,
    open::{self, How, Opened, Target},
    record::{self, Record},
};
use crate::error::{Error, Kind};

/// A socket that is bound beside one of the predecessor's.
#[derive(Debug)]
pub(crate) struct Later {
    pub(crate) socket: Arc<Held>,
    pub(crate) rivals: Vec<OwnedFd>,
    /// For `listen(2)`, if it is a listener.
    pub(crate) queue: Option<i32>,
}

/// Opens a socket beside those of the predecessor that overlap with it. `err` is what happens
/// otherwise.
pub(crate) fn open(
    how: How<'_>,
    target: &Target,
    inherited: &Inherited,
    err: io::Error,
) -> io::Result<(Opened, Vec<OwnedFd>)> {
    let overlaps = |(record, fd): &&(Record, OwnedFd)| {
        // What another program has opened it may still want for itself alone.
        record.kind == how.kind
            && !record.foreign
            && record::address(fd).is_ok_and(|bound| target.overlaps(&bound))
    };
    let mut rivals = Vec::new();
    for (record, fd) in inherited.iter().filter(overlaps) {
        tracing::debug!(socket = %record.name, address = %record.address, "binding beside it");
        rivals.push(fd.try_clone()?);
    }
    if rivals.is_empty() {
        return Err(err);
    }
    let opened = share(&rivals, true).and_then(|()| open::open(how, target));
    match opened {
        Ok(opened) => Ok((opened, rivals)),
        Err(err) => {
            let _ = share(&rivals, false);
            let what = format!("{err}, also beside the socket of the predecessor");
            Err(io::Error::new(err.kind(), what))
        }
    }
}

fn share(sockets: &[OwnedFd], share: bool) -> io::Result<()> {
    let mut all = sockets.iter().map(SockRef::from);
    all.try_for_each(|socket| socket.set_reuse_port(share))
}

impl Later {
    /// Listens, and leaves no flag behind.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let socket = SockRef::from(&*self.socket);
        let result = match self.queue {
            Some(queue) => socket.listen(queue),
            None => Ok(()),
        };
        let alone = share(&self.rivals, false).and_then(|()| socket.set_reuse_port(false));
        let record = &self.socket.record;
        if let Err(err) = alone {
            tracing::debug!(socket = %record.name, %err, "the port stays shared");
        }
        let message = || format!("cannot listen on {} after all", record.address);
        result.map_err(|err| Error::io(Kind::Listen, message(), err))
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // Of an attempt that has failed. The predecessor's socket is as it was.
        let _ = share(&self.rivals, false);
    }
}
