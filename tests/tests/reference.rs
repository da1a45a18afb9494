//! The reference handlers do what the load client and the process tests take for granted.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use handover::{Graceful, GracefulLayer, Reason};
use handover_tests::{
    load::{Connection, Fnv1a, Target, get},
    reference::{Info, app, filter, router},
};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

const BOUND: Duration = Duration::from_secs(5);

/// The handlers of one framework.
#[derive(Clone, Copy)]
enum App {
    Axum,
    Warp,
    ActixWeb,
}

impl App {
    async fn serve(self, graceful: &Graceful) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let info = Info::new(2);
        let graceful = graceful.clone();
        match self {
            App::Axum => {
                // On axum's own loop: the layer is what tells them of a drain.
                let app = router(info).layer(GracefulLayer::new(graceful));
                tokio::spawn(async { axum::serve(listener, app).await });
            }
            App::Warp => {
                let server = handover_warp::serve(filter(info)).incoming(listener);
                tokio::spawn(server.with_graceful(graceful).into_future());
            }
            App::ActixWeb => {
                let server = handover_actix_web::serve(move || app(info)).listen(listener);
                let server = server.with_graceful(graceful).workers(1).start().await;
                tokio::spawn(server.unwrap());
            }
        }
        address
    }
}

async fn an_upload_is_measured(app: App) {
    let target = Target::Tcp(app.serve(&Graceful::new()).await);
    let mut connection = Connection::open(&target).await.unwrap();
    let body = b"a body in one piece";
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head.as_bytes()).await.unwrap();
    connection.send(body).await.unwrap();
    let mut answer = Vec::new();
    let head = connection
        .receive(|bytes| answer.extend_from_slice(bytes))
        .await
        .unwrap();
    let mut hash = Fnv1a::default();
    hash.update(body);
    assert_eq!((head.status, head.generation), (200, Some(2)));
    let want = format!("len=19 fnv1a={:016x}\n", hash.finish());
    assert_eq!(String::from_utf8(answer).unwrap(), want);
}

async fn a_stream_is_paced_and_has_its_pattern(app: App) {
    let target = Target::Tcp(app.serve(&Graceful::new()).await);
    let start = std::time::Instant::now();
    let answer = get(&target, "/stream?secs=0.25").await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(answer.body.len(), 5 * 1024);
    assert!(answer.body.starts_with(b"abcdefghijklmnopqrstuvwxyzabc"));
    assert_eq!(
        get(&target, "/stream?secs=-1").await.unwrap().head.status,
        400
    );
}

async fn a_hanging_body_has_a_head(app: App) {
    let target = Target::Tcp(app.serve(&Graceful::new()).await);
    let mut io = target.connect().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut io, b"GET /hang-body HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    timeout(BOUND, async {
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(io.read_u8().await.unwrap());
        }
    })
    .await
    .unwrap();
    assert!(seen.starts_with(b"HTTP/1.1 200"));
    let more = timeout(Duration::from_millis(100), io.read_u8()).await;
    assert!(more.is_err(), "the body sent {more:?}");
}

async fn websocket_is_closed_with(app: App, reason: Reason, code: CloseCode) {
    let graceful = Graceful::new();
    let url = format!("ws://{}/ws", app.serve(&graceful).await);
    let (mut socket, _) = connect_async(url).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    let echo = timeout(BOUND, socket.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(echo, Message::text("hello"));
    graceful.drain_for(reason);
    let close = timeout(BOUND, socket.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let Message::Close(Some(frame)) = close else {
        panic!("no close but {close:?}")
    };
    assert_eq!(frame.code, code);
    // The end of the connection, not a reset.
    assert!(timeout(BOUND, socket.next()).await.unwrap().is_none());
}

async fn a_websocket_is_told_that_the_service_restarts(app: App) {
    let upgrade = Reason::Upgrade { successor: 1 };
    websocket_is_closed_with(app, upgrade, CloseCode::Restart).await;
}

async fn a_websocket_is_told_that_the_service_goes_away(app: App) {
    websocket_is_closed_with(app, Reason::Program, CloseCode::Away).await;
}

async fn events_resume_and_end_with_a_time_to_come_back(app: App) {
    let graceful = Graceful::new();
    let target = Target::Tcp(app.serve(&graceful).await);
    let mut connection = Connection::open(&target).await.unwrap();
    let request = "GET /sse?ms=5 HTTP/1.1\r\nhost: x\r\nlast-event-id: 41\r\n\r\n";
    connection.send(request.as_bytes()).await.unwrap();
    let mut body = String::new();
    let head = timeout(
        BOUND,
        connection.receive(|bytes| {
            body.push_str(&String::from_utf8_lossy(bytes));
            // A client takes one space after the colon away.
            body = body.replace(": ", ":");
            if body.contains("id:44") {
                graceful.drain();
            }
        }),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let events: Vec<&str> = body.split_terminator("\n\n").collect();
    let pid = std::process::id();
    for (event, id) in events.iter().zip(42..=44) {
        let mut lines: Vec<&str> = event.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, [format!("data:{pid}"), format!("id:{id}")]);
    }
    let retry = events
        .last()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("retry:"));
    let retry: u64 = retry
        .unwrap_or_else(|| panic!("no retry in {body:?}"))
        .parse()
        .unwrap();
    assert!((1000..=5000).contains(&retry), "{retry}");
}

async fn a_request_for_nothing_is_turned_away_by_name(app: App) {
    let target = Target::Tcp(app.serve(&Graceful::new()).await);
    let answer = get(&target, "/nothing").await.unwrap();
    assert_eq!(answer.head.status, 404);
    assert_eq!(answer.head.pid, Some(std::process::id()));
    let answer = get(&target, "/upload").await.unwrap();
    assert_eq!((answer.head.status, answer.head.generation), (405, Some(2)));
}

macro_rules! for_each_app {
    ($($name:ident),* $(,)?) => {
        for_app! { on_axum Axum $($name)* }
        for_app! { on_warp Warp $($name)* }
        for_app! { on_actix_web ActixWeb $($name)* }
    };
}

macro_rules! for_app {
    ($app:ident $variant:ident $($name:ident)*) => {
        mod $app {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::App::$variant).await;
            })*
        }
    };
}

for_each_app! {
    an_upload_is_measured,
    a_stream_is_paced_and_has_its_pattern,
    a_hanging_body_has_a_head,
    a_websocket_is_told_that_the_service_restarts,
    a_websocket_is_told_that_the_service_goes_away,
    events_resume_and_end_with_a_time_to_come_back,
    a_request_for_nothing_is_turned_away_by_name,
}
