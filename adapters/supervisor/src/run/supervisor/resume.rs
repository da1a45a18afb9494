//! Over an `exec` of the supervisor itself.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use handover::{
    control::{Caller, Event as Said, Refusal},
    supervise::{PidFile, ServiceSocket},
};
use tokio::net::UnixStream;

use super::{
    super::{
        Failure,
        ack::AckSocket,
        config::Config,
        notify::Mailbox,
        now,
        output::Pipe,
        plan::Plan,
        reexec::{self, Kept, Saved, SavedChild, SavedFollower, SavedSocket},
    },
    Bound, Supervisor,
    control::{Follower, Wish},
    family::{Child, Line},
};

/// Descriptors and their places. The first is that of the state.
#[derive(Default)]
struct Places<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Places<'a> {
    fn put(&mut self, fd: &'a impl AsFd) -> usize {
        self.0.push(fd.as_fd());
        self.0.len()
    }
}

impl Supervisor {
    /// Goes on with another program. Returns why not.
    pub(super) async fn reexec(&self, caller: &Arc<Caller>) -> (Refusal, String) {
        if self.plan.stopping().is_some() {
            return (Refusal::Draining, "the supervisor ends".to_owned());
        }
        if self.plan.rollout().is_some() {
            let why = "processes are being replaced; try again when that is over";
            return (Refusal::InProgress, why.to_owned());
        }
        self.say("replaces its own program");
        self.writer.flush().await;
        // From here on nothing is waited for: what is saved is how it is.
        let mut places = Places::default();
        let saved = self.save(caller, &mut places);
        let err = reexec::exec(&saved, &places.0);
        (Refusal::Other, err.to_string())
    }

    fn save<'a>(&'a self, caller: &'a Arc<Caller>, places: &mut Places<'a>) -> Saved {
        let socket = |bound: &'a Bound, places: &mut Places<'a>| SavedSocket {
            label: bound.socket.label(),
            fd: places.put(&bound.socket),
            said: bound.said.clone(),
            at: bound.at,
        };
        let sockets = self
            .sockets
            .iter()
            .map(|bound| socket(bound, places))
            .collect();
        let mut children = Vec::new();
        let mut lines = Vec::new();
        for (id, child) in &self.children {
            let line = child.line.id;
            // A descriptor is kept once.
            let mailbox = child.line.mailbox.as_deref();
            let mailbox = mailbox.filter(|_| !lines.contains(&line));
            lines.push(line);
            let mailbox = mailbox.map(|one| (places.put(one), one.name().to_owned(), one.uid()));
            children.push(SavedChild {
                id: *id,
                pid: child.pid,
                mailbox,
                progress: child.progress.clone(),
                line: Some(line),
                pidfd: child.pidfd.as_ref().map(|pidfd| places.put(&**pidfd)),
                group: child.group,
            });
        }
        let open = self.pipes.iter().filter(|pipe| !pipe.has_ended());
        let pipes = open.map(|pipe| pipe.save(places.put(&**pipe))).collect();
        let mut followers = Vec::new();
        for follower in &self.followers {
            if let Wish::Upgrade { generation, .. } = follower.wish {
                let fd = places.put(&*follower.caller);
                let since = follower.since;
                followers.push(SavedFollower {
                    fd,
                    generation,
                    since,
                });
            }
        }
        Saved {
            plan: self.plan.clone(),
            sockets,
            children,
            pipes,
            pid_file: self
                .pid_file
                .as_ref()
                .map(|file| (file.path().to_owned(), places.put(file))),
            control: self
                .control
                .as_ref()
                .map(|one| (one.label(), places.put(one))),
            ack: self
                .ack
                .as_ref()
                .map(|one| (one.path().to_owned(), places.put(one))),
            caller: Some(places.put(&**caller)),
            followers,
            announced: self.announced,
            started: self.started,
            last: self.last.clone(),
        }
    }

    /// Goes on where the program before has left off.
    pub(crate) fn resume(config: Config, mut kept: Kept) -> Result<Self, Failure> {
        let plan: Plan = kept.saved.plan.clone();
        let (plan, actions) = plan.resume(config.plan.clone(), now());
        let mut supervisor = Self::with(config, plan)?;
        supervisor.announced = kept.saved.announced;
        supervisor.started = kept.saved.started;
        supervisor.last = kept.saved.last.take();
        for saved in std::mem::take(&mut kept.saved.sockets) {
            let socket = ServiceSocket::restore(&saved.label, kept.fd(saved.fd)?)?;
            supervisor.sockets.push(Bound {
                socket,
                said: saved.said,
                at: saved.at,
            });
        }
        let mut lines: BTreeMap<_, Arc<Line>> = BTreeMap::new();
        for saved in std::mem::take(&mut kept.saved.children) {
            let line = saved.line.unwrap_or(saved.id);
            let mailbox = match saved.mailbox {
                Some((fd, name, uid)) => Some(Arc::new(Mailbox::restore(kept.fd(fd)?, name, uid)?)),
                None => None,
            };
            let line = lines
                .entry(line)
                .or_insert_with(|| supervisor.line(line, mailbox));
            let line = Arc::clone(line);
            let mut child = match saved.pidfd {
                Some(pidfd) => supervisor.foster(saved.id, saved.pid, kept.fd(pidfd)?, line),
                None => Child::started(saved.pid, line),
            };
            if saved.line.is_some() {
                child.group = saved.group;
            }
            child.progress = saved.progress;
            supervisor.children.insert(saved.id, child);
        }
        for saved in std::mem::take(&mut kept.saved.pipes) {
            let fd = kept.fd(saved.fd)?;
            let pipe = Pipe::restore(saved, fd)?;
            tokio::spawn(Arc::clone(&pipe).carry(supervisor.writer.clone()));
            supervisor.pipes.push(pipe);
        }
        if let Some((path, fd)) = kept.saved.pid_file.take() {
            supervisor.pid_file = Some(PidFile::restore(&path, kept.fd(fd)?));
        }
        if let Some((label, fd)) = kept.saved.control.take() {
            supervisor.control = Some(ServiceSocket::restore(&label, kept.fd(fd)?)?);
        }
        if let Some((path, fd)) = kept.saved.ack.take() {
            supervisor.ack = Some(AckSocket::restore(path, kept.fd(fd)?));
        }
        for saved in std::mem::take(&mut kept.saved.followers) {
            let caller = caller(&mut kept, saved.fd)?;
            let generation = saved.generation;
            supervisor.followers.push(Follower {
                caller,
                wish: Wish::Upgrade {
                    generation,
                    serves: true,
                },
                since: saved.since,
            });
        }
        if let Some(fd) = kept.saved.caller {
            let caller = caller(&mut kept, fd)?;
            let version = env!("CARGO_PKG_VERSION");
            caller.tell(&Said::reexecuted(std::process::id(), version));
        }
        supervisor.say("goes on with its new program");
        for action in actions {
            supervisor.act(action);
        }
        supervisor.changed();
        Ok(supervisor)
    }
}

/// Somebody who has asked, and listens on.
fn caller(kept: &mut Kept, fd: usize) -> Result<Arc<Caller>, Failure> {
    let stream = std::os::unix::net::UnixStream::from(kept.fd(fd)?);
    stream.set_nonblocking(true)?;
    let caller = Arc::new(Caller::new(UnixStream::from_std(stream)?));
    let attended = Arc::clone(&caller);
    tokio::spawn(async move { attended.attend().await });
    Ok(caller)
}
