//! What processes say, and that they have ended.

use rustix::process::WaitOptions;

use super::{
    super::{
        kin,
        notify::{Heard, Said},
        plan::{Event, Exit, Id},
    },
    Message, Supervisor,
    family::Named,
};

/// What comes before the reason, in the status of a service whose upgrade has failed.
const FAILED: &str = "the last upgrade failed: ";

impl Supervisor {
    pub(super) async fn message(&mut self, message: Message) {
        match message {
            Message::Heard(line, heard) => {
                let speaker = self.speaker(line, heard.from);
                self.heard_who(line, &heard);
                self.heard_what(speaker, heard);
            }
            Message::Gone(id) => self.gone(id),
            Message::Ack(pid) => {
                let id = self.children.iter().find(|(_, child)| child.pid == pid);
                if let Some(id) = id.map(|(id, _)| *id) {
                    self.event(Event::Ready(id));
                }
            }
            Message::Asked(request, caller) => self.asked(request, caller).await,
        }
    }

    /// Takes the status of all that have ended, whosever they were.
    pub(super) fn reap(&mut self) {
        // Who has named another as the main process may have ended right after. What else was said
        // waits: one that has ended is not ready.
        let heard = self.all_heard();
        for (line, _, heard) in &heard {
            self.heard_who(*line, heard);
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().cast_unsigned();
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Exit::Status(status),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => continue,
            };
            let id = self.children.iter().find(|(_, child)| child.pid == pid);
            if let Some(id) = id.map(|(id, _)| *id) {
                self.ended(id, exit);
            }
        }
        self.pipes.retain(|pipe| !pipe.has_ended());
        for (_, speaker, heard) in heard {
            self.heard_what(speaker, heard);
        }
    }

    /// All that was said up to now, and who has said it.
    fn all_heard(&mut self) -> Vec<(Id, Option<Id>, Heard)> {
        let mut all = Vec::new();
        let mut others = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Heard(line, heard) => all.push((line, heard)),
                other => others.push(other),
            }
        }
        for other in others {
            let _ = self.send.send(other);
        }
        let mut lines = Vec::new();
        for child in self.children.values() {
            if let Some(mailbox) = &child.line.mailbox
                && !lines.contains(&child.line.id)
            {
                lines.push(child.line.id);
                let rest = mailbox.rest().into_iter();
                all.extend(rest.map(|heard| (child.line.id, heard)));
            }
        }
        let speaker = |(line, heard): (Id, Heard)| (line, self.speaker(line, heard.from), heard);
        all.into_iter().map(speaker).collect()
    }

    /// Who has said it. What a process that is not known says, such as a script's `systemd-notify`,
    /// is said for the one that is to serve.
    fn speaker(&self, line: Id, from: u32) -> Option<Id> {
        self.known(line, from).or_else(|| {
            let ids = self.of_line(line);
            let mut staying = ids.iter().filter(|id| {
                let process = self.plan.process(**id);
                process.is_some_and(|process| !process.leaves())
            });
            staying.next_back().or(ids.last()).copied()
        })
    }

    fn of_line(&self, line: Id) -> Vec<Id> {
        let all = self.children.iter();
        all.filter(|(_, child)| child.line.id == line)
            .map(|(id, _)| *id)
            .collect()
    }

    fn known(&self, line: Id, pid: u32) -> Option<Id> {
        let mut ids = self.of_line(line).into_iter();
        ids.find(|id| self.children[id].pid == pid)
    }

    /// Which processes there are, and which is the main one.
    fn heard_who(&mut self, line: Id, heard: &Heard) {
        for said in &heard.said {
            let (pid, is_main) = match said {
                Said::Main(pid) => (*pid, true),
                Said::Successor(pid) => (*pid, false),
                _ => continue,
            };
            if let Err(why) = self.named(line, heard.from, pid, is_main) {
                let from = heard.from;
                self.say(&format!(
                    "process {from} names process {pid}, which is not taken: {why}"
                ));
            }
        }
    }

    fn named(&mut self, line: Id, from: u32, pid: u32, is_main: bool) -> Result<(), String> {
        let us = std::process::id();
        let sender = self.known(line, from);
        if sender.is_none() && !kin::descends(from, us) {
            return Err("who names it is none of ours".to_owned());
        }
        match self.known(line, pid) {
            Some(id) if is_main => {
                self.event(Event::Main(id));
                return Ok(());
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if self.children.values().any(|child| child.pid == pid) {
            return Err("it serves beside it".to_owned());
        }
        let of = match is_main {
            true => self.speaker(line, from),
            // Nobody else knows.
            false => sender,
        };
        let of = of.ok_or("who names it is no process of the program")?;
        let child = self.children.get(&of).ok_or("it has ended")?;
        let line = std::sync::Arc::clone(&child.line);
        let pidfd = kin::open(pid, us).map_err(|err| err.to_string())?;
        self.named = Some(Named { pid, pidfd, line });
        self.event(match is_main {
            true => Event::NewMain { of },
            false => Event::Successor { of },
        });
        match self.named.take() {
            Some(_) => Err("who names it is not the main process any more".to_owned()),
            None => Ok(()),
        }
    }

    /// All else.
    fn heard_what(&mut self, speaker: Option<Id>, heard: Heard) {
        let Some(id) = speaker else {
            return;
        };
        if self.config.listens_for_ready {
            self.event(Event::Speaks(id));
        }
        let is_itself = self
            .children
            .get(&id)
            .is_some_and(|child| child.pid == heard.from);
        let names_main = heard.said.iter().any(|said| matches!(said, Said::Main(_)));
        let status = heard.said.iter().find_map(|said| match said {
            Said::Status(text) => Some(text.clone()),
            _ => None,
        });
        for said in heard.said {
            match said {
                Said::Main(_) | Said::Successor(_) => {}
                Said::Upgradable(signal) if is_itself => {
                    self.event(Event::Upgradable(id, signal));
                }
                Said::Upgradable(_) => {}
                Said::Reloading => self.event(Event::Reloading(id)),
                Said::Stopping => self.event(Event::Stopping(id)),
                // It is the other one that is.
                Said::Ready if names_main => {}
                Said::Ready if self.reloads(id) => {
                    let text = status.clone().unwrap_or_default();
                    let why = text.split_once(FAILED).map_or(&*text, |(_, why)| why);
                    let why = match why {
                        "" => "it serves on, and does not say why",
                        why => why,
                    };
                    self.event(Event::NotReplaced(id, why.to_owned()));
                }
                Said::Ready => self.event(Event::Ready(id)),
                Said::Extend(time) => self.event(Event::Extend(id, time)),
                Said::Status(text) => self.progress(id, &text),
            }
        }
    }

    /// Whether it was asked to replace itself, and has begun to.
    fn reloads(&self, id: Id) -> bool {
        self.plan.rollout().and_then(|rollout| rollout.reloads()) == Some(id)
    }
}
