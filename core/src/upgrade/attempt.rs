//! The predecessor's side of an upgrade, until the successor serves.
//!
//! 1. Start the program, with its end of the channel.
//! 2. Send hello, the sockets, the state.
//! 3. Wait until it is ready; show its progress.
//! 4. Commit.
//! 5. Wait until it serves.
//!
//! If any step fails, or the attempt is dropped, the successor is killed and this process is what
//! it was before: nothing here touches a socket. Only if this process itself comes to an end that
//! nobody asked for, as by a panic, is the successor [spared](Course::spared).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};

use super::{
    Successor,
    channel::{self, Channel, Received},
    frame::{self, Decoded, Hello, Message, Older},
    link::Link,
    process::{Candidate, Process},
    relay::{self, Relay},
    spawn::{self, Program},
};
use crate::{
    error::{Error, Kind},
    fault,
    moving::outbound::Route,
    sockets::held::Passing,
    state::{Kept, What, stream},
    status::journal::Journal,
    systemd::Manager,
    testing::Seat,
};

/// How long a successor may take from the commit until it serves. All that happens in between is
/// ours and short: the pid file is renamed, the gates are opened.
const SERVING: Duration = Duration::from_secs(10);
/// How long one that has said why it fails may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a successor gets.
pub(crate) struct Offer {
    pub(crate) program: Program,
    /// Takes the place of the program, in a test of a user's.
    pub(crate) seat: Option<Arc<Seat>>,
    pub(crate) generation: u64,
    pub(crate) ready_timeout: Duration,
    pub(crate) sockets: Arc<Passing>,
    pub(crate) states: Vec<Kept>,
    /// The generations before it, ourselves included, with the channels to them.
    pub(crate) older: Vec<(Older, OwnedFd)>,
    /// Opened once the successor serves.
    pub(crate) route: Route,
    /// Told of each step.
    pub(crate) journal: Arc<Journal>,
    pub(crate) course: Arc<Course>,
    /// Learns what the successor says it does.
    pub(crate) manager: Arc<Manager>,
}

/// How far an attempt is, for who conducts it.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// There is a process.
    pub(crate) started: AtomicBool,
    /// It may accept.
    pub(crate) committed: AtomicBool,
    /// It is to live if the attempt is dropped, and to carry on alone: this process ends, and not
    /// because it was told to.
    pub(crate) spared: AtomicBool,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// There is no process yet, or none any more that was committed to.
    Starting,
    /// There is one, which may not accept yet: the attempt can be dropped, and it with it.
    Started,
    /// It may accept. What becomes of the attempt is not in our hand any more.
    Committed,
    /// It might have accepted, and has ended since; what is left of the attempt is to say so.
    Undone,
}

impl Course {
    pub(crate) fn stage(&self) -> Stage {
        let load = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        match (load(&self.started), load(&self.committed)) {
            (false, false) => Stage::Starting,
            (true, false) => Stage::Started,
            (true, true) => Stage::Committed,
            (false, true) => Stage::Undone,
        }
    }
}

