//! WebSockets, streams of events and long polls in a drain.

use std::{net::SocketAddr, time::Duration};

use actix_web::{
    App, Error, HttpRequest, HttpResponse, Responder,
    http::StatusCode,
    rt,
    web::{self, Bytes},
};
use actix_ws::Message;
use futures_util::{SinkExt, StreamExt, stream};
use handover::{ClosePolicy, Graceful, Kind, Reason, Report};
use handover_actix_web::{Draining, ws};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};

const BOUND: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_millis(800);

struct Server {
    addr: SocketAddr,
    graceful: Graceful,
    done: JoinHandle<std::io::Result<Report>>,
}

/// A server, and what its WebSockets hear.
async fn start() -> (Server, mpsc::UnboundedReceiver<String>) {
    let (tell, heard) = mpsc::unbounded_channel();
    let graceful = Graceful::builder().deadline(DEADLINE).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = handover_actix_web::serve(move || {
        App::new()
            .app_data(web::Data::new(tell.clone()))
            .route("/listen", web::get().to(listen))
            .route("/impatient", web::get().to(impatient))
            .route("/events", web::get().to(events))
            .route("/poll", web::get().to(poll))
    });
    let server = server.listen(listener).workers(1);
    let server = server.with_graceful(graceful.clone()).start().await;
    let server = Server {
        addr,
        graceful,
        done: tokio::spawn(server.unwrap()),
    };
    (server, heard)
}

async fn listen(
    request: HttpRequest,
    body: web::Payload,
    tell: web::Data<mpsc::UnboundedSender<String>>,
    draining: Draining,
) -> Result<HttpResponse, Error> {
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let mut messages = ws::graceful(messages, &session, &draining);
    rt::spawn(async move {
        // Another handle of the same session.
        let mut session = session;
        while let Some(Ok(message)) = messages.recv().await {
            match message {
                Message::Text(text) if messages.is_closing() => {
                    let refused = session.text("too late").await.is_err();
                    let _ = tell.send(format!("{text} {refused}"));
                }
                Message::Text(text) => session.text(text).await.unwrap(),
                _ => {}
            }
        }
        let _ = tell.send("end".to_owned());
    });
    Ok(response)
}

/// Has words of its own, and not much time.
async fn impatient(
    request: HttpRequest,
    body: web::Payload,
    draining: Draining,
) -> Result<HttpResponse, Error> {
    let policy = ClosePolicy::default()
        .with_codes(4001, 4002)
        .with_reason("see you")
        .without_retry_hint()
        .with_limit(DEADLINE / 8);
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let messages = messages.aggregate_continuations();
    let mut messages = ws::graceful_with(messages, &session, &draining, policy);
    rt::spawn(async move { while let Some(Ok(_)) = messages.recv().await {} });
    Ok(response)
}

async fn events(draining: Draining) -> impl Responder {
    let first = stream::iter([Ok::<_, Error>(Bytes::from_static(b"id: 1\ndata: one\n\n"))]);
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(draining.events(first.chain(stream::pending())))
}

async fn poll(draining: Draining) -> (String, StatusCode) {
    match draining.or(std::future::pending::<String>()).await {
        Some(news) => (news, StatusCode::OK),
        None => (String::new(), StatusCode::NO_CONTENT),
    }
}

