//! One client of the chat, for as long as it is with this process.

use std::error::Error;

use futures_util::{SinkExt, StreamExt};
use handover::{
    Stream,
    accept::{Movable, Protocol, Wish},
};
use handover_axum::FrameGate;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::log::{Log, Said};

/// The longest message, and the longest name, in bytes: a line of the log has to fit into what is
/// read of it at a time.
const LONGEST: usize = 4096;
const LONGEST_NAME: usize = 256;

// ANCHOR: session
/// What is spoken, and the form in which a session is handed over.
pub(crate) const CHAT: Protocol = Protocol::new("chat", 1);

/// What is known of a client: all that goes with its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) nick: String,
    pub(crate) room: String,
    /// The position in the log up to which it was told everything.
    pub(crate) seen: u64,
}
// ANCHOR_END: session

impl Session {
    /// Someone who comes into a room, and is told what is said there from a position of the log on.
    /// `None` if a name is too long.
    pub(crate) fn new(nick: String, room: String, seen: u64) -> Option<Self> {
        let fits = nick.len() <= LONGEST_NAME && room.len() <= LONGEST_NAME;
        fits.then_some(Self { nick, room, seen })
    }
}

/// What a client is told.
#[derive(Serialize)]
struct Told<'a> {
    id: u64,
    nick: &'a str,
    text: &'a str,
}

type Socket = WebSocketStream<FrameGate<Movable<Stream>>>;

// ANCHOR: serve
/// Serves a client until it goes, moves, or the service stops.
pub(crate) async fn serve(
    connection: Movable<Stream>,
    mut session: Session,
    log: Log,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut wishes = connection.wishes();
    let mut wish = Wish::Stay;
    let mut changes = log.changes();
    let mut socket = open(connection).await;
    loop {
        // Between two messages, and with all that was said before handed to the kernel.
        if wish != Wish::Stay && socket.get_ref().is_at_boundary() {
            // An answer to a ping, perhaps.
            socket.flush().await?;
            if wish == Wish::Close {
                return goodbye(socket).await;
            }
            let (connection, ahead) = socket.into_inner().into_parts();
            let state = serde_json::to_vec(&session)?;
            match connection.give(ahead, state).await {
                Ok(()) => return Ok(()),
                // Nobody took it: served on.
                Err(back) => socket = open(back).await,
            }
            wish = Wish::Stay;
        }
        tokio::select! {
            biased;
            next = wishes.next() => wish = next,
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => hear(&mut session, &log, &text)?,
                Some(Ok(Message::Close(_))) => return answer_close(socket).await,
                // A ping is answered by the implementation.
                Some(Ok(_)) => {}
                Some(Err(err)) => return Err(err.into()),
                None => return Ok(()),
            },
            _ = changes.changed() => tell(&mut session, &log, &mut socket).await?,
        }
    }
}

async fn open(connection: Movable<Stream>) -> Socket {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(LONGEST);
    config.max_frame_size = Some(LONGEST);
    let gate = FrameGate::new(connection);
    WebSocketStream::from_raw_socket(gate, Role::Server, Some(config)).await
}
// ANCHOR_END: serve

/// A message has come.
fn hear(session: &mut Session, log: &Log, text: &str) -> std::io::Result<()> {
    if let Some(nick) = text.strip_prefix("/nick ") {
        if nick.len() <= LONGEST_NAME {
            nick.clone_into(&mut session.nick);
        }
        return Ok(());
    }
    log.append(&Said {
        room: session.room.clone(),
        nick: session.nick.clone(),
        text: text.to_owned(),
    })
}

// ANCHOR: tell
/// Tells a client what was said in its room since it was told last, by whomever, in whichever
/// generation.
async fn tell(
    session: &mut Session,
    log: &Log,
    socket: &mut Socket,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    loop {
        let news = log.read(session.seen)?;
        if news.is_empty() {
            return Ok(());
        }
        for (position, said) in news {
            session.seen = position;
            if said.room == session.room {
                let told = serde_json::to_string(&Told {
                    id: position,
                    nick: &said.nick,
                    text: &said.text,
                })?;
                socket.feed(Message::text(told)).await?;
            }
        }
        socket.flush().await?;
    }
}
// ANCHOR_END: tell

/// Says that the service stops, and waits until the client has heard it.
async fn goodbye(mut socket: Socket) -> Result<(), Box<dyn Error + Send + Sync>> {
    let frame = CloseFrame {
        code: CloseCode::Away,
        reason: "the service stops".into(),
    };
    socket.close(Some(frame)).await?;
    answer_close(socket).await
}

/// Reads on until the connection is closed, both ways.
async fn answer_close(mut socket: Socket) -> Result<(), Box<dyn Error + Send + Sync>> {
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
