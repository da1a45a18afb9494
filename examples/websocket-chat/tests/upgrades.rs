//! Clients of the chat notice nothing of upgrades.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use handover_tests::{
    harness::{Process, Program, Server, Signal},
    load::{Connection, Target, get_on},
};
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

const BOUND: Duration = Duration::from_secs(20);
const UPGRADES: u64 = 10;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Told {
    id: u64,
    nick: String,
    text: String,
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    told: Vec<Told>,
}

impl Client {
    async fn join(address: SocketAddr, nick: &str, room: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let url = format!("ws://{address}/chat?nick={nick}&room={room}");
        let (socket, _) = client_async(url, stream).await?;
        Ok(Self {
            socket,
            told: Vec::new(),
        })
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// The next message that is no ping or pong.
    async fn hear(&mut self) -> anyhow::Result<Told> {
        loop {
            let message = timeout(BOUND, self.socket.next()).await;
            match message.context("nothing comes")?.context("the end")?? {
                Message::Text(text) => {
                    let told: Told = serde_json::from_str(&text)?;
                    self.told.push(told.clone());
                    return Ok(told);
                }
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Hears on until a text has come.
    async fn hear_until(&mut self, text: &str) -> anyhow::Result<()> {
        while self.hear().await?.text != text {}
        Ok(())
    }
}

async fn start(directory: &Path) -> anyhow::Result<(Server, SocketAddr)> {
    let server = Program::new(env!("CARGO_BIN_EXE_websocket-chat"))
        .arg("127.0.0.1:0")
        .directory(directory)
        .spawn()?;
    let address = server.logged("ready local=", "local", BOUND).await?;
    Ok((server, address))
}

/// Says something every few milliseconds, and hears what is said, until all have said their last.
async fn talk(
    mut client: Client,
    nick: &'static str,
    stop: tokio::sync::watch::Receiver<bool>,
    talkers: usize,
) -> anyhow::Result<Vec<Told>> {
    let mut said = 0;
    let mut last = false;
    let mut ended = 0;
    while ended < talkers {
        tokio::select! {
            told = client.hear() => ended += usize::from(told?.text.ends_with("last")),
            () = sleep(Duration::from_millis(4)), if !last => {
                said += 1;
                last = *stop.borrow();
                let text = if last { format!("{said} last") } else { said.to_string() };
                client.say(&text).await?;
                if said % 10 == 0 {
                    client.socket.send(Message::Ping("are you there?".into())).await?;
                }
            }
        }
    }
    let own = client.told.iter().filter(|told| told.nick == nick).count();
    ensure!(own == said, "{nick} has said {said}, and heard {own} of it");
    Ok(client.told)
}

#[tokio::test]
async fn everything_is_heard_once_and_in_order_over_ten_upgrades() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (server, address) = start(directory.path()).await?;
    let mut quiet = Client::join(address, "eve", "tea").await?;
    let mut elsewhere = Client::join(address, "mallory", "coffee").await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut clients = Vec::new();
    for nick in ["ann", "bob", "cyd"] {
        clients.push((nick, Client::join(address, nick, "tea").await?));
    }
    // HTTP on the same listener moves too, and is still answered as HTTP.
    let mut http = Connection::open(&Target::Tcp(address)).await?;
    assert_eq!(get_on(&mut http, "/generation").await?.body, b"0\n");
    let mut talks = JoinSet::new();
    for (nick, client) in clients {
        talks.spawn(talk(client, nick, stopped.clone(), 3));
    }
    let mut process = Process::open(server.first().pid())?;
    for number in 1..=UPGRADES {
        let next = server.replace(&process, number, BOUND).await?;
        // The sessions have moved: it does not wait for its clients to go.
        assert!(process.exit(BOUND).await?.is_success());
        process = next;
    }
    let answer = get_on(&mut http, "/generation").await?;
    assert_eq!(answer.body, format!("{UPGRADES}\n").into_bytes());
    drop(http);
    stop.send(true)?;
    let heard: Vec<_> = timeout(BOUND * 2, talks.join_all())
        .await
        .context("they do not end")?
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    // The same for all, in the same order, each message once.
    let all = &heard[0];
    assert!(all.len() > 100, "{} messages are few", all.len());
    assert!(all.is_sorted_by(|one, next| one.id < next.id));
    assert!(heard.iter().all(|told| told == all));
    for nick in ["ann", "bob", "cyd"] {
        let numbers = all.iter().filter(|told| told.nick == nick);
        let numbers = numbers.map(|told| told.text.trim_end_matches(" last").parse::<usize>());
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        assert!(
            numbers.iter().copied().eq(1..=numbers.len()),
            "{nick}: {numbers:?}"
        );
    }
    // Who never said a word has heard it all, and is still who she was.
    while quiet.told.len() < all.len() {
        quiet.hear().await?;
    }
    assert_eq!(&quiet.told, all);
    quiet.say("good night").await?;
    let told = quiet.hear().await?;
    assert_eq!(
        (told.nick.as_str(), told.text.as_str()),
        ("eve", "good night")
    );
    // In another room nothing of it was heard.
    elsewhere.say("hm").await?;
    assert_eq!(elsewhere.hear().await?.text, "hm");
    assert_eq!(elsewhere.told.len(), 1);
    // A stop is said.
    process.signal(Signal::TERM)?;
    let message = timeout(BOUND, quiet.socket.next()).await?;
    assert!(
        matches!(message, Some(Ok(Message::Close(Some(_))))),
        "{message:?}"
    );
    drop((quiet, elsewhere));
    assert!(process.exit(BOUND).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn a_session_in_the_middle_of_a_message_moves_after_it() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (server, address) = start(directory.path()).await?;
    let mut slow = Client::join(address, "sid", "tea").await?;
    let mut other = Client::join(address, "ann", "tea").await?;
    other.say("/nick anna").await?;
    other.say("one").await?;
    slow.hear_until("one").await?;
    let part = |text: &'static str, opcode, last| {
        Message::Frame(Frame::message(text, OpCode::Data(opcode), last))
    };
    slow.socket.send(part("half ", Data::Text, false)).await?;
    // It has been read, if this is answered.
    slow.socket.send(Message::Ping("?".into())).await?;
    while !matches!(slow.socket.next().await, Some(Ok(Message::Pong(_)))) {}
    let first = server.first();
    let second = server.replace(first, 1, BOUND).await?;
    server
        .stderr_line("a session begins peer=", BOUND)
        .await
        .context("no session")?;
    // The one is in the first generation, the other in the second; each hears the other.
    server.stderr_line("nick=\"anna\"", BOUND).await?;
    other.say("two").await?;
    slow.hear_until("two").await?;
    assert!(first.is_running());
    slow.socket
        .send(part("a message", Data::Continue, true))
        .await?;
    other.hear_until("half a message").await?;
    server.stderr_line("nick=\"sid\"", BOUND).await?;
    assert!(first.exit(BOUND).await?.is_success());
    slow.say("whole").await?;
    other.hear_until("whole").await?;
    slow.hear_until("whole").await?;
    let texts = |client: &Client| -> Vec<String> {
        client.told.iter().map(|told| told.text.clone()).collect()
    };
    let all = ["one", "two", "half a message", "whole"];
    assert_eq!(texts(&slow), all);
    assert_eq!(texts(&other), all);
    assert_eq!(slow.told[1].nick, "anna");
    drop((slow, other));
    second.signal(Signal::TERM)?;
    assert!(second.exit(BOUND).await?.is_success());
    Ok(())
}

/// What has not moved yet does not go down with the successor; and moves to the next one.
#[tokio::test]
async fn a_session_goes_on_when_the_successor_is_killed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (server, address) = start(directory.path()).await?;
    let mut client = Client::join(address, "sid", "tea").await?;
    let part = |text: &'static str, opcode, last| {
        Message::Frame(Frame::message(text, OpCode::Data(opcode), last))
    };
    client.socket.send(part("half ", Data::Text, false)).await?;
    client.socket.send(Message::Ping("?".into())).await?;
    while !matches!(client.socket.next().await, Some(Ok(Message::Pong(_)))) {}
    let first = server.first();
    let second = server.replace(first, 1, BOUND).await?;
    // From here on the first one drains.
    server.stderr_line("successor serves", BOUND).await?;
    second.signal(Signal::KILL)?;
    second.exit(BOUND).await?;
    client
        .socket
        .send(part("a message", Data::Continue, true))
        .await?;
    client.hear_until("half a message").await?;
    server.stderr_line("serving again", BOUND).await?;
    client.say("one").await?;
    client.hear_until("one").await?;
    // It is asked to move anew.
    first.signal(Signal::HUP)?;
    assert!(first.exit(BOUND).await?.is_success());
    client.say("two").await?;
    client.hear_until("two").await?;
    let texts: Vec<_> = client.told.iter().map(|told| told.text.as_str()).collect();
    assert_eq!(texts, ["half a message", "one", "two"]);
    Ok(())
}
