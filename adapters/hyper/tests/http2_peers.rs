//! What a drain comes to with HTTP/2 peers of every kind, frame by frame.

mod support;

use std::time::{Duration, Instant};

use handover::Policy;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle, time::sleep};

use self::support::{
    Client, Server, assert_on_time,
    frames::{
        DATA, GOAWAY, HEADERS, HELLO, MAX, PING, RESET, SETTINGS, WINDOW_UPDATE, bytes, frame, get,
        goaway, ping, said, until_answered, write,
    },
};

const WINDOW: Duration = Duration::from_millis(400);

/// What h2 says in its PING.
const PAYLOAD: [u8; 8] = *b"\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// What a peer does when it has the first GOAWAY and its PING.
enum Does {
    /// It sends these, one after another.
    Sends(Vec<Vec<u8>>),
    /// It sends this until the connection ends.
    Floods(Vec<u8>),
}

/// When the final GOAWAY comes, and which stream it names.
#[derive(Clone, Copy, Debug)]
enum Final {
    WithTheAnswer(u32),
    WithTheWindow(u32),
}

fn answer() -> Vec<u8> {
    bytes(PING, 1, 0, &PAYLOAD)
}

fn update(stream: u32) -> Vec<u8> {
    bytes(WINDOW_UPDATE, 0, stream, &[0, 1, 0, 0])
}

fn peers() -> Vec<(&'static str, Does, Final)> {
    use Does::{Floods, Sends};
    use Final::{WithTheAnswer, WithTheWindow};
    let windows = [&[0, 4], 70_000_u32.to_be_bytes().as_slice()].concat();
    vec![
        ("answers", Sends(vec![answer()]), WithTheAnswer(3)),
        ("says nothing", Sends(vec![]), WithTheWindow(3)),
        (
            "answers something else",
            Sends(vec![bytes(PING, 1, 0, b"whatever")]),
            WithTheWindow(3),
        ),
        (
            "answers byte by byte",
            Sends(answer().chunks(1).map(<[u8]>::to_vec).collect()),
            WithTheAnswer(3),
        ),
        (
            "had a call on its way, before the answer",
            Sends(vec![get(5, "/"), answer()]),
            WithTheAnswer(5),
        ),
        (
            "had a call on its way, and does not answer",
            Sends(vec![get(5, "/")]),
            WithTheWindow(5),
        ),
        (
            "had a call on its way, behind the answer",
            Sends(vec![[answer(), get(5, "/")].concat()]),
            WithTheAnswer(3),
        ),
        (
            "makes room for the answer of a call that is left out",
            Sends(vec![[answer(), get(5, "/"), update(5)].concat()]),
            WithTheAnswer(3),
        ),
        (
            "sends a call that is left out in pieces, and takes it back",
            Sends(vec![
                [&answer(), &get(5, "/"), &update(5)[..4]].concat(),
                [&update(5)[4..], &bytes(DATA, 0, 7, b"body")].concat(),
                bytes(RESET, 0, 5, &CANCEL),
                update(7),
            ]),
            WithTheAnswer(3),
        ),
        (
            "says GOAWAY itself",
            Sends(vec![bytes(GOAWAY, 0, 0, &[0; 8]), answer()]),
            WithTheAnswer(3),
        ),
        (
            "changes its settings",
            Sends(vec![bytes(SETTINGS, 0, 0, &windows), answer()]),
            WithTheAnswer(3),
        ),
        (
            "resets a call that was answered",
            Sends(vec![bytes(RESET, 0, 1, &CANCEL), answer()]),
            WithTheAnswer(3),
        ),
        (
            "floods with pings",
            Floods(bytes(PING, 0, 0, b"12345678")),
            WithTheWindow(3),
        ),
        (
            "floods with settings",
            Floods(bytes(SETTINGS, 0, 0, &[])),
            WithTheWindow(3),
        ),
        (
            "floods with priorities",
            Floods(bytes(2, 0, 9, &[0; 5])),
            WithTheWindow(3),
        ),
    ]
}

/// Sends a frame again and again, as fast as its answers can be read. What has been sent always ends
/// within a frame.
fn flood(mut stream: TcpStream, bytes: &[u8]) -> JoinHandle<()> {
    let (begin, rest) = bytes.split_at(4);
    let (begin, frames) = (begin.to_vec(), [rest, begin].concat().repeat(50));
    tokio::spawn(async move {
        let mut sent = stream.write_all(&begin).await;
        while sent.is_ok() {
            sent = stream.write_all(&frames).await;
            sleep(Duration::from_millis(5)).await;
        }
    })
}

/// A client, and another end of its socket.
async fn connect(server: &Server) -> (Client, TcpStream) {
    let stream = std::net::TcpStream::connect(server.addr).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream.set_nodelay(true).unwrap();
    let other = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let read = Vec::new();
    (Client { stream, read }, other)
}

