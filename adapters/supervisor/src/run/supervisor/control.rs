//! The control socket of a supervisor: it is asked as a service is.

use std::{sync::Arc, time::Duration};

use handover::{
    control::{Caller, Event as Said, Failure, Refusal, Request, UpgradeRequest},
    status::Held,
    supervise::ServiceSocket,
};
use rustix::fd::AsFd;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc::UnboundedSender},
};

use super::{
    super::{
        now,
        plan::{Event, Note, Outcome, Process, State},
    },
    Message, Supervisor,
};
use crate::show::clean;

/// How many are answered at a time.
const CALLERS: usize = 32;
/// After an error of accept, most of which last.
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who waits for an outcome.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) caller: Arc<Caller>,
    pub(super) wish: Wish,
    pub(super) since: Duration,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// That this generation serves, and those before it have gone.
    Upgrade { generation: u64, serves: bool },
    /// That all is over.
    Drain,
}

/// Answers who connects, until the process ends.
pub(super) fn listen(
    socket: &ServiceSocket,
    send: UnboundedSender<Message>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(socket.as_fd().try_clone_to_owned()?.into())?;
    let room = Arc::new(Semaphore::new(CALLERS));
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let caller = Arc::new(Caller::new(stream));
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        let message = format!("{CALLERS} are connected already; try again");
                        caller.tell(&Said::refused(Refusal::Busy, message));
                        continue;
                    };
                    let send = send.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        if let Some(request) = caller.receive().await {
                            let _ = send.send(Message::Asked(request, Arc::clone(&caller)));
                        }
                        caller.attend().await;
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    Ok(())
}

/// A caller for what nobody has asked for but a signal.
pub(super) fn nobody() -> Option<Arc<Caller>> {
    let (ours, _) = UnixStream::pair().ok()?;
    Some(Arc::new(Caller::new(ours)))
}

impl Supervisor {
    pub(super) async fn asked(&mut self, request: Request, caller: Arc<Caller>) {
        let begun = Said::begun(std::process::id(), self.plan.serving().unwrap_or_default());
        match request {
            Request::Status => caller.tell(&Said::status(self.status())),
            Request::Upgrade(request) => match self.may_upgrade(&request) {
                Err((kind, why)) => caller.tell(&Said::refused(kind, why)),
                Ok(()) => {
                    caller.tell(&begun);
                    let generation = self.plan.newest() + 1;
                    let serves = false;
                    self.follow(caller, Wish::Upgrade { generation, serves });
                    self.say("replaces the program, as the control socket asks");
                    self.notify_reload();
                    self.event(Event::Replace);
                }
            },
            Request::Drain => {
                caller.tell(&begun);
                self.follow(caller, Wish::Drain);
                if self.plan.stopping().is_none() {
                    self.event(Event::Stop);
                }
            }
            Request::Cut => {
                let leaves = |process: &Process| {
                    matches!(process.state, State::Leaving { killed: false, .. })
                };
                let leaving = self.plan.processes().filter(|(_, process)| leaves(process));
                let pids = leaving.filter_map(|(id, _)| Some(self.children.get(&id)?.pid));
                let pids: Vec<_> = pids.collect();
                if pids.is_empty() {
                    let why = "no process of the program is to end";
                    return caller.tell(&Said::refused(Refusal::NothingDrains, why));
                }
                self.event(Event::Cut);
                caller.tell(&Said::cut(pids));
            }
            Request::Reexec => {
                // Returns only if it has failed.
                let (kind, why) = self.reexec(&caller).await;
                self.say(&format!("goes on as it is: {why}"));
                caller.tell(&Said::refused(kind, why));
            }
            _ => caller.tell(&Said::refused(
                Refusal::UnknownCommand,
                "a supervisor cannot",
            )),
        }
    }

    fn may_upgrade(&self, request: &UpgradeRequest) -> Result<(), (Refusal, String)> {
        let refuse = |kind, why: &str| Err((kind, why.to_owned()));
        if self.plan.stopping().is_some() {
            return refuse(Refusal::Draining, "the supervisor ends");
        }
        if request.check {
            let why = "a supervisor starts any program, and cannot check one; run `handover check`";
            return refuse(Refusal::Other, why);
        }
        let Some(serving) = self.plan.serving() else {
            return refuse(Refusal::NotReady, "no process of the program is ready yet");
        };
        if let Some(wanted) = request.if_generation.filter(|wanted| *wanted != serving) {
            let why = format!("generation {serving} serves, not {wanted}");
            return refuse(Refusal::Stale, &why);
        }
        if let Some(rollout) = self.plan.rollout() {
            let why = format!("generation {} starts already", rollout.generation);
            return refuse(Refusal::InProgress, &why);
        }
        Ok(())
    }

    fn follow(&mut self, caller: Arc<Caller>, wish: Wish) {
        let since = now();
        self.followers.push(Follower {
            caller,
            wish,
            since,
        });
    }