/// Runs an attempt to its end.
pub(crate) async fn run(offer: Offer) -> Result<Link, Error> {
    let begun = Instant::now();
    let failed = |err: std::io::Error| {
        let kind = match err.kind() {
            std::io::ErrorKind::Unsupported => Kind::Unsupported,
            _ => Kind::Channel,
        };
        Error::io(kind, "cannot make a channel for a successor", err)
    };
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let channel = Channel::new(ours).map_err(failed)?;
    let ends = match offer.seat {
        // Standard error is not the successor's alone.
        Some(_) => None,
        None => relay::ends().map_err(failed)?,
    };
    let duplicate = || ends.as_ref().map(|ends| ends.read.try_clone()).transpose();
    let relay = duplicate().and_then(|read| read.map(Relay::start).transpose());
    let (relay, read) = (relay.map_err(failed)?, duplicate().map_err(failed)?);
    let course = Arc::clone(&offer.course);
    let span = tracing::info_span!(target: "handover::upgrade", "spawn");
    let candidate = match &offer.seat {
        Some(seat) => span.in_scope(|| {
            seat.launch(theirs)
                .map(|thread| Candidate::new(Process::Thread(thread), course))
        }),
        None => {
            let spawned = spawn::spawn(offer.program.clone(), theirs, ends, course);
            spawned.instrument(span.clone()).await
        }
    };
    drop(span);
    let mut candidate = candidate.map_err(|err| {
        let name = offer.program.name.display();
        let message = format!("cannot start a successor, {name}");
        Error::io(Kind::Spawn, message, err)
    })?;
    let pid = candidate
        .process()
        .and_then(|process| process.id())
        .unwrap_or_default();
    Span::current().record("successor", pid);
    tracing::info!(
        successor = pid,
        generation = offer.generation,
        "successor started"
    );
    fault::comes_to("spawned").await;

    offer.manager.successor_started(pid);
    offer.journal.starting(pid, offer.generation);
    let journal = Arc::clone(&offer.journal);
    let journal = &*journal;
    let manager = Arc::clone(&offer.manager);
    let told = (journal, &*manager);
    let limit = offer.ready_timeout;
    let route = offer.route.clone();
    let passing = Arc::clone(&offer.sockets);
    let mut attempt = Attempt {
        candidate,
        channel,
        relay,
        pid,
        journal: Some(Arc::clone(&offer.journal)),
    };
    let ready = attempt.until(begun + limit, limit, |channel| async move {
        let span = tracing::info_span!(target: "handover::upgrade", "send");
        send_all(channel, &offer, pid, read)
            .instrument(span)
            .await?;
        let span = tracing::info_span!(target: "handover::upgrade", "start");
        let ready = wait_for(channel, pid, &offer.sockets, &[Message::Ready], told);
        ready.instrument(span).await?;
        fault::comes_to("ready-heard").await;
        // From here on it may accept: what happens to the attempt is no longer ours alone.
        offer.course.committed.store(true, Ordering::Release);
        channel
            .send(&Message::Commit, b"", &[])
            .await
            .map_err(lost)?;
        fault::comes_to("commit-sent").await;
        Ok(offer.generation)
    });
    let generation = match ready.await {
        Ok(generation) => generation,
        Err(stop) => return Err(attempt.give_up(stop, "it was ready").await),
    };
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(successor = pid, generation, millis, "successor ready");
    journal.ready(pid);

    // It may be told to stop at once, and say goodbye before or right after it says that it serves.
    let taken_over = [Message::Serving, Message::Bye];
    let serving = attempt.until(Instant::now() + SERVING, SERVING, |channel| {
        wait_for(channel, pid, &passing, &taken_over, told)
    });
    let span = tracing::info_span!(target: "handover::upgrade", "commit");
    let said = match serving.instrument(span).await {
        Ok(said) => said,
        // What it said before it ended counts: it had taken over, and what is to follow from its end
        // is for who watches over it from now on.
        Err(Stop::Exited(status)) => match attempt.last_word() {
            Some(said) if taken_over.contains(&said) => said,
            Some(Message::Failed { message }) => {
                return Err(attempt.give_up(Stop::Failed(message), "it served").await);
            }
            _ => return Err(attempt.give_up(Stop::Exited(status), "it served").await),
        },
        Err(stop) => return Err(attempt.give_up(stop, "it served").await),
    };
    fault::comes_to("serving-heard").await;
    passing.settle();
    let Attempt {
        candidate,
        channel,
        relay,
        ..
    } = attempt;
    let mut link = Link::new(
        Successor::new(pid, generation),
        candidate.keep(),
        channel,
        route,
        relay,
    );
    if said == Message::Bye {
        link.release();
    }
    Ok(link)
}

pub(super) struct Attempt {
    // First, so that it is killed before it can see the channel end and take itself for an heir.
    pub(super) candidate: Candidate,
    pub(super) channel: Channel,
    pub(super) relay: Option<Relay>,
    pub(super) pid: u32,
    /// Told of what the successor says that it does.
    pub(super) journal: Option<Arc<Journal>>,
}

