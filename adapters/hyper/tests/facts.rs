//! What a handler is told of its request's connection, and where.

mod support;

use std::{convert::Infallible, future::IntoFuture, sync::Arc, time::Duration};

use bytes::Bytes;
use handover::{Connection, Graceful};
use handover_hyper::RequestBody;
use http::{Extensions, Request, Response};
use http_body_util::Full;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use self::support::frames::{HELLO, get};

const BOUND: Duration = Duration::from_secs(20);

/// What a handler sees.
struct Seen {
    extensions: Extensions,
    connection: Arc<Connection>,
    graceful: Graceful,
}

/// Asks once over each version of HTTP, and looks at what the handler saw.
async fn ask(extends: bool) {
    let graceful = Graceful::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (send, mut calls) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |mut request: Request<RequestBody>| {
        let seen = Seen {
            extensions: std::mem::take(request.extensions_mut()),
            connection: request.body().connection().clone(),
            graceful: request.body().graceful().clone(),
        };
        send.send(seen).unwrap();
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
            "hello",
        ))))
    });
    let serve = handover_hyper::serve(listener, service);
    let mut serve = serve.with_graceful(graceful.clone());
    if !extends {
        serve = serve.without_extensions();
    }
    let done = tokio::spawn(serve.into_future());

    let http1 = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    let http2 = [HELLO.as_bytes(), &get(1, "/")].concat();
    for request in [http1, http2] {
        let mut io = TcpStream::connect(addr).await.unwrap();
        io.write_all(&request).await.unwrap();
        let peer = io.local_addr().unwrap();
        let seen = timeout(BOUND, calls.recv()).await.unwrap().unwrap();
        assert_eq!(seen.connection.peer().as_socket_addr(), Some(peer));
        assert!(seen.graceful.is_same_drain(&graceful));
        let connection = seen.extensions.get::<Arc<Connection>>();
        let token = seen.extensions.get::<Graceful>();
        if extends {
            assert!(Arc::ptr_eq(connection.unwrap(), &seen.connection));
            assert!(token.unwrap().is_same_drain(&graceful));
        } else {
            assert!(seen.extensions.is_empty());
        }
    }
    graceful.drain();
    timeout(BOUND, done).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_request_has_its_connection_and_the_token() {
    ask(true).await;
}

#[tokio::test]
async fn without_extensions_they_are_in_the_body_alone() {
    ask(false).await;
}
