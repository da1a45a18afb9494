//! Drives one HTTP/2 connection.
//!
//! The announce is hyper's graceful shutdown: GOAWAY(2^31-1) and a PING, while streams are still
//! accepted; with the PING's answer comes the final GOAWAY, and the connection ends with its last
//! stream. A peer that does not answer would hold that open for ever. So when the window is over
//! the connection ends without the answer, as soon as it has no stream.

use std::{future::poll_fn, pin::Pin, task::Poll};

use handover::Stays;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    connection::{Conn, HttpBody, HttpService},
    io::ConnIo,
    pace::Wish,
    service::ConnService,
};

pub(crate) async fn serve<Io, S, B>(conn: Conn<Io, S>, builder: &Builder<TokioExecutor>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<B>,
    B: HttpBody,
{
    let Conn {
        io,
        read,
        link,
        mut pace,
        service,
        ..
    } = conn;
    link.share();
    let service = ConnService::new(service, link.clone());
    let conn_io = TokioIo::new(ConnIo::new(io, read, link.clone(), None));
    let mut hyper = builder.serve_connection(conn_io, service);
    let mut closing = false;
    poll_fn(|cx| {
        while let Poll::Ready(wish) = pace.poll(cx, &link) {
            match wish {
                Wish::Move => {
                    // Its state is inside hyper, and GOAWAY loses nothing.
                    pace.stay(&link, Stays::Http2);
                    Pin::new(&mut hyper).graceful_shutdown();
                }
                Wish::Announce => Pin::new(&mut hyper).graceful_shutdown(),
                Wish::Close if !closing => {
                    closing = true;
                    Pin::new(&mut hyper).graceful_shutdown();
                }
                Wish::Stay | Wish::Close => {}
                Wish::GiveUp => return Poll::Ready(()),
            }
        }
        link.wake_at_the_end(cx);
        match Pin::new(&mut hyper).poll(cx) {
            Poll::Ready(result) => {
                if let Err(error) = result {
                    tracing::debug!(peer = %link.connection.peer(), %error, "connection failed");
                }
                Poll::Ready(())
            }
            Poll::Pending if closing && link.is_quiet() => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}
