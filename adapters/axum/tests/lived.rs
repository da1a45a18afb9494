//! WebSockets and streams of events in a drain.

mod support;

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::{
        WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::{Response, Sse, sse::Event},
    routing::{any, get},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use handover::{ClosePolicy, Graceful, Kind, Reason};
use handover_axum::{Draining, sse, ws};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, protocol::Role},
};

use self::support::{DEADLINE, Server};

const BOUND: Duration = Duration::from_secs(10);

type Heard = mpsc::UnboundedReceiver<String>;

/// A server, and what its handlers hear.
async fn start() -> (Server, Heard) {
    let (tell, heard) = mpsc::unbounded_channel();
    let on_upgrade = |upgrade: WebSocketUpgrade, handler| upgrade.on_upgrade(handler);
    let listening = async move |upgrade: WebSocketUpgrade, draining: Draining| {
        on_upgrade(upgrade, move |socket| async move {
            let mut socket = ws::graceful(socket, &draining);
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                let _ = tell.send(text.to_string());
            }
        })
    };
    let app = Router::new()
        .route("/listen", any(listening))
        .route("/echo", any(echo))
        .route("/impatient", any(impatient))
        .route("/both", any(both))
        .route("/events", get(events));
    let graceful = Graceful::builder().deadline(DEADLINE).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = handover_axum::serve(listener, app).with_graceful(graceful.clone());
    let server = Server {
        addr,
        graceful,
        done: tokio::spawn(async { serve.await.unwrap() }),
    };
    (server, heard)
}

async fn echo(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = ws::graceful(socket, &draining);
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Has words of its own, and not much time.
async fn impatient(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
    let policy = ClosePolicy::default()
        .with_codes(4001, 4002)
        .with_reason("see you")
        .without_retry_hint()
        .with_limit(DEADLINE / 8);
    upgrade.on_upgrade(async move |socket: WebSocket| {
        let mut socket = ws::graceful_with(socket, &draining, policy);
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// Reads in one task and writes in another, more than its peer may read.
async fn both(upgrade: WebSocketUpgrade, draining: Draining) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let (mut writes, mut reads) = ws::graceful(socket, &draining).split();
        let writer = tokio::spawn(async move {
            let piece = Bytes::from(vec![0; 64 * 1024]);
            while writes.send(Message::Binary(piece.clone())).await.is_ok() {}
        });
        while let Some(Ok(_)) = reads.next().await {}
        writer.await.unwrap();
    })
}

async fn events(draining: Draining) -> Response {
    let first = stream::iter([Ok::<_, Infallible>(Event::default().id("1").data("one"))]);
    sse::graceful(Sse::new(first.chain(stream::pending())), &draining)
}

impl Server {
    async fn websocket(&self, path: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let url = format!("ws://{}{path}", self.addr);
        let (socket, _) = client_async(url, stream).await.unwrap();
        self.until(Kind::WebSocket).await;
        socket
    }
}

/// The close that comes next, and then the end.
async fn closed<S>(socket: &mut WebSocketStream<S>) -> (u16, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let next = timeout(BOUND, socket.next()).await.unwrap();
    let Some(Ok(tungstenite::Message::Close(Some(frame)))) = next else {
        panic!("no close but {next:?}");
    };
    let end = timeout(BOUND, socket.next()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
    (frame.code.into(), frame.reason.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_when_to_come_back() {
    for (reason, code) in [
        (Reason::Program, 1001),
        (Reason::Upgrade { successor: 1 }, 1012),
    ] {
        let (server, _heard) = start().await;
        let mut socket = server.websocket("/listen").await;
        let peer = socket.get_ref().local_addr().unwrap();
        let listed = server.graceful.holders();
        let text = listed.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(
            text.concat()
                .contains(&format!("WebSocket GET /listen {peer}")),
            "{text:?}"
        );
        assert_eq!(listed.len(), 1, "{text:?}");
        server.graceful.drain_for(reason);
        let (said, reason) = closed(&mut socket).await;
        assert_eq!(said, code);
        assert!(reason.starts_with("server draining, retry in "), "{reason}");
        drop(socket);
        let report = timeout(BOUND, server.done).await.unwrap().unwrap();
        assert!(report.is_complete(), "{report}");
        assert_eq!(
            (report.reconnects.told, report.reconnects.unanswered),
            (1, 0)
        );
    }
}

/// Sends messages when the close has come, and has not been read.
async fn speak_late(socket: &mut WebSocketStream<TcpStream>) {
    timeout(BOUND, socket.get_ref().readable())
        .await
        .unwrap()
        .unwrap();
    for number in 0..100 {
        let message = tungstenite::Message::text(number.to_string());
        socket.send(message).await.unwrap();
    }
}

/// Fails if what was on its way when the close began does not come to the handler.
#[tokio::test(flavor = "multi_thread")]
async fn messages_under_way_are_delivered() {
    let (server, mut heard) = start().await;
    let mut socket = server.websocket("/listen").await;
    server.graceful.drain();
    speak_late(&mut socket).await;
    closed(&mut socket).await;
    let (report, _) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    for number in 0..100 {
        assert_eq!(heard.recv().await.unwrap(), number.to_string());
    }
}

/// Fails if a handler that lets go at its first error takes the close along, by a reset.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_seen_through_when_the_handler_has_let_go() {
    let (server, _heard) = start().await;
    let mut socket = server.websocket("/echo").await;
    server.graceful.drain();
    speak_late(&mut socket).await;
    let (code, _) = closed(&mut socket).await;
    assert_eq!(code, 1001);
    let (report, _) = server.drained().await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_reason_and_time_are_the_applications() {
    let (server, _heard) = start().await;
    let mut socket = server.websocket("/impatient").await;
    let mut silent = server.websocket("/impatient").await;
    server.graceful.drain();
    assert_eq!(closed(&mut socket).await, (4002, "see you".into()));
    let (report, _) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(
        report.took >= DEADLINE / 8 && report.took < DEADLINE,
        "{report}"
    );
    assert_eq!(report.reconnects.unanswered, 1, "{report}");
    assert_eq!(
        closed(&mut silent).await.0,
        4002,
        "it was told all the same"
    );
}

/// Fails if the close takes the waker of a writer that waits for its peer to read.
#[tokio::test(flavor = "multi_thread")]
async fn two_halves_end_together() {
    let (server, _heard) = start().await;
    let mut socket = server.websocket("/both").await;
    // Until neither side's buffers take any more.
    let (mut before, mut queued) = (0, 1);
    while before != queued {
        tokio::time::sleep(Duration::from_millis(100)).await;
        before = queued;
        queued = unread(socket.get_ref());
    }
    server.graceful.drain();
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(tungstenite::Message::Binary(_))) => {}
                other => break other,
            }
        }
    };
    let last = timeout(BOUND, reading).await.unwrap();
    let Some(Ok(tungstenite::Message::Close(Some(frame)))) = last else {
        panic!("no close but {last:?}");
    };
    assert_eq!(u16::from(frame.code), 1001);
    assert!(timeout(BOUND, socket.next()).await.unwrap().is_none());
    let report = timeout(BOUND, server.done).await.unwrap().unwrap();
    assert!(report.is_complete(), "{report}");
}

