//! A client of HTTP/2 that is no more than its frames.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::Client;

/// The preface and an empty SETTINGS frame.
pub const HELLO: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const MAX: u32 = u32::MAX >> 1;

/// A frame's bytes.
pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// GET of a path, whole: from the static table and two literals.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    let block = [
        &[0x82, 0x86, 0x44, length],
        path.as_bytes(),
        &[0x41, 1, b'x'],
    ]
    .concat();
    bytes(HEADERS, 5, stream, &block)
}

/// One frame: its kind, its flags, its stream and its payload; `None` at the end.
pub async fn frame(client: &mut Client) -> Option<(u8, u8, u32, Vec<u8>)> {
    let read = async {
        let mut head = [0; 9];
        client.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.stream.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    };
    timeout(Duration::from_secs(10), read).await.unwrap()
}

/// What a GOAWAY says: the last stream and the reason.
pub fn said(payload: &[u8]) -> (u32, u32) {
    let number = |at| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    (number(0), number(4))
}

/// The next GOAWAY.
pub async fn goaway(client: &mut Client) -> Option<(u32, u32)> {
    loop {
        let (kind, _, _, payload) = frame(client).await?;
        if kind == GOAWAY {
            return Some(said(&payload));
        }
    }
}

/// The PING that has to be answered.
pub async fn ping(client: &mut Client) -> Vec<u8> {
    let (kind, flags, _, payload) = frame(client).await.unwrap();
    assert_eq!((kind, flags), (PING, 0));
    payload
}

pub async fn answer(client: &mut Client, payload: &[u8]) {
    write(client, &bytes(PING, 1, 0, payload)).await;
}

pub async fn write(client: &mut Client, bytes: &[u8]) {
    client.stream.write_all(bytes).await.unwrap();
}

/// Reads until the answer's head.
pub async fn until_answered(client: &mut Client, stream: u32) {
    loop {
        let (kind, _, of, _) = frame(client).await.unwrap();
        if (kind, of) == (HEADERS, stream) {
            return;
        }
    }
}
