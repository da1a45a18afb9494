//! Drives one HTTP/1 connection: hyper between the link and the pace.
//!
//! hyper's own graceful shutdown is not used: on a connection that it holds for idle it drops a
//! half-received head, and what lies unread in the kernel. Instead the connection is taken out of
//! hyper at a boundary (see [`link`](crate::link)), where it can be looked at once more.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    connection::{Conn, HttpBody, HttpService},
    io::ConnIo,
    linger,
    link::Link,
    pace::{Pace, Wish},
    service::ConnService,
};

type Hyper<Io, S> = UpgradeableConnection<TokioIo<ConnIo<Io>>, ConnService<S>>;

/// How a turn with hyper ended.
enum End {
    /// hyper is done: closed, failed or upgraded.
    Done,
    /// The connection is to be closed, and nothing is owed.
    Boundary,
    /// There is no time left.
    GivenUp,
}

pub(crate) async fn serve<Io, S, B>(conn: Conn<Io, S>, builder: &Builder)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
{
    let Conn {
        mut io,
        mut read,
        link,
        mut pace,
        service,
        graceful,
    } = conn;
    let mut builder = builder.clone();
    let mut closing = false;
    loop {
        let service = ConnService::new(service.clone(), graceful.clone(), link.clone());
        let conn_io = TokioIo::new(ConnIo::new(io, read, link.clone()));
        let mut hyper = builder.serve_connection(conn_io, service).with_upgrades();
        let end = poll_fn(|cx| poll_turn(&mut hyper, &mut pace, &link, &mut closing, cx)).await;
        if matches!(end, End::GivenUp) {
            return;
        }
        let Some(parts) = hyper.into_parts() else {
            link.upgrade(pace.into_holder());
            return;
        };
        let (rest, replay) = parts.io.into_inner().into_parts();
        io = rest;
        if matches!(end, End::Done) {
            break;
        }
        // The last look: what has arrived by now is served, once, and told.
        read = join(parts.read_buf, replay);
        let mut scratch = [0; 4096];
        match linger::read_now(&mut io, &mut scratch).await {
            Some(0) => break,
            Some(n) => read = join(read, Bytes::copy_from_slice(&scratch[..n])),
            None if read.is_empty() => break,
            None => {}
        }
        builder.keep_alive(false);
    }
    linger::close(io, &mut pace, &link).await;
}

fn poll_turn<Io, S, B>(
    hyper: &mut Hyper<Io, S>,
    pace: &mut Pace,
    link: &Arc<Link>,
    closing: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<End>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
{
    while let Poll::Ready(wish) = pace.poll(cx, link) {
        match wish {
            // The service adds the header; a connection that is idle is told by its next answer.
            Wish::Announce => {}
            Wish::Close => *closing = true,
            Wish::GiveUp => return Poll::Ready(End::GivenUp),
        }
    }
    // The order matters: first hyper, then the decision, in one task.
    match Pin::new(hyper).poll(cx) {
        Poll::Ready(result) => {
            if let Err(error) = result {
                tracing::debug!(peer = %link.connection.peer(), %error, "connection failed");
            }
            Poll::Ready(End::Done)
        }
        Poll::Pending if *closing && link.is_at_boundary() => Poll::Ready(End::Boundary),
        Poll::Pending => Poll::Pending,
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut both = BytesMut::with_capacity(first.len() + second.len());
    both.extend_from_slice(&first);
    both.extend_from_slice(&second);
    both.freeze()
}
