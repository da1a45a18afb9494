//! A connection that was upgraded, as a WebSocket is: the response's body goes out, and what comes in
//! is the rest of the request's payload, as handlers know it from actix's own server.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_http::body::{BoxBody, MessageBody};
use bytes::Bytes;
use handover::Graceful;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, ReadHalf},
    sync::oneshot,
    time::{sleep, timeout},
};

/// For how long a peer may go on sending after the application has said its last.
const LINGER: Duration = Duration::from_secs(1);
const READ: usize = 8 * 1024;

type Io = TokioIo<Upgraded>;
/// Empty once the pump has ended it.
type Shared = Rc<RefCell<Option<ReadHalf<Io>>>>;

/// What is read from the tunnel.
pub(crate) enum Reader {
    /// The response has not been given.
    Waiting(oneshot::Receiver<Half>),
    Open(Half),
    Over,
}

/// The handler's use of the reading side. Dropped, it tells the pump.
pub(crate) struct Half {
    io: Shared,
    _used: oneshot::Sender<()>,
}

impl Reader {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match self {
                Self::Waiting(half) => match ready!(Pin::new(half).poll(cx)) {
                    Ok(half) => *self = Self::Open(half),
                    // There was no upgrade.
                    Err(_) => *self = Self::Over,
                },
                Self::Open(half) => {
                    let mut bytes = [0; READ];
                    let mut buf = ReadBuf::new(&mut bytes);
                    let read = match half.io.borrow_mut().as_mut() {
                        Some(io) => ready!(Pin::new(io).poll_read(cx, &mut buf)),
                        None => Ok(()),
                    };
                    let bytes = Bytes::copy_from_slice(buf.filled());
                    return match read {
                        Ok(()) if !bytes.is_empty() => Poll::Ready(Some(Ok(bytes))),
                        Ok(()) => {
                            *self = Self::Over;
                            Poll::Ready(None)
                        }
                        Err(error) => {
                            *self = Self::Over;
                            Poll::Ready(Some(Err(error)))
                        }
                    };
                }
                Self::Over => return Poll::Ready(None),
            }
        }
    }
}

/// Sends the body through the tunnel once there is one, and gives what comes to `reader`.
pub(crate) async fn pump(
    upgrade: OnUpgrade,
    body: BoxBody,
    reader: oneshot::Sender<Half>,
    graceful: Graceful,
) {
    // Without one the connection has failed, and the reader hears of it by the drop.
    let Ok(upgraded) = upgrade.await else { return };
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    let io = Rc::new(RefCell::new(Some(read)));
    let (used, unused) = oneshot::channel();
    let half = Half {
        io: io.clone(),
        _used: used,
    };
    // A handler that is not interested has dropped its payload.
    let _ = reader.send(half);
    let cut = async {
        graceful.cutting().await;
        // Time for a goodbye; then the IO fails, also for who waits for nothing of it.
        sleep(graceful.policy().cut_grace() * 3 / 4).await;
    };
    tokio::select! {
        () = converse(body, write, &io, unused) => {}
        () = cut => {}
    }
    io.borrow_mut().take();
}

async fn converse(
    body: BoxBody,
    mut write: tokio::io::WriteHalf<Io>,
    io: &Shared,
    unused: oneshot::Receiver<()>,
) {
    let mut body = pin!(body);
    while let Some(Ok(bytes)) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
    if write.shutdown().await.is_err() {
        return;
    }
    // The handler may still be reading. When it is done, what the peer has sent meanwhile is read
    // here, or the close would become a reset that overtakes the last words. A handler that read on
    // after its last word has heard the peer's own: only what is there already is waited for. One
    // that did not gives its peer a moment to answer.
    let mut unused = unused;
    let read_on = matches!(unused.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    if read_on {
        let _ = unused.await;
    }
    let rest = io.borrow_mut().take();
    if let Some(mut rest) = rest {
        let mut scratch = [0; READ];
        let _ = timeout(LINGER, async {
            if read_on && !has_come(&mut rest, &mut scratch).await {
                return;
            }
            while let Ok(1..) = rest.read(&mut scratch).await {}
        })
        .await;
    }
}

/// Whether there was something to read, without waiting.
async fn has_come(io: &mut ReadHalf<Io>, scratch: &mut [u8]) -> bool {
    let mut buf = ReadBuf::new(scratch);
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut buf)));
    let read = tokio::task::unconstrained(polled).await;
    matches!(read, Poll::Ready(Ok(()))) && !buf.filled().is_empty()
}
