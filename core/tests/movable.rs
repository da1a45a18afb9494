//! Connections of a program's own protocol, that go from one generation to the next.

#![cfg(unix)]

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

#[cfg(feature = "proxy-protocol")]
use handover::accept::ProxyProtocol;
use handover::{
    Accept, Generation, GenerationBuilder, Phase,
    accept::{MAX_STATE, Movable, Movables, Protocol, Wish},
    testing::{Member, Outcome, Service},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the next generations behave; shared by all.
#[derive(Clone)]
struct Script {
    protocol: Protocol,
    /// Never takes what its predecessor gives.
    adopts_nothing: bool,
    /// What is added to a session's state.
    ballast: usize,
    /// Behind a balancer that says who its clients are.
    #[cfg(feature = "proxy-protocol")]
    is_proxied: bool,
    move_timeout: Duration,
    /// A line "wait" is answered when this is told.
    go_on: Arc<Notify>,
    /// What was wished of sessions, and whether they moved.
    log: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new() -> Self {
        Self {
            protocol: Protocol::new("lines", 1),
            adopts_nothing: false,
            ballast: 0,
            #[cfg(feature = "proxy-protocol")]
            is_proxied: false,
            move_timeout: PATIENCE,
            go_on: Arc::default(),
            log: Arc::default(),
        }
    }

    fn says(&self, text: impl Into<String>) {
        self.log.lock().unwrap().push(text.into());
    }

    async fn said(&self, text: &str) {
        let found = async {
            while !self.log.lock().unwrap().iter().any(|line| line == text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if timeout(PATIENCE, found).await.is_err() {
            panic!("not {text:?} but {:?}", self.log.lock().unwrap());
        }
    }
}

/// Answers each line with the number of the generation, that of the line, and the line.
async fn program(builder: GenerationBuilder, script: Script) -> Result<()> {
    let generation = builder.move_timeout(script.move_timeout).start()?;
    let listener = generation.listen("lines=127.0.0.1:0").await?;
    #[cfg(feature = "proxy-protocol")]
    if script.is_proxied {
        let listener = ProxyProtocol::new(listener, &generation.graceful());
        return sessions(listener, generation, script).await;
    }
    sessions(listener, generation, script).await
}

async fn sessions<A: Accept>(listener: A, generation: Generation, script: Script) -> Result<()> {
    let (number, graceful) = (generation.number(), generation.graceful());
    let mut sessions = Movables::new(listener, script.protocol, &graceful);
    generation.ready().await?;
    if script.adopts_nothing {
        let _sessions = sessions;
        graceful.drained().await;
        return Ok(());
    }
    while let Some(session) = sessions.next().await {
        let script = script.clone();
        tokio::spawn(async move {
            let ended = serve(session, number, &script).await;
            script.says(format!("{number}: {ended:?}"));
        });
    }
    let report = graceful.drained().await;
    script.says(format!("{number}: moved {}", report.moved));
    Ok(())
}

async fn serve<Io>(mut session: Movable<Io>, number: u64, script: &Script) -> io::Result<()>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut count = match session.take_state() {
        Some(state) => u64::from_le_bytes(state[..8].try_into().unwrap()),
        None => 0,
    };
    let mut wishes = session.wishes();
    let mut reader = BufReader::new(session);
    let mut line = Vec::new();
    loop {
        tokio::select! {
            biased;
            wish = wishes.next() => {
                script.says(format!("{number}: {wish:?}"));
                if wish != Wish::Move {
                    continue;
                }
                let mut state = count.to_le_bytes().to_vec();
                state.resize(8 + script.ballast, 7);
                line.extend_from_slice(reader.buffer());
                let Err(mut back) = reader.into_inner().give(line, state).await else {
                    return Ok(());
                };
                assert_eq!(back.take_state().unwrap().len(), 8 + script.ballast);
                script.says(format!("{number}: back"));
                (reader, line) = (BufReader::new(back), Vec::new());
            }
            read = reader.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                if line == b"wait\n" {
                    script.says("waiting");
                    script.go_on.notified().await;
                }
                count += 1;
                if line == b"who\n" {
                    let connection = reader.get_ref().connection();
                    let said = connection.proxied().map(|said| said.balancer().to_string());
                    line = format!("{} by {said:?}\n", connection.peer()).into_bytes();
                }
                let text = String::from_utf8_lossy(&line);
                reader.write_all(format!("{number}:{count}:{text}").as_bytes()).await?;
                line.clear();
            }
        }
    }
}

async fn start(script: &Arc<Mutex<Script>>) -> Service {
    let script = script.clone();
    let service = Service::start(move |builder| {
        let script = script.lock().unwrap().clone();
        program(builder, script)
    });
    service.await.unwrap()
}

fn shared(script: Script) -> Arc<Mutex<Script>> {
    Arc::new(Mutex::new(script))
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(member: &Member) -> Self {
        let address = member.address("lines").unwrap().to_string();
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> String {
        let mut line = String::new();
        let read = in_time(self.0.read_line(&mut line)).await;
        assert_ne!(read.unwrap(), 0, "the connection was closed");
        line.trim_end().to_owned()
    }

    async fn ask(&mut self, text: &str) -> String {
        self.send(&format!("{text}\n")).await;
        self.receive().await
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

async fn ended(member: &Member) {
    assert_eq!(in_time(member.ended()).await, Outcome::Success);
}

/// A service that has answered one line of a client, "a".
async fn with_a_client(script: Script) -> (Arc<Mutex<Script>>, Service, Member, Client) {
    let script = shared(script);
    let service = start(&script).await;
    let first = service.current();
    let mut client = Client::connect(&first).await;
    assert_eq!(client.ask("a").await, "0:1:a");
    (script, service, first, client)
}

#[tokio::test]
async fn sessions_live_through_many_upgrades() {
    let script = shared(Script::new());
    let service = start(&script).await;
    let first = service.current();
    let mut idle = Client::connect(&first).await;
    let mut client = Client::connect(&first).await;
    assert_eq!(client.ask("x").await, "0:1:x");
    let talk = tokio::spawn(async move {
        let mut seen = String::new();
        let mut count = 1;
        while !seen.starts_with("10:") {
            count += 1;
            seen = client.ask("tick").await;
            assert!(seen.ends_with(&format!(":{count}:tick")), "{seen}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        client
    });
    let mut members = vec![first];
    for _ in 0..10 {
        members.push(service.upgrade().await.unwrap());
    }
    let mut client = in_time(talk).await.unwrap();
    assert_eq!(idle.ask("hello").await, "10:1:hello");
    for member in &members[..10] {
        ended(member).await;
    }
    // Each generation gave away both, and neither was told to close.
    let said = script.lock().unwrap().log.lock().unwrap().clone();
    for number in 0..10 {
        let moved = format!("{number}: moved 2");
        assert!(said.contains(&moved), "no {moved:?} in {said:?}");
    }
    assert!(!said.iter().any(|line| line.contains("Close")), "{said:?}");
    // The last generation lists them, as old as they are.
    let holders = members[10].graceful().holders();
    assert_eq!(holders.len(), 2, "{holders:?}");
    assert_eq!(client.ask("end").await.split(':').next(), Some("10"));
}

#[tokio::test]
async fn a_message_that_has_half_come_moves_and_is_read_once() {
    let script = shared(Script::new());
    let service = start(&script).await;
    let first = service.current();
    let mut client = Client::connect(&first).await;
    // In one packet, so that the half line is in the reader's buffer.
    client.send("whole\nha").await;
    assert_eq!(client.receive().await, "0:1:whole");
    let second = service.upgrade().await.unwrap();
    ended(&first).await;
    service.upgrade().await.unwrap();
    ended(&second).await;
    client.send("lf\n").await;
    assert_eq!(client.receive().await, "2:2:half");
}

#[tokio::test]
async fn a_session_moves_when_its_message_has_been_answered() {
    let script = shared(Script::new());
    let service = start(&script).await;
    let first = service.current();
    let mut client = Client::connect(&first).await;
    client.send("wait\nnext\n").await;
    let state = script.lock().unwrap().clone();
    state.said("waiting").await;
    service.upgrade().await.unwrap();
    assert_eq!(first.graceful().phase(), Phase::Draining);
    assert_eq!(first.graceful().holders().len(), 1);
    state.go_on.notify_one();
    assert_eq!(client.receive().await, "0:1:wait");
    assert_eq!(client.receive().await, "1:2:next");
    ended(&first).await;
}

#[tokio::test]
async fn a_successor_that_does_not_know_the_version_gives_back() {
    let script = shared(Script::new());
    let service = start(&script).await;
    let first = service.current();
    let mut client = Client::connect(&first).await;
    client.send("one\ntw").await;
    assert_eq!(client.receive().await, "0:1:one");
    script.lock().unwrap().protocol = Protocol::new("lines", 2);
    let second = service.upgrade().await.unwrap();
    let state = script.lock().unwrap().clone();
    // Refused, it is not asked to move again, but to end.
    state.said("0: Move").await;
    state.said("0: back").await;
    state.said("0: Close").await;
    client.send("o\n").await;
    assert_eq!(client.receive().await, "0:2:two");
    // What is new is the successor's.
    assert_eq!(Client::connect(&second).await.ask("x").await, "1:1:x");
    drop(client);
    ended(&first).await;
    state.said("0: moved 0").await;
    // A release that reads both versions takes over.
    let mut client = Client::connect(&second).await;
    assert_eq!(client.ask("x").await, "1:1:x");
    script.lock().unwrap().protocol = Protocol::new("lines", 3).since(1);
    service.upgrade().await.unwrap();
    ended(&second).await;
    assert_eq!(client.ask("y").await, "2:2:y");
}

#[tokio::test]
async fn what_is_too_large_stays_and_is_served_on() {
    let mut large = Script::new();
    large.ballast = MAX_STATE - 7;
    let (script, service, first, mut client) = with_a_client(large).await;
    service.upgrade().await.unwrap();
    let state = script.lock().unwrap().clone();
    state.said("0: back").await;
    assert_eq!(client.ask("b").await, "0:2:b");
    drop(client);
    ended(&first).await;
}

#[tokio::test]
async fn a_successor_that_is_killed_before_its_claim_gives_back() {
    let (script, service, first, mut client) = with_a_client(Script::new()).await;
    script.lock().unwrap().adopts_nothing = true;
    let second = service.upgrade().await.unwrap();
    let state = script.lock().unwrap().clone();
    state.said("0: Move").await;
    // Nobody reads it, while it is with the successor.
    client.send("b\nc").await;
    let answer = timeout(Duration::from_millis(100), client.receive()).await;
    assert!(answer.is_err(), "{answer:?}");
    second.kill();
    assert_eq!(client.receive().await, "0:2:b");
    in_time(first.serving()).await;
    client.send("\n").await;
    assert_eq!(client.receive().await, "0:3:c");
    // The next upgrade is another one: it moves.
    script.lock().unwrap().adopts_nothing = false;
    service.upgrade().await.unwrap();
    ended(&first).await;
    assert_eq!(client.ask("d").await, "1:4:d");
}

#[tokio::test]
async fn what_has_moved_lives_on_without_its_predecessor() {
    let script = shared(Script::new());
    let service = start(&script).await;
    let first = service.current();
    let mut moves = Client::connect(&first).await;
    assert_eq!(moves.ask("a").await, "0:1:a");
    let mut stays = Client::connect(&first).await;
    stays.send("wait\n").await;
    let state = script.lock().unwrap().clone();
    state.said("waiting").await;
    service.upgrade().await.unwrap();
    assert_eq!(moves.ask("b").await, "1:2:b");
    first.kill();
    assert_eq!(in_time(first.ended()).await, Outcome::Killed);
    assert_eq!(moves.ask("c").await, "1:3:c");
    // It took along what it had.
    let mut line = String::new();
    let read = in_time(stays.0.read_line(&mut line)).await;
    assert!(!matches!(read, Ok(1..)), "{line:?}");
}

#[tokio::test]
async fn a_stop_wishes_that_sessions_close() {
    let (script, _service, first, mut client) = with_a_client(Script::new()).await;
    first.graceful().drain();
    let state = script.lock().unwrap().clone();
    state.said("0: Close").await;
    assert_eq!(client.ask("b").await, "0:2:b");
    drop(client);
    ended(&first).await;
}

/// Nobody serves a connection that lies with a successor which hangs: that one is killed, and the
/// connection is served where it was.
#[tokio::test]
async fn a_successor_that_never_answers_is_killed_and_its_connections_come_back() {
    let mut behaviour = Script::new();
    behaviour.move_timeout = Duration::from_millis(300);
    let (script, service, first, mut client) = with_a_client(behaviour).await;
    script.lock().unwrap().adopts_nothing = true;
    let second = service.upgrade().await.unwrap();
    assert_eq!(in_time(second.ended()).await, Outcome::Killed);
    in_time(first.serving()).await;
    assert_eq!(client.ask("b").await, "0:2:b");
}

/// What the balancer said of a client is known of it for as long as it is connected.
#[cfg(feature = "proxy-protocol")]
#[tokio::test]
async fn who_is_behind_a_balancer_stays_who_it_is_over_upgrades() {
    let mut behaviour = Script::new();
    behaviour.is_proxied = true;
    let script = shared(behaviour);
    let service = start(&script).await;
    let first = service.current();
    let mut client = Client::connect(&first).await;
    let balancer = client.0.get_ref().local_addr().unwrap().to_string();
    client
        .send("PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n")
        .await;
    let told = format!("203.0.113.9:51234 by Some({balancer:?})");
    assert_eq!(client.ask("who").await, format!("0:1:{told}"));
    let mut members = vec![first];
    for number in 1..=3 {
        // Half a line has come, which moves along.
        client.send("w").await;
        members.push(service.upgrade().await.unwrap());
        ended(&members[number - 1]).await;
        let answer = client.ask("ho").await;
        assert_eq!(answer, format!("{number}:{}:{told}", number + 1));
    }
    assert_eq!(members[3].graceful().holders().len(), 1);
    // A successor that dies gives back what it has not taken, behind a balancer too.
    script.lock().unwrap().adopts_nothing = true;
    let fifth = service.upgrade().await.unwrap();
    let state = script.lock().unwrap().clone();
    state.said("3: Move").await;
    fifth.kill();
    in_time(members[3].serving()).await;
    assert_eq!(client.ask("who").await, format!("3:5:{told}"));
}
