//! A call that its client had on its way when it answered the PING of GOAWAY, frame by frame.

mod support;

use std::time::Duration;

use handover::Policy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::support::{Server, Way};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length, &[kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A call with an empty message.
fn call(stream: u32, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let head = [
        &[0x83, 0x86, 0x44][..], // POST, http, the path
        &text(path),
        &[0x41], // the authority
        &text("x"),
        &[0x5f], // the content type
        &text("application/grpc"),
    ];
    let head = frame(HEADERS, END_HEADERS, stream, &head.concat());
    [head, frame(DATA, 1, stream, &[0; 5])].concat()
}

async fn next(stream: &mut TcpStream) -> (u8, u8, u32, Vec<u8>) {
    let read = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, flags, of @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        (kind, flags, u32::from_be_bytes(of), payload)
    };
    timeout(Duration::from_secs(10), read).await.unwrap()
}

/// It is left out, and the stream that was under way goes on to its end.
async fn leaves_the_others_alone(way: Way) {
    let server = Server::start(way, Policy::default()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let silent = call(1, "/test.Test/Silent");
    stream
        .write_all(&[hello, &silent[..]].concat())
        .await
        .unwrap();
    while next(&mut stream).await.0 != DATA {}
    server.graceful.drain();
    let ping = loop {
        // Not one that measures how much there is room for.
        let (kind, flags, _, payload) = next(&mut stream).await;
        if (kind, flags) == (PING, 0) && payload.starts_with(&[0x0b, 0x7b]) {
            break payload;
        }
    };
    let late = [
        frame(PING, 1, 0, &ping),
        call(3, "/test.Test/Silent"),
        frame(WINDOW_UPDATE, 0, 3, &[0, 1, 0, 0]),
    ];
    stream.write_all(&late.concat()).await.unwrap();
    loop {
        match next(&mut stream).await {
            // Trailers, at the deadline.
            (HEADERS, flags, 1, _) => break assert_eq!(flags & 1, 1),
            (HEADERS, _, other, _) => panic!("{other} is served"),
            (GOAWAY, .., payload) => assert_eq!(payload[..8], [0, 0, 0, 1, 0, 0, 0, 0]),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_the_others_alone_on_our_loop() {
    leaves_the_others_alone(Way::Ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_the_others_alone_on_tonic_s_loop() {
    leaves_the_others_alone(Way::Foreign).await;
}
