//! Drives one HTTP/2 connection.
//!
//! The announce is hyper's graceful shutdown: GOAWAY(2^31-1) and a PING, while streams are still
//! accepted; with the PING's answer comes the final GOAWAY, and the connection ends with its last
//! stream. A peer that does not answer would hold that open for ever. So when the window is over
//! the PING is [answered for it](crate::http2_io), and it gets the final GOAWAY all the same. Only a
//! peer that has stopped within a frame, or before its settings, is left without.
//!
//! Where there are many connections they are announced one after another, each in its
//! [turn](handover::Announcer), early in the window; until then a connection is served as ever. What
//! its streams know of the drain comes by a token of the connection's own, so that those which end
//! with the drain do so when their client has been told.
//!
//! hyper is done once it has written everything, which does not mean that it has arrived: a close
//! with unread input, such as the window updates for a long answer, would throw away what the
//! kernel has still to send. So the connection is read on until the peer closes it.

use std::{future::poll_fn, pin::Pin, task::Poll};

use handover::{Announcer, Phase, Stays, layer};
use http::Request;
use hyper::{
    rt::bounds::Http2ServerConnExec,
    server::conn::http2::{Builder, Connection},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    body::{InFlight, RequestBody},
    connection::{Conn, HttpBody, HttpService},
    http2_io::Http2Io,
    io::ConnIo,
    linger,
    pace::Wish,
    service::{Calling, ConnService},
};

/// What runs the streams of a connection: on any thread, or on this one.
pub(crate) trait Streams<S, B>:
    Http2ServerConnExec<StreamFuture<S>, StreamBody<B>> + Clone + Unpin
where
    S: HttpService<B>,
    B: HttpBody,
{
}

impl<S, B, E> Streams<S, B> for E
where
    S: HttpService<B>,
    B: HttpBody,
    E: Http2ServerConnExec<StreamFuture<S>, StreamBody<B>> + Clone + Unpin,
{
}

type StreamFuture<S> = layer::ResponseFuture<Calling<S, Request<RequestBody>>, InFlight>;
type StreamBody<B> = layer::ResponseBody<B, InFlight>;
type Hyper<Io, S, E> = Connection<TokioIo<Http2Io<Io>>, ConnService<S>, E>;

/// GOAWAY goes before whatever its streams, which hear of it, send from now on.
fn tell<Io, S, B, E>(announcer: &mut Announcer, hyper: Pin<&mut Hyper<Io, S, E>>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
    E: Streams<S, B>,
{
    hyper.graceful_shutdown();
    announcer.tell();
}

pub(crate) async fn serve<Io, S, B, E>(conn: Conn<Io, S>, builder: &Builder<E>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
    E: Streams<S, B>,
{
    let Conn {
        io,
        read,
        link,
        mut pace,
        service,
        facts,
        ..
    } = conn;
    let (told, mut announcer) = link.graceful.connection();
    link.share(told);
    // GOAWAY and PING, and the last GOAWAY.
    pace.one_by_one();
    let service = ConnService::new(service, link.clone(), facts.as_ref());
    let (io, hold) = Http2Io::new(ConnIo::new(io, read, link.clone(), None));
    let mut hyper = builder.serve_connection(TokioIo::new(io), service);
    // Whoever connects now has nowhere else to go yet: it is told when the drain begins.
    let came_to_a_lame_duck = link.graceful.phase() == Phase::LameDuck;
    // One that came before the drain, and whose first bytes came after.
    if link.graceful.phase() == Phase::Draining && link.announces() {
        tell(&mut announcer, Pin::new(&mut hyper));
    }
    let mut awaits_its_turn = false;
    let mut closing = false;
    let mut reads = 0;
    let is_done = poll_fn(|cx| {
        while let Poll::Ready(wish) = pace.poll(cx, &link) {
            let phase = link.graceful.phase();
            match wish {
                Wish::Move => {
                    // Its state is inside hyper, and GOAWAY loses nothing.
                    pace.stay(&link, Stays::Http2);
                    awaits_its_turn = true;
                }
                Wish::Announce if came_to_a_lame_duck && phase == Phase::LameDuck => {}
                // Its age; those are spread already.
                Wish::Announce if phase == Phase::Running => {
                    tell(&mut announcer, Pin::new(&mut hyper));
                }
                Wish::Announce => awaits_its_turn = true,
                // The drain was taken back; what has been said to this peer was not.
                Wish::Stay => {
                    awaits_its_turn = false;
                    if announcer.has_told() {
                        pace.close_after_a_window(&link);
                    }
                }
                // An idle connection: its peer may be about to use it.
                Wish::Close if !announcer.has_told() && phase < Phase::Cutting => {
                    tell(&mut announcer, Pin::new(&mut hyper));
                    match phase {
                        Phase::Draining => pace.close_within_the_window(&link),
                        _ => pace.close_after_a_window(&link),
                    }
                }
                Wish::Close => {
                    closing = true;
                    tell(&mut announcer, Pin::new(&mut hyper));
                    hold.answer_the_ping();
                }
                Wish::GiveUp => return Poll::Ready(false),
            }
        }
        if link.reads() != reads {
            reads = link.reads();
            announcer.touch();
        }
        if awaits_its_turn && announcer.poll(cx).is_ready() {
            tell(&mut announcer, Pin::new(&mut hyper));
        }
        link.wake_at_the_end(cx);
        match Pin::new(&mut hyper).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(true),
            Poll::Ready(Err(error)) => {
                tracing::debug!(peer = %link.connection.peer(), %error, "connection failed");
                Poll::Ready(true)
            }
            // Nothing can be put into what it sends, and nothing is owed to it.
            Poll::Pending if closing && !hold.is_answered() && link.is_answered() => {
                Poll::Ready(true)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    drop((hyper, announcer));
    let Some(io) = hold.take().filter(|_| is_done) else {
        return;
    };
    if hold.is_answered_for() || closing && !hold.is_answered() {
        // Nobody is there, as far as anybody can tell.
        linger::close(io, &mut pace, &link).await;
    } else {
        linger::close_after_the_peer(io, &mut pace, &link).await;
    }
}
