//! What the manager keeps for us, and what it should keep.
//!
//! Invariants:
//! 1. The ledger names everything of ours that the manager may keep; a name too many is harmless, for
//!    removing it does nothing.
//! 2. Removals go before additions. The manager does not take a socket that it has, under whichever
//!    name, so a socket that gets another name has to leave first; and a removal takes all that goes
//!    by a name, so a name that gets another socket is emptied first.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
};

use rustix::fd::AsFd;

/// Which socket a descriptor is: all its duplicates have the same, in every process.
pub(crate) type Identity = (u64, u64);

/// Which socket this is; `None` if the kernel does not say.
pub(crate) fn identity(fd: impl AsFd) -> Option<Identity> {
    let stat = rustix::fs::fstat(fd).ok()?;
    Some((stat.st_dev as _, stat.st_ino))
}

/// A socket that the manager is to keep.
#[derive(Debug)]
pub(crate) struct Kept {
    /// As the manager calls it.
    pub(crate) name: String,
    pub(crate) fd: OwnedFd,
    /// Whether the manager may drop it when the kernel reports an error on it: right for a
    /// listener, which is of no use then, and wrong for a socket that has single errors.
    pub(crate) polled: bool,
}

/// What the manager keeps, by its names.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Vec<(String, Option<Identity>)>);

/// What is to be done so that the manager keeps what it should.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) remove: Vec<String>,
    pub(crate) add: Vec<Kept>,
}

impl Ledger {
    /// Notes what the manager may keep.
    pub(crate) fn note(&mut self, name: String, identity: Option<Identity>) {
        self.0.push((name, identity));
    }

    /// All names, for who keeps the ledger from now on.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Adds names of another ledger.
    pub(crate) fn extend(&mut self, names: Vec<String>) {
        let mut known: HashSet<String> = self.0.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            if known.insert(name.clone()) {
                self.0.push((name, None));
            }
        }
    }

    /// Says what is to be done, and takes it for done.
    pub(crate) fn plan(&mut self, wanted: Vec<Kept>) -> Plan {
        let mut plan = Plan::default();
        let mut fds: HashMap<&str, Vec<&OwnedFd>> = HashMap::new();
        for kept in &wanted {
            fds.entry(&kept.name).or_default().push(&kept.fd);
        }
        let is_wanted = |name: &str, known: Option<Identity>| {
            let mut fds = fds.get(name).into_iter().flatten();
            known.is_some() && fds.any(|fd| identity(fd) == known)
        };
        let known = std::mem::take(&mut self.0);
        let mut times: HashMap<&str, usize> = HashMap::new();
        for (name, _) in &known {
            *times.entry(name).or_default() += 1;
        }
        // Of two sockets by one name neither can be removed alone.
        let stays = |(name, identity): &(String, Option<Identity>)| {
            times[&**name] == 1 && is_wanted(name, *identity)
        };
        let stay: Vec<bool> = known.iter().map(stays).collect();
        // Those that the manager has in the end, and those that leave it before.
        let (mut has, mut leave) = (HashSet::new(), HashSet::new());
        for ((name, identity), stays) in known.into_iter().zip(stay) {
            if stays {
                has.insert(name.clone());
                self.0.push((name, identity));
            } else if leave.insert(name.clone()) {
                plan.remove.push(name);
            }
        }
        for kept in wanted {
            if has.insert(kept.name.clone()) {
                self.0.push((kept.name.clone(), identity(&kept.fd)));
                plan.add.push(kept);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn socket() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    fn kept(name: &str, fd: &OwnedFd) -> Kept {
        Kept {
            name: name.to_owned(),
            fd: fd.try_clone().unwrap(),
            polled: true,
        }
    }

    fn said(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
        (
            plan.remove.iter().map(String::as_str).collect(),
            plan.add.iter().map(|kept| kept.name.as_str()).collect(),
        )
    }

    #[test]
    fn what_stays_is_not_sent_again() {
        let (a, b) = (socket(), socket());
        let mut ledger = Ledger::default();
        let plan = ledger.plan(vec![kept("a", &a), kept("b", &b)]);
        assert_eq!(said(&plan), (vec![], vec!["a", "b"]));
        let plan = ledger.plan(vec![kept("b", &b)]);
        assert_eq!(said(&plan), (vec!["a"], vec![]));
        let plan = ledger.plan(vec![]);
        assert_eq!(said(&plan), (vec!["b"], vec![]));
        assert_eq!(ledger.names(), Vec::<String>::new());
    }

    #[test]
    fn a_name_that_has_another_socket_is_emptied_first() {
        let (old, new) = (socket(), socket());
        let mut ledger = Ledger::default();
        ledger.note("web".to_owned(), identity(&old));
        let plan = ledger.plan(vec![kept("web", &new)]);
        assert_eq!(said(&plan), (vec!["web"], vec!["web"]));
    }

    #[test]
    fn a_socket_that_has_another_name_leaves_first() {
        let fd = socket();
        let mut ledger = Ledger::default();
        ledger.note("old".to_owned(), identity(&fd));
        let plan = ledger.plan(vec![kept("new", &fd)]);
        assert_eq!(said(&plan), (vec!["old"], vec!["new"]));
    }

    #[test]
    fn of_two_by_one_name_one_is_left() {
        let (used, stale) = (socket(), socket());
        for order in [[&used, &stale], [&stale, &used], [&used, &used]] {
            let mut ledger = Ledger::default();
            for fd in order {
                ledger.note("web".to_owned(), identity(fd));
            }
            let plan = ledger.plan(vec![kept("web", &used)]);
            assert_eq!(said(&plan), (vec!["web"], vec!["web"]));
            let plan = ledger.plan(vec![kept("web", &used)]);
            assert_eq!(said(&plan), (vec![], vec![]));
        }
    }

    #[test]
    fn a_name_of_which_only_the_name_is_known_is_renewed() {
        let (web, known) = (socket(), socket());
        let mut ledger = Ledger::default();
        ledger.note("known".to_owned(), identity(&known));
        ledger.extend(vec![
            "web".to_owned(),
            "gone".to_owned(),
            "known".to_owned(),
        ]);
        let plan = ledger.plan(vec![kept("web", &web), kept("known", &known)]);
        assert_eq!(said(&plan), (vec!["web", "gone"], vec!["web"]));
    }
}