fn unread(stream: &TcpStream) -> usize {
    let mut bytes = vec![std::mem::MaybeUninit::uninit(); 16 << 20];
    socket2::SockRef::from(stream).peek(&mut bytes).unwrap_or(0)
}

// ===== HTTP/2 =====

/// The client's end of a stream, as one of bytes.
fn bytes_of(mut out: h2::SendStream<Bytes>, mut inn: h2::RecvStream) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (mut reads, mut writes) = tokio::io::split(theirs);
    tokio::spawn(async move {
        while let Some(Ok(bytes)) = inn.data().await {
            let _ = inn.flow_control().release_capacity(bytes.len());
            if writes.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = writes.shutdown().await;
    });
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = reads.read(&mut bytes).await {
            if out
                .send_data(Bytes::copy_from_slice(&bytes[..n]), false)
                .is_err()
            {
                return;
            }
        }
        let _ = out.send_data(Bytes::new(), true);
    });
    ours
}

async fn websocket_over_http2(server: &Server, path: &str) -> WebSocketStream<DuplexStream> {
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    // Its settings say whether there may be WebSockets.
    let client = timeout(BOUND, async {
        loop {
            tokio::select! {
                ended = &mut connection => panic!("{ended:?}"),
                () = tokio::task::yield_now() => {}
            }
            if client.is_extended_connect_protocol_enabled() {
                return client;
            }
        }
    })
    .await
    .expect("SETTINGS_ENABLE_CONNECT_PROTOCOL");
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(http::Method::CONNECT)
        .uri(format!("http://{}{path}", server.addr))
        .header("sec-websocket-version", "13")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, out) = client.send_request(request, false).unwrap();
    let response = timeout(BOUND, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    server.until(Kind::WebSocket).await;
    let bytes = bytes_of(out, response.into_body());
    WebSocketStream::from_raw_socket(bytes, Role::Client, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_a_client_is_told_as_well() {
    let (server, mut heard) = start().await;
    let mut socket = websocket_over_http2(&server, "/listen").await;
    let listed = server.graceful.holders();
    let text = listed
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    assert!(
        text.contains("WebSocket CONNECT /listen 127.0.0.1:"),
        "{text}"
    );
    socket
        .send(tungstenite::Message::text("hello"))
        .await
        .unwrap();
    assert_eq!(heard.recv().await.unwrap(), "hello");
    server.graceful.drain();
    let (code, _) = closed(&mut socket).await;
    assert_eq!(code, 1001);
    drop(socket);
    let (report, _) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.reconnects.told, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_one_that_never_answers_is_cut_and_named() {
    let (server, _heard) = start().await;
    let socket = websocket_over_http2(&server, "/listen").await;
    let report = server.assert_cut().await;
    let text = report.to_string();
    assert!(
        text.contains("cut 1: WebSocket CONNECT /listen 127.0.0.1:"),
        "{text}"
    );
    assert_eq!(report.abandoned, 0, "{text}");
    drop(socket);
}

// ===== events =====

#[tokio::test(flavor = "multi_thread")]
async fn events_end_with_a_retry_and_cleanly() {
    let (server, _heard) = start().await;
    let mut client = server.connect().await;
    client.get("/events").await;
    client.until("data: one\n\n").await;
    server.graceful.drain();
    let last = client.until("0\r\n\r\n").await;
    assert!(
        last.contains("retry: 1") || last.contains("retry: 2000"),
        "{last:?}"
    );
    assert!(last.contains("\n: draining\n\n"), "{last:?}");
    // Whoever asks in the drain is served as well, told, and not refused.
    client.get("/events").await;
    let again = client.until("0\r\n\r\n").await;
    assert!(again.starts_with("HTTP/1.1 200 "), "{again:?}");
    assert!(
        again.contains("retry: ") && again.contains("connection: close"),
        "{again:?}"
    );
    let (report, took) = server.drained().await;
    assert!(report.is_complete(), "{report}");
    assert!(took < DEADLINE / 2, "{took:?}");
}