    /// Tells those who wait for this generation, or for anything.
    fn each(&self, generation: Option<u64>, event: &Said) {
        for follower in &self.followers {
            let wants = match follower.wish {
                Wish::Upgrade {
                    generation: one, ..
                } => generation == Some(one),
                Wish::Drain => false,
            };
            if wants {
                follower.caller.tell(event);
            }
        }
    }

    pub(super) fn tell_starting(&self, pid: u32, generation: u64) {
        self.each(Some(generation), &Said::starting(pid, generation));
    }

    /// What a process says that it does.
    pub(super) fn progress(&mut self, id: u64, text: &str) {
        let text = clean(text);
        // Until its successor is the main process, it speaks for both.
        let starts = |one: &Process| matches!(one.state, State::Starting { .. });
        let mut successors = self.plan.processes();
        let successor = successors.find(|(_, one)| one.of == Some(id) && starts(one));
        let id = successor.map_or(id, |(id, _)| id);
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let pid = child.pid;
        let process = self.plan.process(id);
        let starting = process.filter(|one| matches!(one.state, State::Starting { .. }));
        let generation = starting.map(|one| one.generation);
        child.progress = Some(text.clone());
        if generation.is_some() {
            self.each(generation, &Said::initialising(pid, text));
        }
    }

    /// Tells those who follow what has come of it.
    pub(super) fn tell(&mut self, note: &Note) {
        match note {
            Note::Ready(id) => {
                let generation = self.plan.process(*id).map(|process| process.generation);
                if let Some(child) = self.children.get(id) {
                    self.each(generation, &Said::ready(child.pid));
                }
            }
            Note::Serving(id) => {
                let generation = self.plan.process(*id).map(|process| process.generation);
                if let (Some(generation), Some(child)) = (generation, self.children.get(id)) {
                    self.each(Some(generation), &Said::serving(child.pid, generation));
                }
            }
            Note::Replaced { generation } => {
                for follower in &mut self.followers {
                    if let Wish::Upgrade {
                        generation: one,
                        serves,
                    } = &mut follower.wish
                    {
                        *serves |= one == generation;
                    }
                }
                self.tell_draining();
            }
            Note::NotReplaced {
                generation,
                why,
                timed_out,
            } => {
                let kind = match (timed_out, self.plan.stopping()) {
                    (_, Some(_)) => Failure::Stopped,
                    (true, None) => Failure::TimedOut,
                    (false, None) => Failure::Ended,
                };
                let why = format!("generation {generation}: {why}");
                self.each(Some(*generation), &Said::failed(kind, why));
            }
            Note::Back(id) => {
                let generation = self.plan.process(*id).map(|process| process.generation);
                let why = "it has died, and the one before serves again";
                for follower in &self.followers {
                    if let Wish::Upgrade {
                        generation: one,
                        serves: true,
                    } = follower.wish
                        && Some(one) > generation
                    {
                        let why = format!("generation {one}: {why}");
                        follower.caller.tell(&Said::failed(Failure::Ended, why));
                    }
                }
            }
            _ => {}
        }
        self.followers
            .retain(|follower| !follower.caller.is_closed());
    }

    /// Tells those who wait for processes to end how far that is.
    pub(super) fn tell_draining(&mut self) {
        let now = now();
        for follower in &self.followers {
            let before = match follower.wish {
                Wish::Upgrade { serves: false, .. } => continue,
                Wish::Upgrade { generation, .. } => generation,
                Wish::Drain => u64::MAX,
            };
            let leaving = self
                .plan
                .processes()
                .filter(|(_, one)| one.leaves() && one.generation < before);
            let mut held = Held::default();
            let mut deadline = None;
            for (_, process) in leaving {
                held.tasks += 1;
                if let State::Leaving { since, kill_at, .. } = process.state {
                    held.longest = held.longest.max(now.saturating_sub(since));
                    deadline = deadline.max(kill_at);
                }
            }
            held.guards = held.tasks;
            let event = match (held.tasks, follower.wish) {
                (0, Wish::Upgrade { .. }) => {
                    let text = "the processes before have ended";
                    Said::processes_drained(now.saturating_sub(follower.since), 0, text)
                }
                _ => {
                    let left = deadline.map(|deadline| deadline.saturating_sub(now));
                    Said::draining(held, left)
                }
            };
            match event.is_last() {
                true => follower.caller.tell(&event),
                false => follower.caller.tell_if_idle(&event),
            }
        }
        self.followers
            .retain(|follower| !follower.caller.is_closed());
    }

    pub(super) fn tell_the_end(&mut self, outcome: &Outcome) {
        for follower in std::mem::take(&mut self.followers) {
            let took = now().saturating_sub(follower.since);
            let text = match outcome.killed {
                0 => "all processes have ended".to_owned(),
                killed => format!("{killed} processes had to be killed"),
            };
            follower
                .caller
                .tell(&Said::processes_drained(took, outcome.killed, text));
        }
    }
}
