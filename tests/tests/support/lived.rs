//! Clients that stay: an `EventSource` and a WebSocket, which come back when they are told to go.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use handover_tests::{
    harness::eventually,
    load::{Connection, Target},
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message},
};

use super::BOUND;

/// What all clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When each client has connected again.
    pub(crate) reconnects: Vec<Instant>,
    /// How often a client was told by which code.
    pub(crate) codes: Vec<u16>,
    /// Streams of events that have ended as they should.
    pub(crate) ends: usize,
    /// Messages and events that have come.
    pub(crate) came: usize,
    pub(crate) failures: Vec<String>,
    /// Which process each client has last heard of.
    latest: Vec<u32>,
}

/// Clients that stay until they are dropped.
#[derive(Debug)]
pub(crate) struct Staying {
    seen: Arc<Mutex<Seen>>,
    _clients: JoinSet<()>,
}

impl Staying {
    /// So many WebSockets, and as many streams of events.
    pub(crate) fn start(target: &Target, of_each: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            latest: vec![0; 2 * of_each],
            ..Seen::default()
        }));
        let mut clients = JoinSet::new();
        for number in 0..of_each {
            let client = |number| Client {
                number,
                target: target.clone(),
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
    pub(crate) async fn arrived(&self, pid: u32) {
        let what = format!("all clients to be served by process {pid}");
        let arrived = eventually(&what, 2 * BOUND, async || {
            let seen = self.seen.lock().unwrap();
            assert!(seen.failures.is_empty(), "{:?}", seen.failures);
            seen.latest
                .iter()
                .all(|latest| *latest == pid)
                .then_some(())
        });
        arrived.await.unwrap();
    }

    /// What they have seen since the last time.
    pub(crate) fn take(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap();
        let latest = seen.latest.clone();
        let empty = Seen {
            latest,
            ..Seen::default()
        };
        std::mem::replace(&mut *seen, empty)
    }
}

impl Seen {
    /// The most that have come back within one second.
    pub(crate) fn peak(&self) -> usize {
        let mut times = self.reconnects.clone();
        times.sort_unstable();
        let second = Duration::from_secs(1);
        let within = |from: &Instant| {
            let later = times.iter().filter(|time| *time >= from);
            later.filter(|time| **time - *from < second).count()
        };
        times.iter().map(within).max().unwrap_or(0)
    }
}

struct Client {
    number: usize,
    target: Target,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    fn saw(&self, act: impl FnOnce(&mut Seen)) {
        act(&mut self.seen.lock().unwrap());
    }

    fn heard_of(&self, pid: u32) {
        self.saw(|seen| {
            seen.latest[self.number] = pid;
            seen.came += 1;
        });
    }

    async fn failed(&self, failure: String) {
        self.saw(|seen| seen.failures.push(failure));
        sleep(BOUND).await;
    }

    /// A WebSocket that asks one thing after another, and again what was not answered.
    async fn talk(self) {
        let mut asked = 0_u64;
        loop {
            let (again, told) = match self.converse(&mut asked).await {
                Ok(told) => told,
                Err(failure) => return self.failed(failure).await,
            };
            self.saw(|seen| seen.codes.push(told));
            sleep(again).await;
            self.saw(|seen| seen.reconnects.push(Instant::now()));
        }
    }

    /// Ends when it is told to: with when to come back, and the code.
    async fn converse(&self, asked: &mut u64) -> Result<(Duration, u16), String> {
        let at = |what: &str| format!("WebSocket {} at {asked}: {what}", self.number);
        let Target::Tcp(address) = self.target else {
            return Err(at("it speaks TCP"));
        };
        let stream = TcpStream::connect(address).await;
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
            loop {
                let next = timeout(BOUND, socket.next()).await;
                match next.map_err(|_| format!("no answer to {asked}"))? {
                    Some(Ok(Message::Text(answer))) if told.is_none() => {
                        if *answer != asked.to_string() {
                            return Err(format!("{answer} for {asked}"));
                        }
                        *asked += 1;
                        self.heard_of(pid);
                        break;
                    }
                    Some(Ok(Message::Close(Some(frame)))) => {
                        let hint = frame.reason.rsplit_once("retry in ");
                        let time = hint.and_then(|(_, time)| time.strip_suffix(" s")?.parse().ok());
                        let time: f64 = time.ok_or_else(|| format!("{frame:?}"))?;
                        told = Some((Duration::from_secs_f64(time), frame.code.into()));
                    }
                    Some(Ok(other)) => return Err(format!("{other:?}")),
                    Some(Err(error)) => return Err(format!("waiting for {asked}: {error}")),
                    None => break 'asking,
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        told.ok_or_else(|| format!("an end without a close, at {asked}"))
    }

    /// An `EventSource`, as the standard has it.
    async fn listen(self) {
        let mut last: Option<u64> = None;
        let mut retry = Duration::from_secs(3);
        loop {
            match self.follow(&mut last, &mut retry).await {
                Ok(()) => self.saw(|seen| seen.ends += 1),
                Err(failure) => return self.failed(failure).await,
            }
            sleep(retry).await;
            self.saw(|seen| seen.reconnects.push(Instant::now()));
        }
    }

    /// Ends with the stream.
    async fn follow(&self, last: &mut Option<u64>, retry: &mut Duration) -> Result<(), String> {
        let opened = Connection::open(&self.target).await;
        let mut connection = opened.map_err(|error| format!("opening: {error:?}"))?;
        let seen = last.map(|id| format!("last-event-id: {id}\r\n"));
        let head = format!(
            "GET /sse?ms=100 HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{}\r\n",
            seen.unwrap_or_default()
        );
        let sent = connection.send(head.as_bytes()).await;
        sent.map_err(|error| format!("asking: {error:?}"))?;
        let mut text = String::new();
        let mut wrong = None;
        let mut told = false;
        let received = connection
            .receive(|bytes| {
                text.push_str(&String::from_utf8_lossy(bytes));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let (mut id, mut pid) = (None, None);
                    for line in event.lines() {
                        let (field, value) = line.split_once(':').unwrap_or((line, ""));
                        let number = value.trim_start().parse::<u64>().ok();
                        match field {
                            "id" => id = number,
                            "data" => pid = number,
                            "retry" => {
                                told = true;
                                *retry = Duration::from_millis(number.unwrap_or(0));
                            }
                            _ => {}
                        }
                    }
                    if let (Some(id), Some(pid)) = (id, pid) {
                        if id != last.map_or(0, |last| last + 1) {
                            wrong = Some(format!("event {id} after {last:?}"));
                        }
                        *last = Some(id);
                        self.heard_of(pid as u32);
                    }
                    text = rest.to_owned();
                }
            })
            .await;
        let head = received.map_err(|loss| format!("events after {last:?}: {loss:?}"))?;
        match wrong {
            Some(wrong) => Err(wrong),
            None if head.status != 200 || !told => Err(format!("{head:?}, told: {told}")),
            None => Ok(()),
        }
    }
}
