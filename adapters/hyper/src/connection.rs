//! One connection, from `accept` to its end.

use std::{error::Error, future::poll_fn, sync::Arc, task::Poll};

use bytes::Bytes;
use handover::{Connection, Graceful, Holder};
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::{
    body::RequestBody,
    http1, http2, linger,
    link::Link,
    options::Options,
    pace::{Pace, Wish},
    sniff::{Protocol, Sniff},
};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A tower service that a serve loop can call. Implemented for all that qualify.
pub(crate) trait HttpService<B>:
    Service<
        Request<RequestBody>,
        Response = Response<B>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S, B> HttpService<B> for S where
    S: Service<
            Request<RequestBody>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// A response body that a serve loop can send. Implemented for all that qualify.
pub(crate) trait HttpBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

impl<B> HttpBody for B where B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

/// A connection whose protocol is known, and all that serves it.
pub(crate) struct Conn<Io, S> {
    pub(crate) io: Io,
    pub(crate) read: Bytes,
    pub(crate) link: Arc<Link>,
    pub(crate) pace: Pace,
    pub(crate) service: S,
    pub(crate) graceful: Graceful,
}

pub(crate) async fn serve<Io, S, B>(
    mut io: Io,
    connection: Arc<Connection>,
    holder: Holder,
    service: S,
    graceful: Graceful,
    options: &Options,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
{
    let link = Link::new(connection);
    let mut pace = Pace::new(holder, graceful.clone(), options);
    let mut sniff = Sniff::default();
    let sniffed = match (&options.http1, &options.http2) {
        (Some(_), None) => Some(Protocol::Http1),
        (None, Some(_)) => Some(Protocol::Http2),
        _ => poll_fn(|cx| poll_sniff(&mut sniff, &mut io, &mut pace, &link, cx)).await,
    };
    let Some(protocol) = sniffed else {
        // A client that says nothing, or not enough to know what it speaks.
        return linger::close(io, &mut pace, &link).await;
    };
    let conn = Conn {
        io,
        read: sniff.into_bytes(),
        link,
        pace,
        service,
        graceful,
    };
    match (protocol, &options.http1, &options.http2) {
        (Protocol::Http1, Some(builder), _) => http1::serve(conn, builder).await,
        (Protocol::Http2, _, Some(builder)) => http2::serve(conn, builder).await,
        _ => {}
    }
}

/// The protocol, or `None` if the connection ends before it is known.
fn poll_sniff<Io: AsyncRead + Unpin>(
    sniff: &mut Sniff,
    io: &mut Io,
    pace: &mut Pace,
    link: &Link,
    cx: &mut std::task::Context<'_>,
) -> Poll<Option<Protocol>> {
    let mut closes = false;
    while let Poll::Ready(wish) = pace.poll(cx, link) {
        closes |= matches!(wish, Wish::Close | Wish::GiveUp);
    }
    match sniff.poll(io, cx) {
        Poll::Ready(Ok(protocol)) => Poll::Ready(protocol),
        Poll::Ready(Err(_)) => Poll::Ready(None),
        // What has come by now has been read by this very poll: it was no request.
        Poll::Pending if closes => Poll::Ready(None),
        Poll::Pending => {
            if sniff.has_read() {
                link.has_read();
            }
            Poll::Pending
        }
    }
}
