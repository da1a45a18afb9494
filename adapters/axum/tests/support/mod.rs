#![allow(dead_code, unreachable_pub, missing_docs)]
//! An application whose handlers hang in every way, and a client that is no more than a socket.

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, WebSocketUpgrade, ws::WebSocket},
    response::Response,
    routing::{get, post},
};
use futures_util::stream;
use handover::{Graceful, Kind, Report};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

pub const DEADLINE: Duration = Duration::from_millis(800);

pub fn app() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route(
            "/peer",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()),
        )
        .route("/hold", get(std::future::pending::<()>))
        .route("/hang-body", get(hang_body))
        .route("/echo", post(async |body: Bytes| body))
        .route(
            "/ws",
            get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)),
        )
}

async fn hang_body() -> Response {
    Response::new(Body::from_stream(stream::pending::<
        Result<Bytes, Infallible>,
    >()))
}

// Knows nothing of drains.
async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

pub struct Server {
    pub addr: SocketAddr,
    pub graceful: Graceful,
    pub done: JoinHandle<Report>,
}

impl Server {
    /// Waits until somebody holds the drain as this.
    pub async fn until(&self, kind: Kind) {
        let wait = async {
            while !self.graceful.holders().iter().any(|h| h.kind == kind) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(Duration::from_secs(10), wait).await.is_err() {
            panic!("no {kind}: {:?}", self.graceful.holders());
        }
    }

    pub async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.addr).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// Drains, and returns how long that took.
    pub async fn drained(self) -> (Report, Duration) {
        let began = Instant::now();
        self.graceful.drain();
        let report = timeout(DEADLINE * 10, self.done).await;
        (report.expect("the drain hangs").unwrap(), began.elapsed())
    }

    /// Drains, and asserts that this took as long as the deadline and no longer.
    pub async fn assert_cut(self) -> Report {
        let (report, took) = self.drained().await;
        assert!(report.took >= DEADLINE, "{report}");
        assert!(took < DEADLINE + Duration::from_millis(100), "{took:?}");
        report
    }
}

pub struct Client {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

impl Client {
    pub async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub async fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
    }

    /// Reads until the text has come.
    pub async fn until(&mut self, text: &str) -> String {
        let wait = async {
            loop {
                let all = String::from_utf8_lossy(&self.read).into_owned();
                if let Some(at) = all.find(text) {
                    self.read = all.as_bytes()[at + text.len()..].to_vec();
                    return all[..at + text.len()].to_owned();
                }
                let n = self.stream.read_buf(&mut self.read).await.unwrap();
                assert!(n > 0, "closed before {text:?} came: {all:?}");
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect(text)
    }

    /// Reads to the end, clean or not.
    pub async fn end(mut self) -> String {
        let read = self.stream.read_to_end(&mut self.read);
        let _ = timeout(Duration::from_secs(10), read)
            .await
            .expect("never closed");
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
