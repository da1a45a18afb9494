//! A service of its own protocol over TCP, whose sessions live through upgrades: it counts the
//! lines of each session, and answers each with the session's name and its number.
//!
//! ```text
//! cargo run -p line-protocol -- 127.0.0.1:7000
//! nc 127.0.0.1 7000
//! kill -HUP $(cat line-protocol.pid)
//! ```

use std::{env, error::Error};

use handover::{
    Generation, Stream,
    accept::{Movable, Movables, Protocol, Wish},
};
use tokio::io::{self, AsyncBufReadExt, AsyncWriteExt, BufReader};

// ANCHOR: main
/// What is spoken, and the form in which a session is handed over.
const LINES: Protocol = Protocol::new("lines", 1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:7000");
    let generation = Generation::builder()
        .pid_file("line-protocol.pid")
        .start()?;
    let listener = generation.listen(address).await?;
    let (local, graceful) = (listener.local_addr()?, generation.graceful());
    // Before this process is ready: its predecessor's sessions come right after that.
    let mut sessions = Movables::new(listener, LINES, &graceful);
    generation.ready().await?;
    tracing::info!(%local, "ready");
    // New connections, and those of the predecessor; until the drain has no more of either.
    while let Some(session) = sessions.next().await {
        tokio::spawn(async move {
            let peer = session.peer().clone();
            if let Err(err) = serve(session).await {
                tracing::info!(%peer, %err, "a session has failed");
            }
        });
    }
    graceful.drained().await;
    Ok(())
}
// ANCHOR_END: main

// ANCHOR: session
/// What a session is: its client gives it a name, and it counts lines.
struct Session {
    name: String,
    lines: u64,
}

impl Session {
    fn new() -> Self {
        Self {
            name: "nobody".to_owned(),
            lines: 0,
        }
    }

    fn from_state(state: &[u8]) -> Option<Self> {
        let (lines, name) = state.split_first_chunk()?;
        Some(Self {
            name: String::from_utf8(name.to_vec()).ok()?,
            lines: u64::from_be_bytes(*lines),
        })
    }

    fn to_state(&self) -> Vec<u8> {
        [&self.lines.to_be_bytes(), self.name.as_bytes()].concat()
    }

    fn answer(&mut self, line: &str) -> String {
        if let Some(name) = line.strip_prefix("name ") {
            name.clone_into(&mut self.name);
        }
        self.lines += 1;
        format!("{} {} {line}\n", self.name, self.lines)
    }
}
// ANCHOR_END: session

// ANCHOR: serve
async fn serve(mut connection: Movable<Stream>) -> io::Result<()> {
    let mut session = match connection.take_state() {
        None => Session::new(),
        Some(state) => Session::from_state(&state).ok_or(io::ErrorKind::InvalidData)?,
    };
    tracing::info!(
        name = session.name,
        lines = session.lines,
        "a session begins"
    );
    let mut wishes = connection.wishes();
    let mut reader = BufReader::new(connection);
    let mut line = Vec::new();
    loop {
        tokio::select! {
            biased;
            // Here, between two lines, nothing is owed: all answers have been written.
            wish = wishes.next() => match wish {
                Wish::Move => {
                    // The beginning of the next line, and what lies in the reader's buffer.
                    line.extend_from_slice(reader.buffer());
                    match reader.into_inner().give(line, session.to_state()).await {
                        Ok(()) => return Ok(()),
                        // Nobody took it: served on, from the same byte on.
                        Err(back) => reader = BufReader::new(back),
                    }
                    line = Vec::new();
                }
                Wish::Close => return reader.write_all(b"goodbye\n").await,
                _ => {}
            },
            // What it has read of a line stays in `line` if it is dropped.
            read = reader.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                let answer = session.answer(String::from_utf8_lossy(&line).trim_end());
                reader.write_all(answer.as_bytes()).await?;
                line.clear();
            }
        }
    }
}
// ANCHOR_END: serve