/// Why an attempt stops.
pub(super) enum Stop {
    Exited(std::io::Result<ExitStatus>),
    TimedOut(Duration),
    /// The successor said so.
    Failed(String),
    /// The channel failed, or what came over it was nonsense.
    Channel(String),
}

impl Attempt {
    /// Does one step, unless the successor ends or the time is over. An end comes first: it says
    /// more than what follows from it.
    pub(super) async fn until<'a, T, F>(
        &'a mut self,
        deadline: Instant,
        limit: Duration,
        step: impl FnOnce(&'a Channel) -> F,
    ) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, Stop>>,
    {
        let Some(process) = self.candidate.process() else {
            return Err(Stop::Channel("it has no process".to_owned()));
        };
        let step = step(&self.channel);
        tokio::select! {
            biased;
            status = process.wait() => Err(Stop::Exited(status)),
            done = timeout_at(deadline, step) => done.unwrap_or(Err(Stop::TimedOut(limit))),
        }
    }

    /// What a successor that has ended left in the channel, if that was an explanation.
    fn explanation(&self) -> Option<String> {
        loop {
            match self.last_word()? {
                Message::Failed { message } => return Some(message),
                _ => continue,
            }
        }
    }

    /// How the successor says its start went, from what it left in the channel. What it did before
    /// is told now: it may have ended before anybody came to listen.
    pub(super) fn last_word(&self) -> Option<Message> {
        while let Ok(Some(Received { message, .. })) = self.channel.try_recv() {
            match message {
                Decoded::Known(Message::Progress { text }) => {
                    if let Some(journal) = &self.journal {
                        journal.initialising(self.pid, &text);
                    }
                }
                Decoded::Known(
                    message @ (Message::Failed { .. }
                    | Message::Serving
                    | Message::Bye
                    | Message::Checked(_)),
                ) => return Some(message),
                _ => {}
            }
        }
        None
    }

    /// Kills and reaps the successor, and says what happened.
    pub(super) async fn give_up(mut self, stop: Stop, before: &str) -> Error {
        let mut said = None;
        let mut status = None;
        let (kind, what) = match stop {
            Stop::Exited(exited) => {
                said = self.explanation();
                status = Some(exited);
                (Kind::Failed, None)
            }
            Stop::TimedOut(limit) => {
                let what = format!("was killed: {limit:?} were over before {before}");
                (Kind::TimedOut, Some(what))
            }
            Stop::Failed(message) => {
                said = Some(message);
                (Kind::Failed, None)
            }
            // Mostly because it ends at this moment.
            Stop::Channel(what) => (Kind::Failed, Some(what)),
        };
        if let (None, Some(process)) = (&status, self.candidate.process()) {
            let patience = if kind == Kind::TimedOut {
                Duration::ZERO
            } else {
                LAST_WORDS
            };
            match tokio::time::timeout(patience, process.wait()).await {
                Ok(exited) => {
                    said = said.or_else(|| self.explanation());
                    status = Some(exited);
                }
                Err(_) => {
                    let _ = process.start_kill();
                    let _ = process.wait().await;
                }
            }
        }
        let tail = match &mut self.relay {
            Some(relay) => relay.tail().await,
            None => String::new(),
        };
        let mut message = format!("the successor (pid {})", self.pid);
        match (what, status) {
            (Some(what), _) if kind == Kind::TimedOut => message += &format!(" {what}"),
            (_, Some(Ok(status))) => message += &format!(" ended before {before}, {status}"),
            (_, Some(Err(err))) => message += &format!(" ended before {before}: {err}"),
            (Some(what), None) => message += &format!(" failed before {before}: {what}"),
            (None, None) => message += &format!(" failed before {before}, and was killed"),
        }
        if let Some(said) = said {
            message += &format!("; it said: {said}");
        }
        if !tail.is_empty() {
            message += &format!("; the end of its standard error: {tail}");
        }
        Error::new(kind, message)
    }
}

pub(super) fn lost(err: std::io::Error) -> Stop {
    Stop::Channel(format!("its channel failed: {err}"))
}

