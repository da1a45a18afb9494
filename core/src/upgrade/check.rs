//! A check: a program shows that it could start, and takes nothing over.
//!
//! It is started with a channel, as a successor is, over which it is told that it is a check. No
//! socket and no state goes to it. What it says when it has come to its readiness is the result;
//! then it is to end, and is killed if it does not.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    attempt::{Attempt, Stop, lost},
    channel::{self, Channel, Received},
    checked::Checked,
    frame::{self, Decoded, Hello, Message},
    relay::{self, Relay},
    spawn::{self, Program},
};
use crate::{
    error::{Error, Kind},
    status::journal::Journal,
};

/// How long a program may take to end once it has shown what it can.
const END: Duration = Duration::from_secs(2);

/// Tries whether a program could start, without starting the service.
///
/// The program must use Handover. It runs as always up to
/// [`Generation::ready`](crate::Generation::ready), which returns an error of its own kind
/// ([`Error::is_check`]), so that it ends:
///
/// | in it | in a check |
/// |---|---|
/// | [`Generation::start`](crate::Generation::start) | works; nothing is inherited |
/// | [`listen`](crate::Generation::listen) and its kin | prove that the address may be bound; that it is in use is permitted, since mostly it is the service that has it. What they return never accepts |
/// | the pid file and the control socket | their directories are proven, nothing is written there |
/// | standard output | goes to our standard error, if the check is run by this type |
/// | the program's own work (configuration, database, caches) | is done; [`is_check`](crate::Generation::is_check) tells it what to leave out |
/// | `ready` | reports, and fails |
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), handover::Error> {
/// use handover::Check;
///
/// let checked = Check::new("/opt/app/next/app").args(["--config", "app.toml"]).run().await?;
/// for socket in &checked.sockets {
///     println!("{} at {}", socket.name, socket.address);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a check does nothing until it is run"]
pub struct Check {
    name: OsString,
    args: Vec<OsString>,
    dir: Option<PathBuf>,
    timeout: Duration,
}

impl Check {
    /// Of a program: a path, or a name that is looked up in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            name: program.into(),
            args: Vec::new(),
            dir: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// Its arguments.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The directory in which it is started, and from which its path is taken. Ours by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::Check;
    ///
    /// let check = Check::new("./app").dir("/opt/app/next").timeout(Duration::from_secs(20));
    /// println!("{check:?}");
    /// ```
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// How long it may take until it is ready; then it is killed. 60 seconds by default.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// As for an upgrade: if the program cannot be started, ends, says that it cannot, or is not
    /// ready in time. The error has its exit status and the end of its standard error.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the program is killed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and timer.
    pub async fn run(self) -> Result<Checked, Error> {
        let here = || {
            std::env::current_dir().map_err(|err| {
                let message = "cannot tell the directory to start the program in";
                Error::io(Kind::Spawn, message, err)
            })
        };
        let dir = match self.dir {
            Some(dir) if dir.is_absolute() => dir,
            Some(dir) => here()?.join(dir),
            None => here()?,
        };
        let inquiry = Inquiry {
            program: Program {
                name: self.name,
                args: self.args,
                dir,
                quiet: true,
                without: None,
                supervised: false,
            },
            generation: 0,
            timeout: self.timeout,
            journal: None,
        };
        run(inquiry).await
    }
}

/// What is to be checked.
pub(crate) struct Inquiry {
    pub(crate) program: Program,
    /// The number that the program is told.
    pub(crate) generation: u64,
    pub(crate) timeout: Duration,
    /// Told of each step.
    pub(crate) journal: Option<Arc<Journal>>,
}

/// Runs a check to its end.
pub(crate) async fn run(inquiry: Inquiry) -> Result<Checked, Error> {
    let begun = Instant::now();
    let failed = |err| Error::io(Kind::Channel, "cannot make a channel for a check", err);
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let channel = Channel::new(ours).map_err(failed)?;
    let ends = relay::ends().map_err(failed)?;
    let duplicate = || ends.as_ref().map(|ends| ends.read.try_clone()).transpose();
    let relay = duplicate().and_then(|read| read.map(Relay::start).transpose());
    let relay = relay.map_err(failed)?;
    let (name, supervised) = (inquiry.program.name.clone(), inquiry.program.supervised);
    let candidate = spawn::spawn(inquiry.program, theirs, ends, Arc::default()).await;
    let mut candidate = candidate.map_err(|err| {
        let message = format!("cannot start a program to check it, {}", name.display());
        Error::io(Kind::Spawn, message, err)
    })?;
    let pid = candidate.process().and_then(|process| process.id());
    let pid = pid.unwrap_or_default();
    tracing::info!(pid, "checking the program");
    let journal = inquiry.journal.as_deref();
    if let Some(journal) = journal {
        journal.checking(pid);
    }
    let mut attempt = Attempt {
        candidate,
        channel,
        relay,
        pid,
        journal: inquiry.journal.clone(),
    };
    let hello = Hello {
        version: frame::VERSION,
        predecessor: std::process::id(),
        successor: pid,
        generation: inquiry.generation,
        ready_timeout_ms: u64::try_from(inquiry.timeout.as_millis()).unwrap_or(u64::MAX),
        sockets: 0,
        states: 0,
        check: true,
        supervised,
    };
    let limit = inquiry.timeout;
    let checked = attempt.until(begun + limit, limit, |channel| async move {
        let send = async |message| channel.send(&message, b"", &[]).await.map_err(lost);
        send(Message::Hello(hello)).await?;
        send(Message::Start).await?;
        wait(channel, pid, journal).await
    });
    let checked = match checked.await {
        Ok(checked) => checked,
        // It may have said it and ended before we looked.
        Err(Stop::Exited(status)) => match attempt.last_word() {
            Some(Message::Checked(checked)) => checked,
            Some(Message::Failed { message }) => {
                return Err(attempt.give_up(Stop::Failed(message), BEFORE).await);
            }
            _ => return Err(attempt.give_up(Stop::Exited(status), BEFORE).await),
        },
        Err(stop) => return Err(attempt.give_up(stop, BEFORE).await),
    };
    if let Some(process) = attempt.candidate.process()
        && timeout(END, process.wait()).await.is_err()
    {
        tracing::warn!(pid, "the program that was checked does not end, killing it");
        let _ = process.start_kill();
        let _ = process.wait().await;
    }
    if let Some(relay) = &mut attempt.relay {
        // All that it wrote is to be there.
        let _ = relay.tail().await;
    }
    tracing::info!(
        pid,
        sockets = checked.sockets.len(),
        "the program can start"
    );
    if let Some(journal) = journal {
        journal.checked(pid);
    }
    Ok(checked)
}

const BEFORE: &str = "its check was over";

async fn wait(channel: &Channel, pid: u32, journal: Option<&Journal>) -> Result<Checked, Stop> {
    loop {
        let received = channel.recv().await.map_err(lost)?;
        let Some(Received { message, .. }) = received else {
            return Err(Stop::Channel("it closed its channel".to_owned()));
        };
        match message {
            Decoded::Known(Message::Checked(checked)) => return Ok(checked),
            Decoded::Known(Message::Failed { message }) => return Err(Stop::Failed(message)),
            Decoded::Known(Message::Progress { text }) => {
                tracing::info!(pid, progress = %text, "checking the program");
                if let Some(journal) = journal {
                    journal.initialising(pid, &text);
                }
            }
            Decoded::Known(_) => {}
            Decoded::Unknown(what) => {
                let unknown = Message::Unknown { what };
                channel.send(&unknown, b"", &[]).await.map_err(lost)?;
            }
        }
    }
}
