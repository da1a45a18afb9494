//! Hears what happens, and does what the plan says.

mod act;
mod control;
mod family;
mod files;
mod hear;
mod resume;
mod status;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use handover::{
    control::{Caller, Request},
    supervise::{Notifier, PidFile, ServiceSocket},
};
use nix::sys::signal::Signal;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};

use self::{
    control::Follower,
    family::{Child, Named},
};
use super::{
    Failure,
    ack::AckSocket,
    config::{Config, Meaning, Wish},
    environment::Environment,
    notify::Heard,
    now,
    output::{self, Pipe, Writer},
    plan::{Event, Exit, Id, Outcome, Plan},
    signals::Signals,
    status_file::StatusFile,
};

/// What a killed program's status is, as shells say it.
const BY_SIGNAL: i32 = 128;
/// What had to be killed was not finished.
const INCOMPLETE: u8 = 7;
/// How often those who follow a drain hear of it.
const TELL: Duration = Duration::from_secs(1);

/// What tasks have heard.
#[derive(Debug)]
enum Message {
    /// A process of this line, by `sd_notify` or the like.
    Heard(Id, Heard),
    /// A process that another one has started has ended.
    Gone(Id),
    /// The process with this number is ready.
    Ack(u32),
    /// At the control socket.
    Asked(Request, Arc<Caller>),
}

/// A socket, and how programs are told of it.
#[derive(Debug)]
struct Bound {
    socket: ServiceSocket,
    said: Option<String>,
    at: Option<i32>,
}

/// All that there is.
#[derive(Debug)]
pub(crate) struct Supervisor {
    config: Config,
    plan: Plan,
    sockets: Vec<Bound>,
    children: BTreeMap<Id, Child>,
    /// A process that was named, for the plan to take or to leave.
    named: Option<Named>,
    environment: Environment,
    ack: Option<AckSocket>,
    control: Option<ServiceSocket>,
    followers: Vec<Follower>,
    pipes: Vec<Arc<Pipe>>,
    writer: Writer,
    pid_file: Option<PidFile>,
    status_file: Option<StatusFile>,
    /// Our own service manager.
    manager: Option<Notifier>,
    /// Whether it has been told that we are ready.
    announced: bool,
    /// What processes are told by at the end.
    stop_signal: Signal,
    /// How the last replacement ended, and when.
    last: Option<(Option<String>, Duration)>,
    started: Duration,
    send: UnboundedSender<Message>,
    messages: UnboundedReceiver<Message>,
    signals: Signals,
    outcome: Option<Outcome>,
}

impl Supervisor {
    /// Opens what is needed. Nothing is started yet.
    pub(crate) async fn start(config: Config) -> Result<Self, Failure> {
        let dir = std::env::current_dir()?;
        // Whatever can fail fails before anything is begun.
        if let Some(user) = &config.user {
            super::user::Identity::look_up(user).map_err(super::other)?;
        }
        let pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
        let mut inherited = match config.inherit {
            true => ServiceSocket::inherited()?,
            false => Vec::new(),
        };
        let mut sockets: Vec<Bound> = Vec::new();
        for wish in &config.listen {
            let Wish { address, said, at } = wish;
            let mut found = None;
            for index in 0..inherited.len() {
                if inherited[index].is(address, &dir).await {
                    found = Some(inherited.remove(index));
                    break;
                }
            }
            let socket = match found {
                Some(socket) => socket,
                None => ServiceSocket::open(address, &config.options, &dir).await?,
            };
            sockets.push(Bound {
                socket,
                said: said.clone(),
                at: *at,
            });
        }
        sockets.extend(inherited.into_iter().map(|socket| Bound {
            socket,
            said: None,
            at: None,
        }));
        let control = config
            .control
            .as_deref()
            .map(|path| ServiceSocket::control(&dir.join(path)));
        let control = control.transpose()?;
        let ack = match config.dialects.has(super::dialects::Dialect::Einhorn) {
            true => AckSocket::open().ok(),
            false => None,
        };
        let plan = Plan::new(config.plan.clone(), now());
        let mut supervisor = Self::with(config, plan)?;
        supervisor.sockets = sockets;
        supervisor.pid_file = pid_file;
        supervisor.control = control;
        supervisor.ack = ack;
        for bound in &supervisor.sockets {
            let (kind, address) = (bound.socket.kind(), bound.socket.address());
            supervisor.say(&format!("holds {kind} {address}"));
        }
        Ok(supervisor)
    }

