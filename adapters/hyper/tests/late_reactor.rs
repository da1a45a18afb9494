//! What a client has asked is served, although the runtime has not heard of it yet when the connection is
//! closed: the reactor looks between tasks, and not before each.

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use handover::Kind;
use support::Server;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Asks and ends the time for answers within one turn of the only thread.
async fn answered_at_the_end(server: Server, mut client: TcpStream) {
    client.write_all(REQUEST).unwrap();
    server.graceful.cut();
    let (report, _) = server.drained().await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer:?}: {report}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_request_on_an_idle_connection() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.get("/").await;
    client.until("hello").await;
    server.until(Kind::Idle).await;
    let client = client.stream.into_std().unwrap();
    client.set_nonblocking(false).unwrap();
    answered_at_the_end(server, client).await;
}

#[tokio::test]
async fn the_first_request_of_a_connection() {
    let server = Server::start().await;
    let client = TcpStream::connect(server.addr).unwrap();
    server.until(Kind::Fresh).await;
    answered_at_the_end(server, client).await;
}
