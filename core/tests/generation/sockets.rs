//! The sockets that a program gets: what they are called, where they are, what lies below.

use std::{
    future::poll_fn,
    io::Write,
    net::TcpStream,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    pin::pin,
    time::Duration,
};

use handover::{Accept, Address, Seqpacket};
use rustix::{
    fs::{OFlags, fcntl_getfl},
    io::{FdFlags, fcntl_getfd},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair,
    },
};
use tokio::time::timeout;

use super::builder;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn is_as_every_generation_needs_it(fd: impl AsFd) {
    assert!(fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK));
    assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
}

#[tokio::test]
async fn a_listener_says_its_name_and_its_real_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let generation = builder().start().unwrap();
    let web = generation.listen("web=127.0.0.1:0").await.unwrap();
    let local = format!("unix:{}", path.display());
    let local = generation.listen(&local).await.unwrap();
    let address = web.local_addr().unwrap();
    let port = address.ip().zip(address.to_string().parse().ok());
    let (_, port): (_, std::net::SocketAddr) = port.unwrap();
    assert_ne!(port.port(), 0);
    assert_eq!(web.name(), "web");
    assert!(web.differences().is_empty());
    assert_eq!(local.local_addr().unwrap().as_path(), Some(&*path));
    // In a log it is known by both.
    let text = format!("{web:?}");
    assert!(text.contains("web") && text.contains(&address.to_string()));
    assert!(format!("{local:?}").contains("app.sock"));
    for listener in [&web, &local] {
        is_as_every_generation_needs_it(listener);
        assert_ne!(listener.as_fd().as_raw_fd(), -1);
    }
    let names: Vec<_> = generation.status().listeners;
    assert_eq!(names.len(), 2, "{names:?}");
}

/// A framework that accepts by itself gets the socket itself, and not a copy of it.
#[tokio::test]
async fn what_lies_below_a_listener_accepts_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let generation = builder().start().unwrap();
    let mut tcp = generation.listen("tcp=127.0.0.1:0").await.unwrap();
    let mut bare = generation.listen("bare=127.0.0.1:0").await.unwrap();
    let local = format!("local=unix:{}", path.display());
    let mut local = generation.listen(local).await.unwrap();
    let [at, bare_at] = [&tcp, &bare].map(|it| it.local_addr().unwrap().to_string());
    // Nobody accepts before the generation serves.
    assert!(poll(tcp.opened()).is_none());
    generation.ready().await.unwrap();
    timeout(PATIENCE, tcp.opened()).await.unwrap();
    bare.opened().await;
    local.opened().await;

    // Of the wrong kind, it comes back as it was.
    let tcp = tcp.into_tokio_unix().unwrap_err();
    assert_eq!(tcp.name(), "tcp");
    let local = local.into_tokio_tcp().unwrap_err();
    assert_eq!(local.name(), "local");

    let tcp = tcp.into_tokio_tcp().unwrap();
    let client = TcpStream::connect(&at).unwrap();
    let (_, peer) = timeout(PATIENCE, tcp.accept()).await.unwrap().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());

    let local = local.into_tokio_unix().unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    timeout(PATIENCE, local.accept()).await.unwrap().unwrap();

    let fd: OwnedFd = bare.into_fd().unwrap();
    is_as_every_generation_needs_it(&fd);
    let bare = std::net::TcpListener::from(fd);
    assert_eq!(bare.local_addr().unwrap().to_string(), bare_at);
}

/// What a future has at its first poll.
fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

fn connect_seqpacket(address: &SocketAddrUnix) -> Seqpacket {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    connect(&fd, address).unwrap();
    Seqpacket::from_fd(fd).unwrap()
}

#[tokio::test]
async fn messages_stay_apart_over_a_listener_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let generation = builder().start().unwrap();
    let text = format!("control=unix:{}", path.display());
    let mut listener = generation.listen_seqpacket(text).await.unwrap();
    assert_eq!(listener.name(), "control");
    assert_eq!(listener.local_addr().unwrap().as_path(), Some(&*path));
    assert!(listener.differences().is_empty());
    is_as_every_generation_needs_it(&listener);
    let text = format!("{listener:?}");
    assert!(text.contains("control") && text.contains("app.sock"));

    let client = connect_seqpacket(&SocketAddrUnix::new(&path).unwrap());
    assert!(poll(listener.accept()).is_none(), "it does not serve yet");
    generation.ready().await.unwrap();
    let accepted = timeout(PATIENCE, listener.accept()).await.unwrap();
    let (server, peer) = accepted.unwrap();
    assert!(matches!(peer, Address::Unix(_)), "{peer:?}");
    client.send(b"one").await.unwrap();
    client.send(b"three").await.unwrap();
    let mut message = [0; 64];
    assert_eq!(server.recv(&mut message).await.unwrap(), 3);
    assert_eq!(server.recv(&mut message).await.unwrap(), 5);
    assert_eq!(&message[..5], b"three");
    drop(client);
    assert_eq!(server.recv(&mut message).await.unwrap(), 0);
}

/// Half a message is none, and is not passed off as one.
#[tokio::test]
async fn a_message_that_does_not_fit_is_an_error_and_the_next_one_is_whole() {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (one, other) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    let [one, other] = [one, other].map(|fd| Seqpacket::from_fd(fd).unwrap());
    is_as_every_generation_needs_it(&one);
    one.send(b"far too long").await.unwrap();
    one.send(b"ok").await.unwrap();
    let mut message = [0; 3];
    let err = other.recv(&mut message).await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(&message, b"far");
    assert_eq!(other.recv(&mut message).await.unwrap(), 2);
    // A peer that has gone is an answer, and not the end of this process.
    drop(other);
    let err = one.send(b"hello").await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::BrokenPipe);

    let (one, other) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    let fd = Seqpacket::from_fd(one).unwrap().into_fd().unwrap();
    is_as_every_generation_needs_it(&fd);
    Seqpacket::from_fd(fd).unwrap().send(b"on").await.unwrap();
    let mut message = [0; 8];
    let other = Seqpacket::from_fd(other).unwrap();
    assert_eq!(other.recv(&mut message).await.unwrap(), 2);
}

#[tokio::test]
async fn a_kept_connection_is_what_it_was() {
    let generation = builder().start().unwrap();
    let (one, mut other) = UnixStream::pair().unwrap();
    generation
        .keep_connection("broker", one.try_clone().unwrap())
        .unwrap();
    // It is for the successor, not for this one.
    assert!(generation.take_connection("broker").unwrap().is_none());
    assert!(generation.take_file("broker").is_none());
    let ours = generation.withdraw("broker").unwrap();
    assert!(generation.withdraw("broker").is_none());
    other.write_all(b"x").unwrap();
    let mut byte = [0];
    rustix::io::read(&ours, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[tokio::test]
async fn the_adapter_of_a_listener_is_the_listener() {
    let generation = builder().start().unwrap();
    let mut web = generation.listen("127.0.0.1:0").await.unwrap();
    let address = Accept::local_addr(&web).unwrap();
    assert_eq!(web.name(), "127.0.0.1:0", "named after what was asked for");
    generation.ready().await.unwrap();
    let client = TcpStream::connect(address.to_string()).unwrap();
    let accepted = timeout(PATIENCE, poll_fn(|cx| web.poll_accept(cx))).await;
    let (io, peer) = accepted.unwrap().unwrap();
    assert_eq!(peer.to_string(), client.local_addr().unwrap().to_string());
    assert!(format!("{io:?}").contains(&peer.to_string()), "{io:?}");
}
