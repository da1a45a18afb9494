//! What ends in good order says so, in the words of TLS; what is broken off does not.

mod support;

use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use handover::{ClosePolicy, Draining, Graceful, Kind};
use handover_hyper::{RequestBody, websocket::WebSocket};
use handover_tests::tls::Certificates;
use http::{
    Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE},
};
use http_body::Frame;
use http_body_util::{StreamBody, combinators::BoxBody};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, handshake::derive_accept_key, protocol::Role},
};

use self::support::{BOUND, Server, VERSIONS, Version, client_of, end, facts, get, tls};

type ClientSocket = WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>;

/// A WebSocket that is told of a drain, for whoever asks for one.
async fn talk(mut request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return facts(request).await;
    };
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(String::new());
    let upgrade = hyper::upgrade::on(&mut request);
    let draining = Draining::of_parts(&request.into_parts().0);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let closing = draining.closing(ClosePolicy::default());
        let mut socket = WebSocket::new(socket, closing, |_| Message::Close(None));
        while let Some(Ok(_)) = socket.recv().await {}
    });
    Ok(answer.unwrap())
}

/// A server whose drain takes no longer than this, and a WebSocket of it.
async fn open(version: Version, deadline: Duration) -> (Server, ClientSocket) {
    let certificates = Certificates::new().unwrap();
    let graceful = Graceful::builder().deadline(deadline).build();
    let tls = tls(&certificates).load().unwrap();
    let server = Server::start_with(tls, graceful, talk).await;
    let client = client_of(&certificates, version);
    let io = client.connect(server.addr).await.unwrap();
    let (socket, _) = client_async("ws://localhost/", io).await.unwrap();
    server.until(Kind::WebSocket, 1).await;
    (server, socket)
}

#[tokio::test]
async fn a_websocket_that_answers_is_told_that_all_has_come() {
    for version in VERSIONS {
        let (server, mut socket) = open(version, BOUND).await;
        server.graceful.drain();
        let close = timeout(BOUND, socket.next()).await.unwrap();
        assert!(matches!(close, Some(Ok(Message::Close(_)))), "{close:?}");
        // It has answered now, and reads on to the end. One without close_notify is an error.
        let last = timeout(BOUND, socket.next()).await.unwrap();
        assert!(last.is_none(), "{version:?}: {last:?}");
        let report = server.ended().await;
        assert!(report.is_complete(), "{report}");
    }
}

#[tokio::test]
async fn a_websocket_that_is_cut_is_not() {
    for version in VERSIONS {
        let (server, mut socket) = open(version, Duration::from_millis(300)).await;
        server.graceful.drain();
        // Nothing is answered while nobody reads.
        let report = server.ended().await;
        assert_eq!(report.cut.len(), 1, "{report}");
        let close = timeout(BOUND, socket.next()).await.unwrap();
        assert!(matches!(close, Some(Ok(Message::Close(_)))), "{close:?}");
        let last = timeout(BOUND, socket.next()).await.unwrap();
        let Some(Err(Error::Io(error))) = &last else {
            panic!("{version:?}: {last:?}");
        };
        let kinds = [
            ErrorKind::UnexpectedEof,
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
        ];
        assert!(kinds.contains(&error.kind()), "{version:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_told_that_all_has_come() {
    for version in VERSIONS {
        let certificates = Certificates::new().unwrap();
        let graceful = Graceful::builder()
            .announce(Duration::from_millis(50))
            .build();
        let server = Server::start(tls(&certificates).load().unwrap(), graceful).await;
        let client = client_of(&certificates, version);
        let mut io = client.connect(server.addr).await.unwrap();
        get(&mut io).await.unwrap();
        server.graceful.drain();
        assert_eq!(end(&mut io).await.unwrap(), b"", "{version:?}");
        assert!(server.ended().await.is_complete());
    }
}

/// Its length is told by nothing but the end of the connection, and it fails before it is there.
async fn fails(_: Request<RequestBody>) -> Result<Response<BoxBody<Bytes, io::Error>>, Infallible> {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"half of it"))),
        Err(io::Error::other("the rest is not to be had")),
    ];
    let body = StreamBody::new(stream::iter(frames));
    Ok(Response::new(BoxBody::new(body)))
}

#[tokio::test]
async fn a_body_that_fails_is_not_taken_for_a_whole_one() {
    for version in VERSIONS {
        let certificates = Certificates::new().unwrap();
        let tls = tls(&certificates).load().unwrap();
        let server = Server::start_with(tls, Graceful::new(), fails).await;
        let client = client_of(&certificates, version);
        let mut io = client.connect(server.addr).await.unwrap();
        io.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let ended = end(&mut io).await;
        assert!(ended.is_err(), "{version:?}: {ended:?}");
    }
}