impl Server {
    async fn until(&self, kind: Kind) {
        let wait = async {
            while !self.graceful.holders().iter().any(|h| h.kind == kind) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(BOUND, wait).await.is_err() {
            panic!("no {kind}: {:?}", self.graceful.holders());
        }
    }

    async fn websocket(&self, path: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let url = format!("ws://{}{path}", self.addr);
        let (socket, _) = client_async(url, stream).await.unwrap();
        self.until(Kind::WebSocket).await;
        socket
    }

    async fn ended(self) -> Report {
        let report = timeout(BOUND, self.done).await.unwrap();
        report.unwrap().unwrap()
    }

    /// The answer to a request that is under way when the drain begins.
    async fn answer(&self, path: &str, begun: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        self.until(Kind::Request).await;
        let mut answer = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&answer).contains(begun) {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
            self.graceful.drain();
            stream.read_to_end(&mut answer).await.unwrap();
        };
        timeout(BOUND, reading).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// The close that comes next, and then the end.
async fn closed(socket: &mut WebSocketStream<TcpStream>) -> (u16, String) {
    let next = timeout(BOUND, socket.next()).await.unwrap();
    let Some(Ok(tungstenite::Message::Close(Some(frame)))) = next else {
        panic!("no close but {next:?}");
    };
    let end = timeout(BOUND, socket.next()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
    (frame.code.into(), frame.reason.to_string())
}

#[tokio::test]
async fn a_client_is_told_when_to_come_back() {
    for (reason, code) in [
        (Reason::Program, 1001),
        (Reason::Upgrade { successor: 1 }, 1012),
    ] {
        let (server, _heard) = start().await;
        let mut socket = server.websocket("/listen").await;
        let peer = socket.get_ref().local_addr().unwrap();
        let listed = server.graceful.holders();
        let text: Vec<_> = listed.iter().map(ToString::to_string).collect();
        let name = format!("WebSocket GET /listen {peer}, 0.");
        assert!(text.concat().starts_with(&name), "{text:?}");
        assert_eq!(listed.len(), 1, "{text:?}");
        server.graceful.drain_for(reason);
        let (said, reason) = closed(&mut socket).await;
        assert_eq!(said, code);
        assert!(reason.starts_with("server draining, retry in "), "{reason}");
        drop(socket);
        let report = server.ended().await;
        assert!(report.is_complete(), "{report}");
        let reconnects = report.reconnects;
        assert_eq!((reconnects.told, reconnects.unanswered), (1, 0));
    }
}

#[tokio::test]
async fn what_was_on_its_way_is_received_and_nothing_more_is_sent() {
    let (server, mut heard) = start().await;
    let mut socket = server.websocket("/listen").await;
    socket
        .send(tungstenite::Message::text("early"))
        .await
        .unwrap();
    let echo = timeout(BOUND, socket.next()).await.unwrap();
    assert_eq!(echo.unwrap().unwrap(), tungstenite::Message::text("early"));
    server.graceful.drain();
    // The close has come, and has not been read.
    let readable = timeout(BOUND, socket.get_ref().readable()).await;
    readable.unwrap().unwrap();
    for number in 0..20 {
        let message = tungstenite::Message::text(number.to_string());
        socket.send(message).await.unwrap();
    }
    assert_eq!(closed(&mut socket).await.0, 1001);
    drop(socket);
    let report = server.ended().await;
    assert!(report.is_complete(), "{report}");
    for number in 0..20 {
        let said = heard.recv().await.unwrap();
        assert_eq!(said, format!("{number} true"));
    }
    assert_eq!(heard.recv().await.unwrap(), "end");
}

#[tokio::test]
async fn code_reason_and_time_are_the_applications() {
    let (server, _heard) = start().await;
    let mut socket = server.websocket("/impatient").await;
    let mut silent = server.websocket("/impatient").await;
    server.graceful.drain();
    assert_eq!(closed(&mut socket).await, (4002, "see you".into()));
    drop(socket);
    let report = server.ended().await;
    assert!(report.is_complete(), "{report}");
    assert!(report.took >= DEADLINE / 8, "{report}");
    assert_eq!(report.reconnects.unanswered, 1, "{report}");
    assert_eq!(closed(&mut silent).await.0, 4002, "it was told as well");
}

#[tokio::test]
async fn a_stream_of_events_ends_with_a_time_to_come_back() {
    let (server, _heard) = start().await;
    let answer = server.answer("/events", "data: one\n\n").await;
    assert!(answer.contains("\r\nretry: "), "{answer}");
    assert!(
        answer.ends_with("\n: draining\n\n\r\n0\r\n\r\n"),
        "{answer}"
    );
    let report = server.ended().await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test]
async fn a_long_poll_is_answered_early() {
    let (server, _heard) = start().await;
    let answer = server.answer("/poll", "").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let report = server.ended().await;
    assert!(report.is_complete(), "{report}");
}
