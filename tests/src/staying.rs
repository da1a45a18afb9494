//! Clients that stay: an `EventSource` and a WebSocket, which come back when they are told to go.

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message},
};

use crate::{
    harness::eventually,
    load::{EventSource, Target},
};

/// For an answer, which has no time of its own: long, since machines are busy.
const BOUND: Duration = Duration::from_secs(20);
/// How long a client that has lost something is away.
const AFTER_LOSS: Duration = Duration::from_millis(100);

/// What a browser says of the clients in its pages.
#[derive(Debug, Deserialize)]
#[non_exhaustive]
pub struct Browser {
    codes: Vec<u16>,
    ends: usize,
    came: usize,
    /// When each has connected again, in milliseconds of the Unix era.
    reconnects: Vec<u64>,
    /// How long each `EventSource` was away, in milliseconds.
    pub waits: Vec<u64>,
    failures: Vec<String>,
}

/// What all clients have seen.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// When each client has connected again.
    pub reconnects: Vec<Instant>,
    /// How often a client was told by which code.
    pub codes: Vec<u16>,
    /// Streams of events that have ended as they should.
    pub ends: usize,
    /// Messages and events that have come.
    pub came: usize,
    /// What was not as it should be.
    pub failures: Vec<String>,
    /// Which process each client has last heard of.
    latest: Vec<u32>,
}

/// Clients that stay until they are dropped.
#[derive(Debug)]
pub struct Staying {
    seen: Arc<Mutex<Seen>>,
    _clients: JoinSet<()>,
}

impl Staying {
    /// So many WebSockets, and as many streams of events; the former ask, and the latter are sent an
    /// event, after each `pause`. One that fails says so, and comes back after a moment.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(target: &Target, of_each: usize, pause: Duration) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            latest: vec![0; 2 * of_each],
            ..Seen::default()
        }));
        let mut clients = JoinSet::new();
        for number in 0..of_each {
            let client = |number| Client {
                number,
                target: target.clone(),
                pause,
                // A thousand of each in a second.
                delay: Duration::from_millis(number as u64 / 2),
                seen: seen.clone(),
            };
            clients.spawn(client(2 * number).talk());
            clients.spawn(client(2 * number + 1).listen());
        }
        Self {
            seen,
            _clients: clients,
        }
    }

    /// Waits until each has heard of this process.
    ///
    /// # Panics
    ///
    /// If one has failed, or they have not after a long time.
    pub async fn arrived(&self, pid: u32) {
        let what = format!("all clients to be served by process {pid}");
        let arrived = eventually(&what, 2 * BOUND, async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(seen.failures.is_empty(), "{:?}", seen.failures);
            seen.latest
                .iter()
                .all(|latest| *latest == pid)
                .then_some(())
        });
        arrived.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// What they have seen since the last time.
    #[must_use]
    pub fn take(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = seen.latest.clone();
        let empty = Seen {
            latest,
            ..Seen::default()
        };
        std::mem::replace(&mut *seen, empty)
    }
}

impl Seen {
    /// Adds what others have seen on this machine.
    pub fn add(&mut self, browser: &Browser) {
        let (here, there) = (Instant::now(), SystemTime::now());
        let instant = |milliseconds: &u64| {
            let then = SystemTime::UNIX_EPOCH + Duration::from_millis(*milliseconds);
            here - there.duration_since(then).unwrap_or_default()
        };
        self.codes.extend(&browser.codes);
        self.ends += browser.ends;
        self.came += browser.came;
        self.reconnects
            .extend(browser.reconnects.iter().map(instant));
        self.failures.extend(browser.failures.iter().cloned());
    }

    /// The most that have come back within one second.
    #[must_use]
    pub fn peak(&self) -> usize {
        let mut times = self.reconnects.clone();
        times.sort_unstable();
        let mut first = 0;
        let within = times.iter().enumerate().map(|(at, time)| {
            while *time - times[first] >= Duration::from_secs(1) {
                first += 1;
            }
            at + 1 - first
        });
        within.max().unwrap_or(0)
    }
}

