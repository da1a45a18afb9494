#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    unnameable_types,
    clippy::exhaustive_structs
)]
//! A server with handlers that a test can hold and let go, and a client that is no more than a
//! socket.

pub mod frames;
pub mod moving;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use handover::{Connection, Graceful, Kind, Policy, Report};
use handover_hyper::{RequestBody, Serve};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};

pub const DEADLINE: Duration = Duration::from_millis(800);

/// A body that ends when its sender is dropped, or never.
pub struct Chunks(Option<mpsc::Receiver<Bytes>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Some(chunks) => chunks
                .poll_recv(cx)
                .map(|chunk| Some(Ok(Frame::data(chunk?)))),
            None => Poll::Pending,
        }
    }
}

pub type Answer = Response<Either<Full<Bytes>, Chunks>>;

/// What the tests' handlers wait for and say.
#[derive(Clone)]
pub struct Script {
    called: mpsc::UnboundedSender<String>,
    pub go: Arc<Semaphore>,
    // Who answers.
    name: &'static str,
}

impl Script {
    async fn answer(self, request: Request<RequestBody>) -> Result<Answer, Infallible> {
        let path = request.uri().path().to_owned();
        let _ = self.called.send(path.clone());
        let text = |text: &str| Response::new(Either::Left(Full::from(text.to_owned())));
        let mut answer = match path.as_str() {
            "/wait" => {
                self.go.acquire().await.unwrap().forget();
                text("waited")
            }
            "/never" => std::future::pending().await,
            "/endless" => Response::new(Either::Right(Chunks(None))),
            "/echo" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Response::new(Either::Left(Full::new(body)))
            }
            "/big" => text(&"x".repeat(8 << 20)),
            "/stream" => {
                let (send, chunks) = mpsc::channel(1);
                tokio::spawn(async move {
                    send.send(Bytes::from_static(b"first")).await.unwrap();
                    self.go.acquire().await.unwrap().forget();
                    send.send(Bytes::from_static(b"last")).await.unwrap();
                });
                Response::new(Either::Right(Chunks(Some(chunks))))
            }
            "/facts" => {
                let connection = request.extensions().get::<Arc<Connection>>().unwrap();
                text(&format!(
                    "{} {} {};",
                    connection.peer(),
                    connection.requests(),
                    connection.since().elapsed().as_millis()
                ))
            }
            // Answers, and keeps the body.
            "/hold" => {
                let mut go = Box::pin(self.go.clone().acquire_owned());
                // Stands in the queue before it answers: bodies go in the order of their requests.
                let queued = go.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(queued.is_pending(), "it is let go later");
                tokio::spawn(async move {
                    go.await.unwrap().forget();
                    drop(request);
                });
                text("held")
            }
            "/tunnel" => {
                let upgrade = hyper::upgrade::on(request);
                tokio::spawn(async move {
                    let mut io = TokioIo::new(upgrade.await.unwrap());
                    let mut bytes = [0; 16];
                    while let Ok(n @ 1..) = io.read(&mut bytes).await {
                        io.write_all(&bytes[..n]).await.unwrap();
                    }
                });
                switching()
            }
            // Has left HTTP, closes at once, and keeps the request.
            "/leave" => {
                let mut request = request;
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    drop(upgrade.await.unwrap());
                    std::future::pending::<()>().await;
                    drop(request);
                });
                switching()
            }
            _ if request.uri().query() == Some("count") => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                text(&format!("{path} {};", body.len()))
            }
            _ => text("hello"),
        };
        if !self.name.is_empty() {
            let name = HeaderValue::from_static(self.name);
            answer.headers_mut().insert("x-name", name);
        }
        Ok(answer)
    }
}

pub struct Server {
    pub addr: SocketAddr,
    pub graceful: Graceful,
    pub called: mpsc::UnboundedReceiver<String>,
    pub go: Arc<Semaphore>,
    pub done: JoinHandle<Report>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Policy::default(), |serve| serve).await
    }

    pub async fn with<F>(policy: Policy, set: F) -> Self
    where
        F: FnOnce(Serve<TcpListener, ScriptService>) -> Serve<TcpListener, ScriptService>,
    {
        Self::with_all_of(policy.with_deadline(DEADLINE), set).await
    }

    /// The same, with the policy's own deadline.
    pub async fn with_all_of<F>(policy: Policy, set: F) -> Self
    where
        F: FnOnce(Serve<TcpListener, ScriptService>) -> Serve<TcpListener, ScriptService>,
    {
        let graceful = Graceful::with_policy(policy);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (service, called, go) = ScriptService::new("");
        let serve = handover_hyper::serve(listener, service);
        let serve = set(serve.with_graceful(graceful.clone()));
        let done = tokio::spawn(async move { serve.await.unwrap() });
        Self {
            addr,
            graceful,
            called,
            go,
            done,
        }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.addr).await
    }

    /// Waits until a connection is in this state.
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

    /// Drains, and returns how long that took.
    pub async fn drained(self) -> (Report, Duration) {
        let began = Instant::now();
        self.graceful.drain();
        let report = timeout(DEADLINE * 10, self.done).await;
        (report.expect("the drain hangs").unwrap(), began.elapsed())
    }
}

#[derive(Clone)]
pub struct ScriptService(Script);

impl ScriptService {
    /// What answers, what it was asked for, and what it waits for.
    pub fn new(name: &'static str) -> (Self, mpsc::UnboundedReceiver<String>, Arc<Semaphore>) {
        let (send, called) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let script = Script {
            called: send,
            go: go.clone(),
            name,
        };
        (Self(script), called, go)
    }
}

fn switching() -> Answer {
    let mut switching = Response::new(Either::Left(Full::default()));
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = switching.headers_mut();
    headers.insert("upgrade", HeaderValue::from_static("echo"));
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    switching
}

impl tower_service::Service<Request<RequestBody>> for ScriptService {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        Box::pin(self.0.clone().answer(request))
    }
}

pub struct Client {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(addr).await.unwrap(),
            read: Vec::new(),
        }
    }

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

    /// Reads to the end: what came, and whether it was a clean end.
    pub async fn end(mut self) -> (String, bool) {
        let read = timeout(
            Duration::from_secs(10),
            self.stream.read_to_end(&mut self.read),
        )
        .await
        .expect("never closed");
        (
            String::from_utf8_lossy(&self.read).into_owned(),
            read.is_ok(),
        )
    }
}

pub fn assert_on_time(took: Duration) {
    assert!(took < DEADLINE + Duration::from_millis(100), "{took:?}");
}