async fn send_all(
    channel: &Channel,
    offer: &Offer,
    pid: u32,
    stderr: Option<OwnedFd>,
) -> Result<(), Stop> {
    let hello = Hello {
        version: frame::VERSION,
        predecessor: std::process::id(),
        successor: pid,
        generation: offer.generation,
        ready_timeout_ms: u64::try_from(offer.ready_timeout.as_millis()).unwrap_or(u64::MAX),
        sockets: offer.sockets.sockets().len() as u64,
        states: offer.states.len() as u64,
        check: false,
        supervised: offer.program.supervised,
    };
    channel
        .send(&Message::Hello(hello), b"", &[])
        .await
        .map_err(lost)?;
    fault::comes_to("hello-sent").await;
    if let Some(read) = stderr {
        let fds = [rustix::stdio::stderr(), read.as_fd()];
        channel
            .send(&Message::Stderr, b"", &fds)
            .await
            .map_err(lost)?;
    }
    if !offer.older.is_empty() {
        let generations = offer.older.iter().map(|(older, _)| older.clone()).collect();
        let fds: Vec<_> = offer.older.iter().map(|(_, fd)| fd.as_fd()).collect();
        let message = Message::Older { generations };
        channel.send(&message, b"", &fds).await.map_err(lost)?;
    }
    for some in offer.sockets.sockets().chunks(frame::SOCKETS) {
        let sockets = some.iter().map(|held| held.record.clone()).collect();
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(|held| held.as_fd()).collect();
        channel
            .send(&Message::Sockets { sockets }, b"", &fds)
            .await
            .map_err(lost)?;
    }
    fault::comes_to("sockets-sent").await;
    for kept in &offer.states {
        send_state(channel, kept).await?;
    }
    channel
        .send(&Message::Start, b"", &[])
        .await
        .map_err(lost)?;
    fault::comes_to("start-sent").await;
    Ok(())
}

async fn send_state(channel: &Channel, kept: &Kept) -> Result<(), Stop> {
    let (name, version) = (kept.name.clone(), kept.version);
    let mut rest = match &kept.what {
        What::Blob(blob) => blob.as_slice(),
        What::Stream(write) => {
            let end = stream::begin(&name, write.clone())
                .map_err(|err| Stop::Channel(format!("state {name:?} cannot be sent: {err}")))?;
            let message = Message::Stream { name, version };
            let fds = [end.as_fd()];
            return channel.send(&message, b"", &fds).await.map_err(lost);
        }
    };
    loop {
        let (piece, after) = rest.split_at(rest.len().min(frame::PAYLOAD));
        let message = Message::State {
            name: name.clone(),
            last: after.is_empty(),
            version,
        };
        channel.send(&message, piece, &[]).await.map_err(lost)?;
        fault::comes_to("state-sent").await;
        rest = after;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Waits for one of some messages.
async fn wait_for(
    channel: &Channel,
    pid: u32,
    passing: &Passing,
    wanted: &[Message],
    told: (&Journal, &Manager),
) -> Result<Message, Stop> {
    loop {
        let received = channel.recv().await.map_err(lost)?;
        let Some(Received { message, .. }) = received else {
            return Err(Stop::Channel("it closed its channel".to_owned()));
        };
        match message {
            Decoded::Known(message) if wanted.contains(&message) => return Ok(message),
            Decoded::Known(Message::Failed { message }) => return Err(Stop::Failed(message)),
            Decoded::Known(Message::Progress { text }) => {
                tracing::info!(successor = pid, progress = %text, "successor starting");
                told.0.initialising(pid, &text);
                told.1.successor_starting(&text);
                fault::comes_to("progress-heard").await;
            }
            Decoded::Known(Message::Unused { names }) => passing.unused(&names),
            Decoded::Known(Message::Starting { version }) => {
                tracing::debug!(successor = pid, version, "successor has its sockets");
                fault::comes_to("starting-heard").await;
            }
            Decoded::Known(other) => {
                tracing::debug!(successor = pid, ?other, "not expected now, ignored");
            }
            Decoded::Unknown(what) => {
                channel
                    .send(&Message::Unknown { what }, b"", &[])
                    .await
                    .map_err(lost)?;
            }
        }
    }
}
