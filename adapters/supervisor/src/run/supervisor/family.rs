//! The processes that are ours: those that we have started, and those that they have put in their
//! own place.
//!
//! Invariants:
//! 1. A process that we have started is named by its number, which is its own until we reap it; any
//!    other by a pidfd.
//! 2. Those that have put each other in their place are one line: they speak to one mailbox, and
//!    mostly are one process group, which is told or killed only with the last of them.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};

use super::{
    super::{
        child, kin,
        notify::Mailbox,
        plan::{Event, Exit, Id},
    },
    Message, Supervisor,
};

/// Between two looks at a process that cannot be waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// A process of ours.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: u32,
    /// If we have not started it.
    pub(super) pidfd: Option<Arc<OwnedFd>>,
    /// Its process group, if it is the line's or its own.
    pub(super) group: Option<u32>,
    pub(super) line: Arc<Line>,
    /// What it last said that it does.
    pub(super) progress: Option<String>,
    _watch: Option<Task>,
}

/// Where those of one line are heard.
#[derive(Debug)]
pub(super) struct Line {
    /// The first of them.
    pub(super) id: Id,
    pub(super) mailbox: Option<Arc<Mailbox>>,
    _hears: Option<Task>,
}

/// A process that was named, and opened.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) line: Arc<Line>,
}

/// A task that ends with who needs it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Child {
    /// One that we have started.
    pub(super) fn started(pid: u32, line: Arc<Line>) -> Self {
        Self {
            pid,
            pidfd: None,
            group: Some(pid),
            line,
            progress: None,
            _watch: None,
        }
    }

    pub(super) fn signal(&self, number: i32) {
        match &self.pidfd {
            Some(pidfd) => child::signal_by_fd(pidfd, number),
            None => child::signal(self.pid, number),
        }
    }
}

impl Supervisor {
    /// Hears what those say who are told of this mailbox.
    pub(super) fn line(&self, id: Id, mailbox: Option<Arc<Mailbox>>) -> Arc<Line> {
        let hears = mailbox.as_ref().map(|mailbox| {
            let (mailbox, send) = (Arc::clone(mailbox), self.send.clone());
            Task(tokio::spawn(async move {
                while let Ok(heard) = mailbox.next().await {
                    let _ = send.send(Message::Heard(id, heard));
                }
            }))
        });
        Arc::new(Line {
            id,
            mailbox,
            _hears: hears,
        })
    }

    /// A process that another one has started.
    pub(super) fn foster(&self, id: Id, pid: u32, pidfd: OwnedFd, line: Arc<Line>) -> Child {
        let pidfd = Arc::new(pidfd);
        let (watched, send) = (Arc::clone(&pidfd), self.send.clone());
        let watch = tokio::spawn(async move {
            #[expect(deprecated, reason = "an owned descriptor stays what it is")]
            let fd = AsyncFd::with_interest(watched.clone(), Interest::READABLE);
            if let Ok(fd) = fd {
                let _ = fd.readable().await;
            }
            // Where it cannot be waited for.
            while !kin::has_ended(&*watched) {
                tokio::time::sleep(PAUSE).await;
            }
            let _ = send.send(Message::Gone(id));
        });
        let known = |group: &u32| {
            let mut line = self.children.values();
            *group == pid || line.any(|child| child.group == Some(*group))
        };
        Child {
            pid,
            pidfd: Some(pidfd),
            group: child::group(pid).filter(known),
            line,
            progress: None,
            _watch: Some(Task(watch)),
        }
    }

    /// Takes the process that was named for ours.
    pub(super) fn adopt(&mut self, id: Id, generation: u64) {
        let Some(Named { pid, pidfd, line }) = self.named.take() else {
            return self.event(Event::Exited(id, Exit::Unseen));
        };
        let child = self.foster(id, pid, pidfd, line);
        self.children.insert(id, child);
        let of = self.plan.process(id).and_then(|process| process.of);
        let of = of.and_then(|of| self.children.get(&of));
        let of = of.map_or(0, |child| child.pid);
        self.say(&format!(
            "process {pid} starts, generation {generation}, from process {of}"
        ));
        self.tell_starting(pid, generation);
        self.changed();
    }

    /// Tells what a process has started, unless others of ours are among it.
    pub(super) fn signal_family(&self, id: Id, signal: Signal) {
        let Some(group) = self.children.get(&id).and_then(|child| child.group) else {
            return;
        };
        let mut others = self.children.iter().filter(|(other, _)| **other != id);
        if !others.any(|(_, child)| child.group == Some(group)) {
            child::signal_group(group, signal as i32);
        }
    }

    /// It has ended, and we have not reaped it: who has started it will, or has.
    pub(super) fn gone(&mut self, id: Id) {
        self.reap();
        let ended = self.children.get(&id).and_then(|child| {
            let pidfd = child.pidfd.as_ref()?;
            Some(kin::has_ended(pidfd.as_fd()))
        });
        if ended == Some(true) {
            self.ended(id, Exit::Unseen);
        }
    }

    pub(super) fn ended(&mut self, id: Id, exit: Exit) {
        let process = self.plan.process(id);
        if process.is_some_and(|process| !process.leaves()) {
            // What it has started has lost its head, and may not serve beside the next.
            self.signal_family(id, self.config.stop_signal);
        }
        self.event(Event::Exited(id, exit));
        self.children.remove(&id);
        self.changed();
    }
}
