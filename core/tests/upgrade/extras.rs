//! What a server has besides its listeners, as the files in its directory say.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::Path,
    process,
    time::Duration,
};

use handover::{Generation, SeqpacketListener, SocketOptions, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::dir_says_ready;

/// The options that the file `options` asks for: `backlog=7 mode=660`.
pub(crate) fn options(dir: &Path) -> SocketOptions {
    let text = fs::read_to_string(dir.join("options")).unwrap_or_default();
    let mut options = SocketOptions::new();
    for option in text.split_ascii_whitespace() {
        let (key, value) = option.split_once('=').unwrap();
        let number = || value.parse().unwrap();
        options = match key {
            "backlog" => options.backlog(number()),
            "v6only" => options.v6_only(value == "true"),
            "keepalive" => options.keepalive(Duration::from_secs(number().into())),
            "receive" => options.receive_buffer(number() as usize),
            "mode" => options.mode(u32::from_str_radix(value, 8).unwrap()),
            "group" => options.owner(None, Some(number())),
            other => panic!("{other}"),
        };
    }
    options
}

/// Starts what is asked for, and returns the addresses.
pub(crate) async fn start(
    generation: &Generation,
    dir: &Path,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut names = String::new();
    if let Ok(address) = fs::read_to_string(dir.join("seqpacket")) {
        let listener = generation
            .listen_seqpacket_with(&address, &options(dir))
            .await?;
        names += &format!(" seqpacket:{}", listener.local_addr()?);
        tokio::spawn(packets(listener, generation.clone()));
    }
    if let Ok(address) = fs::read_to_string(dir.join("datagram")) {
        let socket = generation
            .bind_unix_datagram_with(&address, &options(dir))
            .await?;
        names += " datagram";
        tokio::spawn(datagrams(socket, generation.clone()));
    }
    if dir.join("log").exists() {
        log(generation, dir)?;
    }
    if let Ok(address) = fs::read_to_string(dir.join("upstream")) {
        let mut upstream = match generation.take_connection("upstream")? {
            Some(stream) => stream,
            None => Stream::Tcp(tokio::net::TcpStream::connect(&address).await?),
        };
        let line = format!("generation {}\n", generation.number());
        upstream.write_all(line.as_bytes()).await?;
        let mut answer = [0; 2];
        upstream.read_exact(&mut answer).await?;
        generation.keep_connection("upstream", upstream.into_fd()?)?;
    }
    Ok(names)
}

/// Writes to a file without a name, which only a predecessor can have given, and says all of it.
fn log(generation: &Generation, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut log = match generation.take_file("log") {
        Some(fd) => File::from(fd),
        None if generation.is_successor() => {
            println!("no log");
            return Ok(());
        }
        None => tempfile::tempfile()?,
    };
    assert!(generation.take_file("log").is_none(), "only once");
    write!(log, "{};", generation.number())?;
    log.rewind()?;
    let mut all = String::new();
    log.read_to_string(&mut all)?;
    println!("log {all}");
    generation.keep_file("log", log)?;
    match fs::read_to_string(dir.join("log"))?.as_str() {
        "keep" => {}
        "withdraw" => drop(generation.withdraw("log")),
        "replace" => {
            let mut other = tempfile::tempfile()?;
            other.write_all(b"other;")?;
            generation.keep_file("log", other)?;
        }
        other => panic!("{other}"),
    }
    Ok(())
}

async fn packets(mut listener: SeqpacketListener, generation: Generation) {
    let graceful = generation.graceful();
    loop {
        let Some(guard) = graceful.guard() else {
            return;
        };
        let connection = tokio::select! {
            biased;
            accepted = listener.accept() => accepted.unwrap().0,
            () = graceful.draining() => match listener.accept_leftover().await {
                Some(accepted) => accepted.unwrap().0,
                None => return,
            },
        };
        tokio::spawn(async move {
            let _guard = guard;
            let mut message = [0; 64];
            while let Ok(length @ 1..) = connection.recv(&mut message).await {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                let answer = format!("{text} {}", process::id());
                connection.send(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

async fn datagrams(socket: tokio::net::UnixDatagram, generation: Generation) {
    // Before it is ready the predecessor reads.
    while !dir_says_ready(&generation) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let graceful = generation.graceful();
    let mut message = [0; 64];
    loop {
        tokio::select! {
            biased;
            () = graceful.draining() => return,
            received = socket.recv_from(&mut message) => {
                let (length, from) = received.unwrap();
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                let answer = format!("{text} {}", process::id());
                let to = from.as_pathname().unwrap().to_owned();
                socket.send_to(answer.as_bytes(), to).await.unwrap();
            }
        }
    }
}
