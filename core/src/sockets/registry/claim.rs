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
    /// Its place: by name first, then by address.
    pub(super) fn find(&self, name: &str, kind: SocketKind, target: &Target) -> Option<usize> {
        let fits = |(record, fd): &(Record, OwnedFd)| {
            let current = record.path.as_ref().is_none_or(OwnedPath::is_current);
            record.kind == kind
                && current
                && record::address(fd).is_ok_and(|bound| target.accepts(&bound))
        };
        let named = |test: &dyn Fn(&(Record, OwnedFd)) -> bool| {
            let mut named = self.inherited.named(name);
            named.find_map(|(place, socket)| test(socket).then_some(place))
        };
        // The first of them, by whichever of its addresses it is asked for.
        let any = |test: &dyn Fn(&(Record, OwnedFd)) -> bool| {
            let addresses = target.addresses();
            let bound = addresses.iter().flat_map(|at| self.inherited.bound(at));
            let fitting = bound.filter(|(_, socket)| test(socket));
            fitting.map(|(place, _)| place).min()
        };
        // The administrator's before what the service manager kept of ours.
        named(&|socket| socket.0.foreign && fits(socket))
            // The administrator named it, so its address is the administrator's too.
            .or_else(|| {
                named(&|(record, _)| {
                    // Of TCP and Unix streams it may be either.
                    let alike = match kind {
                        SocketKind::Tcp | SocketKind::Unix => {
                            matches!(record.kind, SocketKind::Tcp | SocketKind::Unix)
                        }
                        _ => record.kind == kind,
                    };
                    record.foreign && alike
                })
            })
            .or_else(|| named(&fits))
            .or_else(|| (!target.any_port()).then(|| any(&fits)).flatten())
    }
}