    fn with(config: Config, plan: Plan) -> Result<Self, Failure> {
        let (send, messages) = unbounded_channel();
        let manager = std::env::var_os("NOTIFY_SOCKET").filter(|value| !value.is_empty());
        Ok(Self {
            writer: Writer::start(config.name),
            status_file: config.status_file.as_deref().map(StatusFile::new),
            manager: manager.and_then(|value| Notifier::new(&value).ok()),
            stop_signal: config.stop_signal,
            config,
            plan,
            sockets: Vec::new(),
            children: BTreeMap::new(),
            named: None,
            environment: super::environment::ours(),
            ack: None,
            control: None,
            followers: Vec::new(),
            pipes: Vec::new(),
            pid_file: None,
            announced: false,
            last: None,
            started: now(),
            send,
            messages,
            signals: Signals::new()?,
            outcome: None,
        })
    }

    /// Runs until all is over.
    pub(crate) async fn run(mut self) -> Result<ExitCode, Failure> {
        // Subreaper: what a program leaves behind comes to us, to be reaped.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        self.hear()?;
        // Those that died while we were being replaced have sent their signal, or will.
        self.reap();
        self.event(Event::Tick);
        let mut tell = Instant::now() + TELL;
        let every = self.config.every;
        let mut again = Instant::now() + every.unwrap_or_default();
        while self.outcome.is_none() {
            let wake = self
                .plan
                .next()
                .map(|at| Instant::now() + at.saturating_sub(now()));
            let follows = !self.followers.is_empty();
            let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                signal = self.signals.next() => self.signal(signal?),
                Some(message) = self.messages.recv() => self.message(message).await,
                () = sleep_until(wake) => self.event(Event::Tick),
                () = sleep_until(again), if every.is_some() => {
                    again = Instant::now() + every.unwrap_or_default();
                    self.event(Event::Replace);
                }
                () = sleep_until(tell), if follows => {
                    tell = Instant::now() + TELL;
                    self.tell_draining();
                }
            }
        }
        Ok(self.finish().await)
    }

    /// Starts to listen to whoever may say something.
    fn hear(&mut self) -> Result<(), Failure> {
        if let Some(ack) = &self.ack {
            let (send, mut acks) = unbounded_channel();
            ack.listen(send)?;
            let send = self.send.clone();
            tokio::spawn(async move {
                while let Some(pid) = acks.recv().await {
                    let _ = send.send(Message::Ack(pid));
                }
            });
        }
        if let Some(control) = &self.control {
            control::listen(control, self.send.clone())?;
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) {
        if signal == Signal::SIGCHLD {
            return self.reap();
        }
        let meaning = self.config.meanings.iter().find(|(one, _)| *one == signal);
        match meaning.map(|(_, meaning)| *meaning) {
            Some(Meaning::Replace) => {
                self.say(&format!("replaces the program, as {signal} asks"));
                self.notify_reload();
                self.event(Event::Replace);
            }
            Some(Meaning::Stop { as_it_is }) => {
                if as_it_is {
                    self.stop_signal = signal;
                }
                self.event(Event::Stop);
            }
            Some(Meaning::Reexec) => {
                if let Some(caller) = control::nobody() {
                    let _ = self.send.send(Message::Asked(Request::Reexec, caller));
                }
            }
            None => {
                let serving = self
                    .plan
                    .processes()
                    .filter(|(_, process)| !process.leaves());
                for (id, _) in serving {
                    if let Some(child) = self.children.get(&id) {
                        child.signal(signal as i32);
                    }
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        for action in self.plan.handle(event, now()) {
            self.act(action);
        }
    }

    async fn finish(mut self) -> ExitCode {
        let outcome = self.outcome.take().unwrap_or_default();
        output::drain(&self.pipes, &self.writer).await;
        self.tell_the_end(&outcome);
        self.remove_files();
        match outcome {
            Outcome { killed: 1.., .. } => ExitCode::from(INCOMPLETE),
            Outcome { exit: None, .. } => ExitCode::SUCCESS,
            Outcome {
                exit: Some(exit), ..
            } => {
                let status = match exit {
                    Exit::Status(status) => status,
                    Exit::Signal(signal) => BY_SIGNAL + signal,
                    Exit::NotStarted(_) => 126,
                    Exit::Unseen => 1,
                };
                ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
            }
        }
    }
}
