//! One connection, from `accept` to its end.

use std::{
    error::Error,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use handover::{
    Graceful, Stays,
    accept::{Mover, Parcel},
};
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::{
    accepting::{Accepted, Came},
    body::RequestBody,
    facts::Facts,
    http1,
    http2::{self, Streams},
    linger,
    link::Link,
    options::Options,
    pace::{Pace, Wish},
    sniff::{Protocol, Sniff},
};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A tower service that a serve loop can call. Implemented for all that qualify.
pub(crate) trait HttpService<B>:
    Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError>, Future: 'static>
    + Clone
    + 'static
{
}

impl<S, B> HttpService<B> for S where
    S: Service<
            Request<RequestBody>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: 'static,
        > + Clone
        + 'static
{
}

/// A response body that a serve loop can send. Implemented for all that qualify.
pub(crate) trait HttpBody: Body<Error: Into<BoxError>> + 'static {}

impl<B> HttpBody for B where B: Body<Error: Into<BoxError>> + 'static {}

/// A connection whose protocol is known, and all that serves it.
pub(crate) struct Conn<Io, S> {
    pub(crate) io: Io,
    pub(crate) read: Bytes,
    pub(crate) link: Arc<Link>,
    pub(crate) pace: Pace,
    pub(crate) service: S,
    // What its requests have among their extensions.
    pub(crate) facts: Option<Facts>,
    pub(crate) mover: Option<Arc<dyn Mover<Io>>>,
}

pub(crate) async fn serve<Io, S, B, E>(
    accepted: Accepted<Io>,
    mover: Result<Arc<dyn Mover<Io>>, Stays>,
    service: S,
    graceful: Graceful,
    options: &Options<E>,
    enter: impl FnOnce(Io) -> io::Result<Io>,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
    E: Streams<S, B>,
{
    let Accepted {
        came,
        connection,
        holder,
        place,
    } = accepted;
    // What a predecessor gives is claimed before it is read.
    let (io, unread) = match came {
        Came::Accepted(io) => (io, Vec::new()),
        Came::Given(mut arrival) => {
            // Until then it is the predecessor's. Our own drain waits for nobody's client.
            tokio::select! {
                () = arrival.due() => {}
                _ = graceful.lame_duck() => {}
            }
            let parcel = arrival.claim().await;
            (parcel.io, parcel.unread)
        }
    };
    let mut io = match enter(io) {
        Ok(io) => io,
        Err(error) => {
            tracing::warn!(peer = %connection.peer(), %error, "a connection was lost");
            return;
        }
    };
    let link = Link::new(connection, graceful, mover.as_ref().err().copied());
    let mover = mover.ok();
    let departures = mover.as_ref().map(|mover| mover.departures());
    let departures = departures.unwrap_or_default();
    let mut pace = Pace::new(holder, &link.connection, departures, options);
    let mut sniff = Sniff::new(unread);
    // Only HTTP/1 counts requests by connection, and only HTTP/1 is moved.
    let is_known = link.connection.requests() > 0;
    let protocol = match (&options.http1, &options.http2) {
        (Some(_), None) => Protocol::Http1,
        (Some(_), Some(_)) if is_known => Protocol::Http1,
        _ => {
            let mover = mover.as_deref();
            match until_known(&mut sniff, io, &mut pace, &link, mover).await {
                Some((known, protocol)) => {
                    io = known;
                    match options.http1 {
                        Some(_) => protocol,
                        // Whatever it speaks: hyper says what is wrong with it.
                        None => Protocol::Http2,
                    }
                }
                None => return,
            }
        }
    };
    let conn = Conn {
        io,
        read: sniff.into_bytes(),
        link,
        pace,
        service,
        facts: options.facts.clone(),
        mover,
    };
    match (protocol, &options.http1, &options.http2) {
        (Protocol::Http1, Some(builder), _) => http1::serve(conn, builder).await,
        // Several times as large, and nearly all connections of most servers are not of it.
        (Protocol::Http2, _, Some(builder)) => Box::pin(http2::serve(conn, builder)).await,
        _ => {}
    }
    drop(place);
}

/// Waits for the protocol. `None` if the connection has ended, or moved, before that.
async fn until_known<Io>(
    sniff: &mut Sniff,
    mut io: Io,
    pace: &mut Pace,
    link: &Link,
    mover: Option<&dyn Mover<Io>>,
) -> Option<(Io, Protocol)>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut closes = false;
    let mut has_looked = false;
    loop {
        let event = poll_fn(|cx| poll_sniff(sniff, &mut io, pace, link, &mut closes, cx)).await;
        match event {
            Sniffed::Known(protocol) => return Some((io, protocol)),
            Sniffed::Movable => {
                let unread = std::mem::take(sniff).into_bytes().into();
                let parcel = Parcel::new(io, unread, link.connection.clone());
                let back = pace.give(mover, parcel, link).await?;
                io = back.io;
                *sniff = Sniff::new(back.unread);
            }
            Sniffed::Silent if !has_looked => {
                linger::until_looked(pace, link).await;
                has_looked = true;
            }
            Sniffed::Silent | Sniffed::Over => {
                linger::close(io, pace, link).await;
                return None;
            }
        }
    }
}

enum Sniffed {
    Known(Protocol),
    /// A successor may have it.
    Movable,
    /// It is to end, and its client has said nothing, or not enough to know what it speaks.
    Silent,
    /// It has ended.
    Over,
}

fn poll_sniff<Io: AsyncRead + Unpin>(
    sniff: &mut Sniff,
    io: &mut Io,
    pace: &mut Pace,
    link: &Link,
    closes: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Sniffed> {
    while let Poll::Ready(wish) = pace.poll(cx, link) {
        match wish {
            Wish::Move => return Poll::Ready(Sniffed::Movable),
            Wish::Close | Wish::GiveUp => *closes = true,
            Wish::Stay => link.run(),
            Wish::Announce => {}
        }
    }
    let before = sniff.len();
    let polled = sniff.poll(io, cx);
    link.connection.count_received(sniff.len() - before);
    match polled {
        Poll::Ready(Ok(Some(protocol))) => Poll::Ready(Sniffed::Known(protocol)),
        Poll::Ready(_) => Poll::Ready(Sniffed::Over),
        Poll::Pending if *closes => Poll::Ready(Sniffed::Silent),
        Poll::Pending => {
            if sniff.len() > 0 {
                link.has_read();
            }
            Poll::Pending
        }
    }
}
