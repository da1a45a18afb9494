//! A service of datagrams that is replaced without one being lost: it answers each with the number
//! of its generation and what it said.
//!
//! ```text
//! cargo run -p udp -- 127.0.0.1:7000
//! echo hello | nc -u -w1 127.0.0.1 7000
//! kill -HUP $(pgrep -n udp)
//! ```

use std::{env, error::Error, io, net::SocketAddr};

use handover::{Generation, Phase};
use tokio::net::UdpSocket;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:7000");

    // ANCHOR: main
    let generation = Generation::start()?;
    // The predecessor's socket itself, with what waits in it; or a new one.
    let socket = generation.bind_udp(address).await?;
    let local = socket.local_addr()?;
    generation.ready().await?;
    tracing::info!(%local, "ready");

    // From here on this process reads, and its predecessor does not: a datagram goes to one of them.
    serve(&socket, &generation).await?;
    generation.finished().await;
    Ok(())
    // ANCHOR_END: main
}

// ANCHOR: serve
async fn serve(socket: &UdpSocket, generation: &Generation) -> io::Result<()> {
    let graceful = generation.graceful();
    let mut phases = graceful.phases();
    let mut datagram = vec![0; 65_536];
    // While there is this one, the drain is not over, and datagrams are read.
    let mut reading = None;
    loop {
        tokio::select! {
            biased;
            phase = phases.next() => match phase {
                // Again, if an upgrade is taken back because the successor has died.
                Phase::Running | Phase::LameDuck => reading = graceful.hold("datagrams"),
                Phase::Drained => return Ok(()),
                _ => {
                    // Nobody reads what waits in the queue of a socket that nobody inherits.
                    while graceful.is_stopping()
                        && let Ok((length, peer)) = socket.try_recv_from(&mut datagram)
                    {
                        answer(socket, &datagram[..length], peer, generation.number()).await;
                    }
                    reading = None;
                }
            },
            received = socket.recv_from(&mut datagram), if reading.is_some() => {
                let (length, peer) = received?;
                // Not cancelled: what was read is answered before anything else is looked at.
                answer(socket, &datagram[..length], peer, generation.number()).await;
            }
        }
    }
}
// ANCHOR_END: serve

async fn answer(socket: &UdpSocket, datagram: &[u8], peer: SocketAddr, number: u64) {
    let answer = [format!("{number} ").as_bytes(), datagram].concat();
    if let Err(err) = socket.send_to(&answer, peer).await {
        tracing::info!(%peer, %err, "an answer cannot be sent");
    }
}
