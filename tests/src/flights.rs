//! Clients that leave a TLS handshake where they like.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, ensure};
use handover_tls::rustls::ClientConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::tls::Client;

/// A client's side of a handshake, flight by flight.
#[derive(Debug)]
pub struct Flights {
    session: ClientConnection,
    tcp: TcpStream,
}

impl Flights {
    /// Where a handshake can stall, in each version: how many flights of the client are complete and
    /// answered, and whether the next one is sent as a whole, or half of it.
    pub const STALLS: [(usize, bool); 3] = [(0, false), (0, true), (1, false)];

    /// Connects; nothing is sent.
    ///
    /// # Errors
    ///
    /// If there is no connection.
    pub async fn begin(client: &Client, to: SocketAddr) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let session = client.session()?;
        Ok(Self { session, tcp })
    }

    /// A handshake that has come so far, one of [`STALLS`](Self::STALLS), and goes no further.
    ///
    /// # Errors
    ///
    /// If the server goes before that.
    pub async fn stalled(
        client: &Client,
        to: SocketAddr,
        (complete, whole): (usize, bool),
    ) -> anyhow::Result<Self> {
        let mut this = Self::begin(client, to).await?;
        for _ in 0..complete {
            let bytes = this.flight()?;
            this.tcp.write_all(&bytes).await?;
            this.hear().await?;
        }
        let bytes = this.flight()?;
        let sent = if whole { bytes.len() } else { bytes.len() / 2 };
        this.tcp.write_all(&bytes[..sent]).await?;
        Ok(this)
    }

    /// What is to be sent next.
    ///
    /// # Errors
    ///
    /// None that comes from memory.
    pub fn flight(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Reads until there is something to answer, or the handshake is done.
    async fn hear(&mut self) -> anyhow::Result<()> {
        while self.session.is_handshaking() && !self.session.wants_write() {
            let mut bytes = [0; 4096];
            let n = self.tcp.read(&mut bytes).await;
            let n = n.context("the server's flight")?;
            ensure!(n > 0, "the server has gone");
            let mut bytes = &bytes[..n];
            while !bytes.is_empty() {
                self.session.read_tls(&mut bytes)?;
                self.session.process_new_packets()?;
            }
        }
        Ok(())
    }

    /// The connection, for what else is to pass there.
    pub fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// The address of this end, by which a server names it.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
