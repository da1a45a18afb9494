#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    unnameable_types,
    clippy::exhaustive_structs
)]
//! Services whose calls hang in every way, and a client that sees frames.

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use h2::{
    RecvStream,
    client::{ResponseFuture, SendRequest},
};
use handover::{Graceful, Policy, Report};
use handover_tonic::{DrainLayer, EndOnDrain, Health, foreign::Incoming};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{interval, timeout},
};
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Server as TonicServer, server::TcpConnectInfo},
};
use tower_layer::Layer;

pub const DEADLINE: Duration = Duration::from_millis(800);

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ours,
    Foreign,
}

/// A message as gRPC has it on the wire.
fn encode(text: &str) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(text.len() as u32);
    message.put_slice(text.as_bytes());
    message.freeze()
}

/// An answer whose messages end with OK, or with a status.
fn answer(messages: impl Stream<Item = Result<String, Status>> + Send + 'static) -> Response {
    let last = stream::once(async { Err(Status::ok("")) });
    let frames = messages.chain(last).map(|item| {
        Ok::<_, Infallible>(match item {
            Ok(text) => Frame::data(encode(&text)),
            Err(status) => {
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers).unwrap();
                Frame::trailers(trailers)
            }
        })
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

fn one(text: &str) -> stream::Iter<std::vec::IntoIter<Result<String, Status>>> {
    stream::iter(vec![Ok(text.to_owned())])
}

fn routes(health: &Health) -> Routes {
    let router = Router::new()
        .route(
            "/test.Test/Addresses",
            post(async |request: Request| {
                let info = request.extensions().get::<TcpConnectInfo>().unwrap();
                let (local, remote) = (info.local_addr.unwrap(), info.remote_addr.unwrap());
                answer(one(&format!("{local} {remote}")))
            }),
        )
        .route("/test.Test/Never", post(std::future::pending::<()>))
        .route(
            "/test.Test/Silent",
            post(async || answer(one("first").chain(stream::pending()))),
        )
        .route(
            "/test.Test/Flood",
            post(async || {
                answer(one("first").chain(stream::repeat_with(|| Ok("x".repeat(16000)))))
            }),
        )
        .route(
            "/test.Test/Waits",
            post(async |request: Request| {
                let graceful = request.extensions().get::<Graceful>().unwrap();
                let waits = one("first").chain(stream::pending());
                answer(EndOnDrain::new(waits, graceful))
            }),
        )
        .route(
            "/test.Test/Ticks",
            post(async |request: Request| {
                let graceful = request.extensions().get::<Graceful>().unwrap();
                let every = interval(Duration::from_millis(10));
                let ticks = stream::unfold(every, async |mut every| {
                    every.tick().await;
                    Some((Ok("tick".to_owned()), every))
                });
                answer(EndOnDrain::new(ticks, graceful))
            }),
        );
    Routes::from(router).add_service(health.server())
}

pub struct Server {
    pub addr: SocketAddr,
    pub graceful: Graceful,
    pub health: Health,
    pub done: JoinHandle<Report>,
}

impl Server {
    pub async fn start(way: Way, policy: Policy) -> Self {
        let graceful = Graceful::with_policy(policy.with_deadline(DEADLINE));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let health = Health::new();
        health.set("test.Test", tonic_health::ServingStatus::Serving);
        let layer = DrainLayer::new(graceful.clone());
        let routes = routes(&health);
        let token = graceful.clone();
        let done = match way {
            Way::Ours => {
                // Under our loop the layer is not needed, and does no harm.
                let serve = handover_tonic::serve(listener, layer.layer(routes));
                let serve = serve.with_graceful(graceful.clone());
                tokio::spawn(async { serve.await.unwrap() })
            }
            Way::Foreign => {
                let incoming = Incoming::new(listener, &graceful);
                let signal = incoming.signal();
                let server = TonicServer::builder().layer(layer).add_routes(routes);
                let serve = server.serve_with_incoming_shutdown(incoming, signal);
                tokio::spawn(async move {
                    serve.await.unwrap();
                    token.drained().await
                })
            }
        };
        Self {
            addr,
            graceful,
            health,
            done,
        }
    }

    /// Waits until a handler has something to do.
    pub async fn until_called(&self) {
        let wait = async {
            while !self.graceful.holders().iter().any(|h| h.kind.is_request()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.unwrap();
    }

    /// Drains, and returns how long that took.
    pub async fn drained(self) -> (Report, Duration) {
        let began = Instant::now();
        self.graceful.drain();
        let report = timeout(DEADLINE * 10, self.done).await;
        (report.expect("the drain hangs").unwrap(), began.elapsed())
    }
}

/// One call.
pub struct Call {
    pub local: SocketAddr,
    response: Option<ResponseFuture>,
    headers: HeaderMap,
    body: Option<RecvStream>,
    read: BytesMut,
    // The connection lives as long as this.
    send: SendRequest<Bytes>,
}

impl Call {
    pub async fn to(server: &Server, path: &str) -> Self {
        Self::begin(server, path, None).await
    }

    pub async fn within(server: &Server, path: &str, limit: &str) -> Self {
        Self::begin(server, path, Some(limit)).await
    }

    async fn begin(server: &Server, path: &str, limit: Option<&str>) -> Self {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let local = stream.local_addr().unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::on(send, local, path, limit)
    }

    /// Another one on the same connection.
    pub fn again(&self, path: &str) -> Self {
        Self::on(self.send.clone(), self.local, path, None)
    }

    fn on(
        mut send: SendRequest<Bytes>,
        local: SocketAddr,
        path: &str,
        limit: Option<&str>,
    ) -> Self {
        let mut request = http::Request::post(format!("http://x{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(limit) = limit {
            request = request.header("grpc-timeout", limit);
        }
        let request = request.body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(encode(""), true).unwrap();
        Self {
            local,
            response: Some(response),
            headers: HeaderMap::new(),
            body: None,
            read: BytesMut::new(),
            send,
        }
    }

    async fn body(&mut self) -> &mut RecvStream {
        if let Some(response) = self.response.take() {
            let response = timeout(DEADLINE * 10, response).await.unwrap();
            let (parts, body) = response.unwrap().into_parts();
            self.headers = parts.headers;
            self.body = Some(body);
        }
        self.body.as_mut().unwrap()
    }

    /// Returns true once GOAWAY has come.
    pub async fn is_told(&self) -> bool {
        self.send.clone().ready().await.is_err()
    }

    /// The next message; `None` after the last one.
    pub async fn message(&mut self) -> Option<String> {
        loop {
            if let Some((head, rest)) = self.read.split_at_checked(5) {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
                if rest.len() >= length {
                    let message = self.read.split_to(5 + length);
                    return Some(String::from_utf8(message[5..].to_vec()).unwrap());
                }
            }
            let data = self.next().await?;
            let data = data.unwrap_or_else(|error| panic!("no trailers: {error}"));
            self.read.extend_from_slice(&data);
        }
    }

    /// The next piece of messages; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let body = self.body().await;
        let data = timeout(DEADLINE * 10, body.data()).await.unwrap()?;
        if let Ok(data) = &data {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        Some(data)
    }

    /// The status, once there is no message any more.
    pub async fn end(mut self) -> (Code, String) {
        assert!(self.read.is_empty(), "half a message: {:?}", self.read);
        let trailers = self.body().await.trailers().await.unwrap();
        let status = Status::from_header_map(trailers.as_ref().unwrap_or(&self.headers)).unwrap();
        (status.code(), status.message().to_owned())
    }
}
