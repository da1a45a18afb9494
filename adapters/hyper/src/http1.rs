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
use handover::{
    Stays,
    accept::{Parcel, reset_when_dropped},
};
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    connection::{Conn, HttpBody, HttpService},
    io::ConnIo,
    linger::{self, Last},
    link::Link,
    pace::{Pace, Wish},
    service::ConnService,
};

type Hyper<Io, S> = UpgradeableConnection<TokioIo<ConnIo<Io>>, ConnService<S>>;

/// How a turn with hyper ended.
enum End {
    /// hyper is done: closed, failed or upgraded.
    Done,
    /// The service has failed within an answer, which is not to look like a whole one.
    Broken,
    /// Nothing is owed, and the connection is to be moved.
    Move,
    /// Nothing is owed, and the connection is to be closed.
    Close,
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
        facts,
        mover,
    } = conn;
    let mut builder = builder.clone();
    let mut wants = Wants::default();
    loop {
        let service = ConnService::new(service.clone(), link.clone(), facts.as_ref());
        let conn_io = TokioIo::new(ConnIo::new(io, read, link.clone(), mover.clone()));
        let mut hyper = builder.serve_connection(conn_io, service).with_upgrades();
        let end = poll_fn(|cx| poll_turn(&mut hyper, &mut pace, &link, &mut wants, cx)).await;
        if matches!(end, End::GivenUp | End::Broken) {
            let broken = matches!(end, End::Broken) || !link.is_answered();
            if broken
                && link.ends_answers()
                && let Some(parts) = hyper.into_parts()
            {
                let (io, _) = parts.io.into_inner().into_parts();
                // One that is closed already has said so.
                let _ = reset_when_dropped(&io);
            }
            return;
        }
        let Some(parts) = hyper.into_parts() else {
            link.upgrade(pace.into_holder());
            return;
        };
        let (rest, replay) = parts.io.into_inner().into_parts();
        io = rest;
        read = join(parts.read_buf, replay);
        match end {
            End::Done | End::GivenUp | End::Broken => break,
            End::Move => {
                wants.moves = false;
                let parcel = Parcel::new(io, read.into(), link.connection.clone());
                let Some(back) = pace.give(mover.as_deref(), parcel, &link).await else {
                    return;
                };
                io = back.io;
                read = back.unread.into();
            }
            End::Close => {
                // What has arrived by now is served, once, and told.
                match linger::last_look(&mut io, &mut pace, &link).await {
                    Last::Bytes(come) => read = join(read, come),
                    Last::Nothing if !read.is_empty() => {}
                    Last::Nothing | Last::End => break,
                }
                builder.keep_alive(false);
            }
        }
    }
    linger::close(io, &mut pace, &link).await;
}

/// What is to happen at the next boundary.
#[derive(Default)]
struct Wants {
    moves: bool,
    closes: bool,
}

fn poll_turn<Io, S, B>(
    hyper: &mut Hyper<Io, S>,
    pace: &mut Pace,
    link: &Arc<Link>,
    wants: &mut Wants,
    cx: &mut Context<'_>,
) -> Poll<End>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
{
    loop {
        while let Poll::Ready(wish) = pace.poll(cx, link) {
            match wish {
                Wish::Move => {
                    wants.moves = true;
                    link.hold_reads(true);
                }
                Wish::Stay => {
                    wants.moves = false;
                    link.run();
                }
                // The service adds the header; a connection that is idle is told by its next
                // answer.
                Wish::Announce => {}
                Wish::Close => wants.closes = true,
                Wish::GiveUp => return Poll::Ready(End::GivenUp),
            }
        }
        if wants.moves || wants.closes {
            // A body may end in another task, when hyper has nothing to do with it any more.
            link.wake_at_the_end(cx);
        }
        let abandoned = link.abandoned_body();
        // The order matters: first hyper, then the decision, in one task.
        if let Poll::Ready(result) = Pin::new(&mut *hyper).poll(cx) {
            if let Err(error) = result {
                tracing::debug!(peer = %link.connection.peer(), %error, "connection failed");
                if error.is_user() {
                    return Poll::Ready(End::Broken);
                }
            }
            return Poll::Ready(End::Done);
        }
        if let Some(body) = abandoned {
            link.settle_abandoned_body(body);
        }
        if pace.needs_no_turn(link) {
            // It leaves before its client asks again.
            continue;
        }
        if wants.moves && link.is_answered() {
            if link.is_at_boundary() {
                return Poll::Ready(End::Move);
            }
            if link.abandoned_body().is_some() {
                continue;
            }
            // A request whose body nobody has read: hyper reads on, or closes.
            wants.moves = false;
            pace.stay(link, Stays::Body);
            continue;
        }
        if wants.closes && link.is_at_boundary() && !link.has_half_a_head() {
            return Poll::Ready(End::Close);
        }
        return Poll::Pending;
    }
}

pub(crate) fn join(first: Bytes, second: Bytes) -> Bytes {
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
