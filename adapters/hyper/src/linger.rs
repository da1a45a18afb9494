//! Ends a connection so that its last answer arrives.
//!
//! A socket that is closed with input unread answers with a reset, and a reset may overtake what
//! was sent before it. So the write side is closed first, and what the peer still sends is read
//! and thrown away until it closes too (RFC 9112, section 9.6).

use std::{future::poll_fn, mem::MaybeUninit, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use handover::accept::reactor_has_looked;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

use crate::{
    link::Link,
    pace::{Pace, Wish},
};

/// For how long a peer may go on sending to a connection that is closed for it.
const LINGER: Duration = Duration::from_secs(1);

/// How much of it is thrown away at a time: a client that writes a long body before it reads is to
/// come to its end, also in what a cut leaves of time.
const SCRATCH: usize = 64 * 1024;

/// Closes a connection on which nothing more will be answered. It is held and listed meanwhile.
///
/// It lingers only if there is input that nobody has read: without any, a close is clean.
pub(crate) async fn close<Io>(mut io: Io, pace: &mut Pace, link: &Link)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    finish(pace, link, async {
        if io.shutdown().await.is_err() {
            return;
        }
        // Most have sent nothing: a look for that needs no buffer of its own, as ten thousand would
        // that are closed at once.
        if let Last::Bytes(_) = look(&mut io).await {
            let mut scratch = vec![0; SCRATCH];
            while let Ok(1..) = io.read(&mut scratch).await {}
        }
    })
    .await;
}

/// The same for a peer that has input to send in answer to what it still receives, and that closes
/// when it has received everything.
pub(crate) async fn close_after_the_peer<Io>(mut io: Io, pace: &mut Pace, link: &Link)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    finish(pace, link, async {
        if io.shutdown().await.is_err() {
            return;
        }
        let mut scratch = vec![0; SCRATCH];
        while let Ok(1..) = io.read(&mut scratch).await {}
    })
    .await;
}

async fn finish(pace: &mut Pace, link: &Link, closing: impl Future<Output = ()>) {
    // The limit also covers a peer that takes nothing, for IO whose shutdown writes.
    or_given_up(pace, link, timeout(LINGER, closing)).await;
}

async fn or_given_up<T>(pace: &mut Pace, link: &Link, work: impl Future<Output = T>) {
    let given_up = poll_fn(|cx| {
        loop {
            match pace.poll(cx, link) {
                Poll::Ready(Wish::GiveUp) => return Poll::Ready(()),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    tokio::select! {
        biased;
        () = given_up => {}
        _ = work => {}
    }
}

/// What has come on a connection that is to be closed because its client asks for nothing: nothing that
/// the kernel had when this was first polled is overlooked. Ends early where no time is left.
pub(crate) async fn last_look<Io>(io: &mut Io, pace: &mut Pace, link: &Link) -> Last
where
    Io: AsyncRead + Unpin,
{
    until_looked(pace, link).await;
    look(io).await
}

/// Ends when whatever the kernel has by now can be read, or when no time is left.
pub(crate) async fn until_looked(pace: &mut Pace, link: &Link) {
    or_given_up(pace, link, reactor_has_looked()).await;
}

/// What the last look has found.
pub(crate) enum Last {
    /// The client will say no more.
    End,
    /// The client has said this.
    Bytes(Bytes),
    /// The client has said nothing.
    Nothing,
}

/// What can be read without waiting.
async fn look<Io: AsyncRead + Unpin>(io: &mut Io) -> Last {
    // Unconstrained: a task that has used up its turn is told "pending" although input is there.
    tokio::task::unconstrained(poll_fn(|cx| {
        // On the stack, and as it is found there: that costs nothing.
        let mut scratch = [MaybeUninit::uninit(); 4096];
        let mut buf = ReadBuf::uninit(&mut scratch);
        Poll::Ready(match Pin::new(&mut *io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                Last::Bytes(Bytes::copy_from_slice(buf.filled()))
            }
            Poll::Ready(_) => Last::End,
            Poll::Pending => Last::Nothing,
        })
    }))
    .await
}
