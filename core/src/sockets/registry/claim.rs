//! Which inherited socket is the one that the program asks for.

use std::os::fd::OwnedFd;

use super::{
    super::{
        open::Target,
        record::{self, Record, SocketKind},
        unix_path::OwnedPath,
    },
    Registry,
};

impl Registry {
    /// By name first, then by address.
    pub(super) fn find(&self, name: &str, kind: SocketKind, target: &Target) -> Option<usize> {
        let fits = |(record, fd): &(Record, OwnedFd)| {
            let current = record.path.as_ref().is_none_or(OwnedPath::is_current);
            record.kind == kind
                && current
                && record::address(fd).is_ok_and(|bound| target.accepts(&bound))
        };
        let position =
            |test: &dyn Fn(&(Record, OwnedFd)) -> bool| self.inherited.iter().position(test);
        let named = |record: &Record| record.name == name;
        // The administrator's before what the service manager kept of ours.
        position(&|socket| named(&socket.0) && socket.0.foreign && fits(socket))
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
                    named(record) && record.foreign && alike
                })
            })
            .or_else(|| position(&|socket| named(&socket.0) && fits(socket)))
            .or_else(|| position(&|socket| !target.any_port() && fits(socket)))
    }
}
