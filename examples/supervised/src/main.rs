//! A program that knows nothing of Handover. It can do two things that many can: take a socket that
//! it was started with, as systemd passes them, and finish what it has begun when it is told to stop.
//! Under `handover run` that is enough to be replaced without a connection refused.
//!
//! ```text
//! cargo build -p handover-supervisor -p supervised
//! handover run --listen 127.0.0.1:7000 --ready-after 1 -- supervised
//! nc 127.0.0.1 7000
//! ```
//!
//! Then build it anew, and send the supervisor a SIGHUP.

use std::{error::Error, process};

use listenfd::ListenFd;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)?
        }
        None => TcpListener::bind("127.0.0.1:7000").await?,
    };
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                sessions.spawn(answer(accepted?.0));
            }
            _ = terminated.recv() => break,
        }
    }
    // The next process accepts already. This one closes its copy of the socket, and finishes.
    drop(listener);
    while sessions.join_next().await.is_some() {}
    Ok(())
}
// ANCHOR_END: main

/// Answers one line, and says which process has done so.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let answer = format!("{} {line}", process::id());
    stream.write_all(answer.as_bytes()).await
}
