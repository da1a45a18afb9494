//! A client that sends what it is told, byte by byte, and shows all that comes back.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
    time::Duration,
};

use handover_tests::harness::{Server, ServerEnd, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::BOUND;

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    server: SocketAddrV4,
    client: SocketAddrV4,
    seen: Vec<u8>,
    /// Bytes of [`stuff`](Self::stuff).
    sent: usize,
}

impl Peer {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::to(server.newest().tcp().unwrap(), None)
            .await
            .unwrap()
    }

    /// With a receive buffer that holds next to nothing.
    pub(crate) async fn connect_small(server: &Server) -> Self {
        let address = server.newest().tcp().unwrap();
        Self::to(address, Some(1)).await.unwrap()
    }

    pub(crate) async fn to(address: SocketAddr, buffer: Option<u32>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = buffer {
            socket.set_recv_buffer_size(size)?;
            // Small segments also keep the server's send buffer small, which the kernel grows by
            // the size of segments: megabytes on the loop-back interface.
            socket2::SockRef::from(&socket).set_tcp_mss(536)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let (SocketAddr::V4(server), SocketAddr::V4(client)) = (address, stream.local_addr()?)
        else {
            panic!("{address} is no IPv4 address");
        };
        let seen = Vec::new();
        Ok(Self {
            stream,
            server,
            client,
            seen,
            sent: 0,
        })
    }

    /// From here on little of what it sends waits on its own side.
    pub(crate) fn has_little_room(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_send_buffer_size(64 * 1024).unwrap();
    }

    /// The address that a report names it by.
    pub(crate) fn name(&self) -> String {
        self.client.to_string()
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// The same where the server may close meanwhile.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sent = timeout(BOUND, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("a server that reads")
    }

    pub(crate) async fn get(&mut self, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: handover.test\r\n\r\n");
        self.send(head).await;
    }

    fn look(&self) -> Option<ServerEnd> {
        ServerEnd::find(self.server, self.client).unwrap()
    }

    /// Waits until the server has accepted the connection and read all that was sent.
    pub(crate) async fn taken(&self) {
        has_read(self.server, self.client.into()).await;
    }

    /// Pipelines requests until the server can neither write nor read any more.
    pub(crate) async fn stuff(&mut self) {
        self.stuff_with(b"GET / HTTP/1.1\r\nhost: handover.test\r\n\r\n")
            .await;
    }

    /// The same with something else that is answered.
    pub(crate) async fn stuff_with(&mut self, head: &[u8]) {
        let burst = head.repeat(200);
        let mut before = None;
        eventually("the server to be stuck", BOUND, async || {
            // A half-sent request is completed next time: the bytes repeat.
            let sent = self.sent % head.len();
            let wrote = self.stream.try_write(&burst[sent..]).unwrap_or(0);
            self.sent += wrote;
            let now = self.look();
            let stuck = now.is_some_and(|end| end.unread > 0 && end.unsent > 0);
            let still = wrote == 0 && stuck && before == now;
            before = now;
            still.then_some(())
        })
        .await
        .unwrap();
    }

    /// Waits until the server cannot send any more, although it has more all the time.
    pub(crate) async fn is_sent_too_much(&self) {
        let mut before = None;
        eventually("the server to be stuck", BOUND, async || {
            sleep(Duration::from_millis(500)).await;
            let now = self.look();
            let stuck = now.is_some_and(|end| end.unsent > 0) && before == now;
            before = now;
            stuck.then_some(())
        })
        .await
        .unwrap();
    }

    /// Reads until `text` has come; returns all that came since the last call.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let from = self.seen.len();
        let reading = async {
            while !contains(&self.seen[from..], text.as_bytes()) {
                let read = self.stream.read_buf(&mut self.seen).await.unwrap();
                let so_far = String::from_utf8_lossy(&self.seen[from..]);
                assert_ne!(read, 0, "an end instead of {text:?}, after {so_far:?}");
            }
        };
        let read = timeout(BOUND, reading).await;
        let so_far = String::from_utf8_lossy(&self.seen[from..]).into_owned();
        read.unwrap_or_else(|_| panic!("no {text:?}, but {so_far:?}"));
        so_far
    }

    /// Reads up to the end of the connection; returns what came, and whether the end was one, and
    /// no reset.
    pub(crate) async fn end(&mut self) -> (String, bool) {
        let from = self.seen.len();
        let read = timeout(BOUND, self.stream.read_to_end(&mut self.seen)).await;
        let clean = read.expect("a connection that ends").is_ok();
        let text = String::from_utf8_lossy(&self.seen[from..]).into_owned();
        (text, clean)
    }

    /// Reads the next HTTP/2 frame; returns its type and payload.
    pub(crate) async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let reading = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            self.stream.read_exact(&mut payload).await?;
            Ok((head[3], payload))
        };
        timeout(BOUND, reading).await.expect("a frame or an end")
    }
}

/// Waits until a server has accepted the connection of `client`, and read all that was sent there.
pub(crate) async fn has_read(server: SocketAddrV4, client: SocketAddr) {
    let SocketAddr::V4(client) = client else {
        panic!("{client} is no IPv4 address")
    };
    eventually("the server to read what was sent", BOUND, async || {
        ServerEnd::find(server, client)
            .unwrap()
            .is_some_and(|end| end.accepted && end.unread == 0)
            .then_some(())
    })
    .await
    .unwrap();
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
