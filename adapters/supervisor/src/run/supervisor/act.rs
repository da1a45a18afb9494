//! Does what the plan says.

use std::{io, os::fd::OwnedFd, sync::Arc};

use nix::sys::signal::Signal;

use super::{
    super::{
        child::{self, Start},
        config::Output,
        dialects::{Dialect, FIRST, Facts, Passed},
        environment,
        notify::Mailbox,
        now,
        output::{Pipe, Stream},
        plan::{Action, Event, Exit, Id, Leave, Note},
        shim,
        user::Identity,
    },
    Supervisor,
    family::Child,
};

/// The ends of a process's output that stay here.
type Ends = Vec<(OwnedFd, Stream)>;

impl Supervisor {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Spawn {
                id,
                worker,
                generation,
            } => match self.spawn(id, worker, generation) {
                Ok(pid) => {
                    self.say(&format!("process {pid} starts, generation {generation}"));
                    self.tell_starting(pid, generation);
                    self.changed();
                }
                Err(err) => self.event(Event::Exited(id, Exit::NotStarted(err.to_string()))),
            },
            Action::Adopt { id, generation } => self.adopt(id, generation),
            Action::Ask(id, signal) => {
                if let Some(child) = self.children.get(&id) {
                    self.say(&format!("asks process {} to replace itself", child.pid));
                    child.signal(signal);
                }
            }
            Action::Tell(id, why) => {
                let signal = match why {
                    Leave::Replaced => self.config.replace_signal,
                    Leave::Stop => self.stop_signal,
                };
                if let Some(child) = self.children.get(&id) {
                    child.signal(signal as i32);
                }
            }
            Action::Kill(id) => {
                if let Some(child) = self.children.get(&id) {
                    child.signal(Signal::SIGKILL as i32);
                    self.signal_family(id, Signal::SIGKILL);
                }
            }
            Action::Say(note) => self.note(note),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    fn spawn(&mut self, id: Id, worker: u32, generation: u64) -> io::Result<u32> {
        let identity = self.config.user.as_deref().map(Identity::look_up);
        let identity = identity.transpose().map_err(super::super::other)?;
        let ours = rustix::process::geteuid().as_raw();
        let uid = identity.as_ref().map_or(ours, Identity::uid);
        let dialects = &self.config.dialects;
        let mailbox = match dialects.has(Dialect::Notify) || dialects.has(Dialect::Crank) {
            true => Some(Arc::new(Mailbox::open(id, uid)?)),
            false => None,
        };
        let mut fds = Vec::new();
        let mut passed = Vec::new();
        for bound in &self.sockets {
            let fd = bound.at.unwrap_or_else(|| free(&fds, &self.sockets));
            fds.push((child::duplicate(&bound.socket)?, fd));
            passed.push(Passed {
                fd,
                name: bound.socket.name().map(ToOwned::to_owned),
                asked: bound
                    .said
                    .clone()
                    .unwrap_or_else(|| bound.socket.asked().to_owned()),
            });
        }
        let notify_fd = match &mailbox {
            Some(mailbox) if dialects.has(Dialect::Crank) => {
                let fd = free(&fds, &self.sockets);
                fds.push((mailbox.connected()?, fd));
                Some(fd)
            }
            _ => None,
        };
        let notify = mailbox.as_ref().map(|mailbox| mailbox.address());
        let ack = self
            .ack
            .as_ref()
            .map(|ack| ack.path().to_string_lossy().into_owned());
        let variables = dialects.variables(Facts {
            sockets: &passed,
            worker,
            generation,
            master: std::process::id(),
            notify: notify.as_deref(),
            ack: ack.as_deref(),
            notify_fd,
        });
        let mut all = self.environment.clone();
        if let Some(identity) = &identity {
            let variables = identity.variables.iter();
            all.extend(variables.map(|(name, value)| (name.into(), value.into())));
        }
        if let Some(dir) = &self.config.env_dir {
            environment::read(dir, &mut all).map_err(super::super::other)?;
        }
        all.extend(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        let ours = std::process::id().to_string();
        all.insert(handover::supervise::VARIABLE.into(), ours.into());
        let (stdout, stderr, ends) = self.output()?;
        let pid = child::start(Start {
            program: &self.config.program,
            args: &self.config.args,
            environment: all,
            fds,
            identity,
            pid: self.config.dialects.needs_pid(),
            stdout,
            stderr,
        })?;
        for (fd, stream) in ends {
            let pipe = Pipe::new(fd, pid, stream)?;
            tokio::spawn(Arc::clone(&pipe).carry(self.writer.clone()));
            self.pipes.push(pipe);
        }
        let line = self.line(id, mailbox);
        self.children.insert(id, Child::started(pid, line));
        Ok(pid)
    }

    /// Where a process writes to, and what stays here of it.
    fn output(&self) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>, Ends)> {
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = io::pipe()?;
            Ok((read.into(), write.into()))
        };
        let one = |stream| -> io::Result<_> {
            let (read, write) = pipe()?;
            Ok((
                Some(child::duplicate(&write)?),
                Some(write),
                vec![(read, stream)],
            ))
        };
        match self.config.output {
            Output::Inherit => Ok((None, None, Vec::new())),
            Output::PrefixToStderr => one(Stream::Stderr),
            Output::Syslog => one(Stream::Log),
            Output::Prefix => {
                let (out, stdout) = pipe()?;
                let (err, stderr) = pipe()?;
                let ends = vec![(out, Stream::Stdout), (err, Stream::Stderr)];
                Ok((Some(stdout), Some(stderr), ends))
            }
        }
    }

    fn note(&mut self, note: Note) {
        let pid = |id: &Id| self.children.get(id).map_or(0, |child| child.pid);
        match &note {
            Note::Ready(id) => self.say(&format!("process {} is ready", pid(id))),
            Note::Serving(id) => self.say(&format!("process {} serves", pid(id))),
            Note::Replaced { generation } => self.say(&format!("generation {generation} serves")),
            Note::NotReplaced {
                generation, why, ..
            } => {
                self.say(&format!("generation {generation} does not serve: {why}"));
            }
            Note::Pending => self.say("another replacement follows this one"),
            Note::NoAnswer(id) => {
                let pid = pid(id);
                self.say(&format!("process {pid} does not begin to replace itself"));
            }
            Note::Back(id) => {
                let pid = pid(id);
                self.say(&format!(
                    "process {pid} serves again: its successor has failed"
                ));
            }
            Note::Ended { id, why } => {
                let status = why
                    .strip_prefix("exit status ")
                    .and_then(|text| text.parse().ok());
                let hint = status.map_or("", shim::explain);
                match self.children.get(id) {
                    Some(child) => {
                        self.say(&format!("process {} has ended: {why}{hint}", child.pid))
                    }
                    None => self.say(&format!("the program was not started: {why}")),
                }
            }
            Note::Waits { worker, pause } if pause.is_zero() => {
                self.say(&format!("worker {worker} is started again"));
            }
            Note::Waits { worker, pause } => {
                let pause = pause.as_secs_f64();
                self.say(&format!("worker {worker} is started again in {pause:.1} s"));
            }
            Note::Late(id) => {
                self.say(&format!("process {} is not ready in time: killed", pid(id)))
            }
            Note::Overdue(id) => {
                self.say(&format!("process {} did not end in time: killed", pid(id)))
            }
            Note::Stopping => self.say("ends"),
        }
        self.tell(&note);
        self.notify(&note);
        match note {
            Note::Replaced { .. } => self.last = Some((None, now())),
            Note::NotReplaced { why, .. } => self.last = Some((Some(why), now())),
            _ => {}
        }
    }
}

/// The first number that nobody has or wants.
fn free(fds: &[(OwnedFd, i32)], sockets: &[super::Bound]) -> i32 {
    let taken = |number: i32| {
        let mut given = fds.iter().map(|(_, given)| *given);
        given.any(|given| given == number) || sockets.iter().any(|bound| bound.at == Some(number))
    };
    (FIRST..).find(|number| !taken(*number)).unwrap_or(FIRST)
}
