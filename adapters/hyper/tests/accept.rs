//! The accept loop against a listener that fails.

#[path = "support/left.rs"]
mod left;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use handover::{Accept, Address, Graceful, Reason};
use handover_hyper::RequestBody;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use self::left::Left;

/// Gives what it was told to, and then nothing.
struct Scripted(VecDeque<io::Result<DuplexStream>>);

impl Accept for Scripted {
    type Io = DuplexStream;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(DuplexStream, Address)>> {
        match self.0.pop_front() {
            Some(next) => Poll::Ready(next.map(|io| (io, Address::Unix(None)))),
            None => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unix(None))
    }
}

/// How long it takes until the last of these is served.
async fn served_after(errors: Vec<io::Error>) -> Duration {
    let (mut client, server) = tokio::io::duplex(4096);
    let script = errors.into_iter().map(Err).chain([Ok(server)]).collect();
    let graceful = Graceful::new();
    let hello = tower::service_fn(async |_: Request<RequestBody>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
    });
    let serve = handover_hyper::serve(Scripted(script), hello).with_graceful(graceful.clone());
    let done = tokio::spawn(serve.into_future());
    let began = Instant::now();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let took = began.elapsed();
    graceful.drain();
    assert!(done.await.unwrap().unwrap().is_complete());
    took
}

#[tokio::test(start_paused = true)]
async fn clients_that_have_gone_are_passed_over() {
    let errors = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable,
    ];
    let took = served_after(errors.map(io::Error::from).into()).await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_has_run_out_of_descriptors_is_waited_for() {
    // EMFILE, and ENFILE of the whole host.
    let errors = [24, 23, 24].map(io::Error::from_raw_os_error);
    let took = served_after(errors.into()).await;
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_millis(400), "{took:?}");
}

/// Fails if a drain is over, or takes nothing more, before the listener says that nothing is left.
#[tokio::test]
async fn what_is_left_of_a_socket_is_served_in_an_upgrade() {
    let (send, left) = Left::new();
    let graceful = Graceful::new();
    let hello = tower::service_fn(async |_: Request<RequestBody>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
    });
    let serve = handover_hyper::serve(left, hello)
        .with_graceful(graceful.clone())
        .max_connections(1);
    let done = tokio::spawn(serve.into_future());
    tokio::task::yield_now().await;
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    graceful.draining().await;
    // More than there is a place for: the socket does not wait.
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (client, server) = tokio::io::duplex(4096);
        send.send(server).unwrap();
        clients.push(client);
    }
    for mut client in clients {
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert!(!done.is_finished(), "more may be left");
    drop(send);
    assert!(done.await.unwrap().unwrap().is_complete());
}