struct Client {
    number: usize,
    target: Target,
    pause: Duration,
    delay: Duration,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    fn saw(&self, act: impl FnOnce(&mut Seen)) {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn heard_of(&self, pid: u32) {
        self.saw(|seen| {
            seen.latest[self.number] = pid;
            seen.came += 1;
        });
    }

    async fn failed(&self, failure: String) {
        self.saw(|seen| seen.failures.push(failure));
        sleep(AFTER_LOSS).await;
    }

    /// A WebSocket that asks one thing after another, and again what was not answered.
    async fn talk(self) {
        let mut asked = 0_u64;
        sleep(self.delay).await;
        loop {
            let (again, told) = match self.converse(&mut asked).await {
                Ok(told) => told,
                Err(failure) => {
                    self.failed(failure).await;
                    continue;
                }
            };
            self.saw(|seen| seen.codes.push(told));
            sleep(again).await;
            self.saw(|seen| seen.reconnects.push(Instant::now()));
        }
    }

    /// Ends when it is told to: with when to come back, and the code.
    async fn converse(&self, asked: &mut u64) -> Result<(Duration, u16), String> {
        let at = |what: &str| format!("WebSocket {} at {asked}: {what}", self.number);
        let stream = self.target.connect().await;
        let stream = stream.map_err(|error| at(&error.to_string()))?;
        let opened = client_async("ws://handover.test/ws", stream).await;
        let (mut socket, head) = opened.map_err(|error| at(&error.to_string()))?;
        let pid = head
            .headers()
            .get("x-pid")
            .and_then(|pid| pid.to_str().ok());
        let pid = pid.and_then(|pid| pid.parse().ok()).unwrap_or(0);
        let mut told = None;
        'asking: loop {
            let question = Message::text(asked.to_string());
            match socket.send(question).await {
                // It has come, and is read below.
                Ok(()) | Err(Error::Protocol(_)) => {}
                Err(error) => return Err(format!("asking {asked}: {error}")),
            }
            let mut answered = false;
            loop {
                let time = if answered { self.pause } else { BOUND };
                let Ok(next) = timeout(time, socket.next()).await else {
                    if answered {
                        break;
                    }
                    return Err(format!("no answer to {asked}"));
                };
                match next {
                    Some(Ok(Message::Text(answer))) if told.is_none() && !answered => {
                        if *answer != asked.to_string() {
                            return Err(format!("{answer} for {asked}"));
                        }
                        *asked += 1;
                        self.heard_of(pid);
                        answered = true;
                    }
                    Some(Ok(Message::Close(Some(frame)))) => {
                        let hint = frame.reason.rsplit_once("retry in ");
                        let time = hint.and_then(|(_, time)| time.strip_suffix(" s")?.parse().ok());
                        let time: f64 = time.ok_or_else(|| format!("{frame:?}"))?;
                        told = Some((Duration::from_secs_f64(time), frame.code.into()));
                    }
                    Some(Ok(other)) => return Err(format!("{other:?}")),
                    // Over TLS: the close was its goodbye, and nothing else says close_notify.
                    Some(Err(Error::Io(error)))
                        if told.is_some() && error.kind() == ErrorKind::UnexpectedEof =>
                    {
                        break 'asking;
                    }
                    Some(Err(error)) => return Err(format!("waiting for {asked}: {error}")),
                    None => break 'asking,
                }
            }
        }
        told.ok_or_else(|| format!("an end without a close, at {asked}"))
    }

    async fn listen(self) {
        let mut source = EventSource::default();
        let path = format!("/sse?ms={}", self.pause.as_millis());
        sleep(self.delay).await;
        loop {
            let heard = |pid: &str| self.heard_of(pid.parse().unwrap_or(0));
            match source.follow(&self.target, &path, heard).await {
                Ok(()) => self.saw(|seen| seen.ends += 1),
                Err(failure) => {
                    self.failed(format!("after {:?}: {failure:#}", source.last))
                        .await;
                    continue;
                }
            }
            sleep(source.retry).await;
            self.saw(|seen| seen.reconnects.push(Instant::now()));
        }
    }
}