/// Each has had an answer on stream 1, and waits for one on stream 3, which is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_final_goaway_is_right_for_every_peer_and_its_calls_are_finished() {
    for (name, does, expected) in peers() {
        eprintln!("a peer that {name}");
        let policy = Policy::default().with_announce(WINDOW);
        let mut server = Server::with(policy, |serve| serve).await;
        let (mut client, other) = connect(&server).await;
        client.send(HELLO).await;
        write(&mut client, &get(1, "/")).await;
        until_answered(&mut client, 1).await;
        write(&mut client, &get(3, "/wait")).await;
        for path in ["/", "/wait"] {
            assert_eq!(server.called.recv().await.unwrap(), path);
        }

        let began = Instant::now();
        server.graceful.drain();
        assert_eq!(goaway(&mut client).await, Some((MAX, 0)), "{name}");
        assert_eq!(ping(&mut client).await, PAYLOAD);
        match does {
            Does::Sends(pieces) => {
                for piece in pieces {
                    write(&mut client, &piece).await;
                    tokio::task::yield_now().await;
                }
            }
            Does::Floods(bytes) => drop(flood(other, &bytes)),
        }
        let last = goaway(&mut client).await;
        let took = began.elapsed();
        match expected {
            Final::WithTheAnswer(stream) => {
                assert_eq!(last, Some((stream, 0)), "{name}");
                assert!(took < WINDOW * 3 / 4, "{name}: {took:?}");
            }
            Final::WithTheWindow(stream) => {
                assert_eq!(last, Some((stream, 0)), "{name}");
                assert!(took >= WINDOW * 3 / 4, "{name}: {took:?}");
            }
        }

        server.go.add_permits(1);
        let mut waited = Vec::new();
        let mut is_whole = false;
        while let Some((kind, flags, stream, payload)) = frame(&mut client).await {
            match (kind, stream) {
                (DATA, 3) => {
                    waited.extend(payload);
                    is_whole = flags & 1 != 0;
                }
                (GOAWAY, _) => assert_eq!(said(&payload).1, 0, "{name}"),
                _ => assert_ne!((kind, stream), (RESET, 3), "{name}"),
            }
        }
        assert!(is_whole && waited == b"waited", "{name}: {waited:?}");
        let report = server.done.await.unwrap();
        assert!(report.is_complete(), "{name}: {report}");
        assert_on_time(began.elapsed());
        // What the final GOAWAY leaves out no handler has seen.
        let (Final::WithTheAnswer(last) | Final::WithTheWindow(last)) = expected;
        let seen = std::iter::from_fn(|| server.called.try_recv().ok()).count();
        assert_eq!(seen, usize::from(last > 3), "{name}");
    }
}

/// Whatever it does, it is told, and the drain ends on its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_keeps_a_call_open_is_cut_at_the_deadline() {
    let no_window = bytes(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let half = |path| {
        let mut head = get(1, path);
        head[4] = 4; // no end of the stream
        head
    };
    let rapid = |stream| [get(stream, "/never"), bytes(RESET, 0, stream, &CANCEL)].concat();
    let resets: Vec<u8> = (0..2000).flat_map(|n| rapid(3 + 2 * n)).collect();
    let peers = [
        (
            "gives an answer no room",
            [no_window, get(1, "/big")].concat(),
            vec![],
        ),
        ("does not end its request", half("/echo"), answer()),
        ("never gets an answer", get(1, "/never"), answer()),
        ("never gets the end of one", get(1, "/endless"), answer()),
        (
            "has sent half a head",
            [get(1, "/never"), half("/")[..12].to_vec()].concat(),
            vec![],
        ),
        ("takes back call after call", get(1, "/never"), resets),
    ];
    for (name, before, after) in peers {
        eprintln!("a peer that {name}");
        let policy = Policy::default().with_announce(WINDOW);
        let mut server = Server::with(policy, |serve| serve).await;
        let (mut client, mut other) = connect(&server).await;
        client.send(HELLO).await;
        write(&mut client, &before).await;
        server.called.recv().await.unwrap();
        let began = Instant::now();
        server.graceful.drain();
        assert_eq!(goaway(&mut client).await, Some((MAX, 0)), "{name}");
        // A server that has had enough of it may not read it all.
        let sends = tokio::spawn(async move { drop(other.write_all(&after).await) });
        while frame(&mut client).await.is_some() {}
        sends.await.unwrap();
        server.done.await.unwrap();
        assert_on_time(began.elapsed());
    }
}

/// The kernel takes no more, and so hyper cannot even write GOAWAY.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_is_cut_at_the_deadline() {
    let mut server = Server::with(Policy::default(), |serve| serve).await;
    let (mut client, _) = connect(&server).await;
    let wide = bytes(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let room = bytes(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]);
    client.send(HELLO).await;
    write(&mut client, &[wide, room].concat()).await;
    for stream in 0..8 {
        write(&mut client, &get(1 + 2 * stream, "/big")).await;
        server.called.recv().await.unwrap();
    }
    let (_, took) = server.drained().await;
    assert_on_time(took);
    drop(client);
}

/// It was in the kernel's queue when the service stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_the_last_moment_is_told_and_its_calls_are_served() {
    let server = Server::start().await;
    // Begun and not yet seen by the server, as far as this thread can tell.
    let mut client = server.connect().await;
    server.graceful.drain();
    client.send(HELLO).await;
    write(&mut client, &get(1, "/")).await;
    let mut frames = Vec::new();
    while let Some((kind, flags, stream, payload)) = frame(&mut client).await {
        if (kind, flags) == (PING, 0) {
            write(&mut client, &bytes(PING, 1, 0, &payload)).await;
        }
        frames.push((kind, stream, payload));
    }
    let goaways: Vec<_> = frames
        .iter()
        .filter(|(kind, ..)| *kind == GOAWAY)
        .map(|(.., payload)| said(payload))
        .collect();
    assert_eq!(goaways, [(MAX, 0), (1, 0)]);
    assert!(
        frames
            .iter()
            .any(|(kind, of, _)| (*kind, *of) == (HEADERS, 1))
    );
    assert!(server.done.await.unwrap().is_complete());
}
