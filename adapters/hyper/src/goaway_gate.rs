//! What an HTTP/2 client sends, as h2 has to see it when it has sent its final GOAWAY.
//!
//! A client that has the first GOAWAY may have a stream on its way all the same, behind the answer to
//! the PING: it is not served, and the client sends its call again elsewhere. h2 ignores the stream's
//! frames, all but one: a window update it takes for one of a stream that nobody has begun, and ends
//! the connection, with all calls that it still had to finish.
//!
//! # Invariants
//!
//! 1. Nothing is changed before the PING was answered, and never if what comes is not HTTP/2.
//! 2. From then on no part of a frame's head is given out before the whole has come: it can still be
//!    changed when its stream is known.
//! 3. As many bytes are given out as came, in order; only the kind of a frame is changed, to one that
//!    means nothing.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::http2_frames::Frames;

/// How much is read at a time once the PING is answered.
const AHEAD: usize = 4096;

/// The IO below an HTTP/2 server that is made with h2, such as hyper's or tonic's.
///
/// It lets a connection outlive its final GOAWAY, with the streams that are under way, when its client
/// had another one on its way: h2 would otherwise take that one's window updates for an error of the
/// connection. Reads are looked at frame by frame; what is not HTTP/2, such as TLS, passes as it is.
///
/// [`serve`](crate::serve) has it in place already.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use handover_hyper::GoawayGate;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let mut gate = GoawayGate::new(listener.accept().await?.0);
/// assert_eq!(gate.get_ref().peer_addr()?, client.local_addr()?);
///
/// // A server of HTTP/2 is put over it; what is something else passes as it is.
/// client.write_all(b"GET / HTTP/1.1\r\n").await?;
/// let mut line = [0; 16];
/// gate.read_exact(&mut line).await?;
/// assert_eq!(&line, b"GET / HTTP/1.1\r\n");
/// let connection: TcpStream = gate.into_inner();
/// # drop(connection);
/// # Ok(())
/// # }
/// ```
pub struct GoawayGate<Io> {
    io: Io,
    frames: Frames,
    // Once the PING is answered: what was read and not given out.
    ahead: BytesMut,
    // Of that, what may be: all but a head that has not come whole.
    ready: usize,
}

impl<Io> GoawayGate<Io> {
    /// A gate over a connection of which nothing has been read.
    pub fn new(io: Io) -> Self {
        Self {
            io,
            frames: Frames::default(),
            ahead: BytesMut::new(),
            ready: 0,
        }
    }

    /// The connection.
    pub fn get_ref(&self) -> &Io {
        &self.io
    }

    /// The connection. What was read ahead is lost, but that is only in the last moments of one: it
    /// belongs to nobody when the server is done.
    pub fn into_inner(self) -> Io {
        self.io
    }

    /// A frame may begin here.
    pub(crate) fn is_between(&self) -> bool {
        self.frames.is_between() && self.ahead.is_empty()
    }

    /// How many bytes there are at least to where a frame may begin.
    pub(crate) fn rest_of_frame(&self) -> usize {
        self.frames.rest()
    }

    /// The PING has its answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.frames.is_answered()
    }

    /// Somebody answers it in place of the client.
    pub(crate) fn answer(&mut self) {
        self.frames.answer();
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for GoawayGate<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.frames.is_answered() {
            let before = buf.filled().len();
            let polled = Pin::new(&mut this.io).poll_read(cx, buf);
            this.frames.pass(&mut buf.filled_mut()[before..], 0);
            if this.frames.is_answered() && this.frames.half_a_head() > 0 {
                // Part of the next head came with the answer.
                let whole = buf.filled().len() - this.frames.half_a_head();
                this.ahead.extend_from_slice(&buf.filled()[whole..]);
                buf.set_filled(whole);
            }
            return polled;
        }
        if this.ready == 0 && buf.remaining() > 0 {
            ready!(this.poll_ahead(cx))?;
        }
        let n = this.ready.min(buf.remaining());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        this.ready -= n;
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + Unpin> GoawayGate<Io> {
    /// Reads until there is something to give out, or the end.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; AHEAD];
        while self.ready == 0 {
            let mut read = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            let known = self.ahead.len();
            self.ahead.extend_from_slice(read.filled());
            if read.filled().is_empty() {
                // In the middle of a head perhaps: for h2 to complain of.
                self.ready = known;
                break;
            }
            self.frames.pass(&mut self.ahead, known);
            self.ready = self.ahead.len() - self.frames.half_a_head();
        }
        Poll::Ready(Ok(()))
    }
}

handover::forward_write!(GoawayGate, io);

impl<Io> fmt::Debug for GoawayGate<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoawayGate")
            .field("answered", &self.is_answered())
            .field("ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        http2_frames::{ANSWER, END_HEADERS, HEAD, HEADERS, KIND, MEANS_NOTHING, WINDOW_UPDATE},
        sniff::PREFACE,
    };

    fn of_stream(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut frame = vec![7; HEAD + payload];
        frame[..KIND].copy_from_slice(&(payload as u32).to_be_bytes()[1..]);
        frame[KIND..5].copy_from_slice(&[kind, END_HEADERS]);
        frame[5..HEAD].copy_from_slice(&stream.to_be_bytes());
        frame
    }

    /// However it comes, and however it is read: by one byte, by a few, or all at once.
    #[tokio::test]
    async fn window_updates_of_streams_left_out_mean_nothing() {
        let before = [
            PREFACE.to_vec(),
            of_stream(4, 0, 0),
            of_stream(HEADERS, 1, 30),
            of_stream(HEADERS, 3, 30),
            of_stream(WINDOW_UPDATE, 3, 4),
            // Nobody has begun it: h2 is to say so.
            of_stream(WINDOW_UPDATE, 9, 4),
        ]
        .concat();
        let late = |kind| {
            [
                of_stream(WINDOW_UPDATE, 3, 4),
                of_stream(HEADERS, 5, 30),
                of_stream(kind, 5, 4),
                of_stream(0, 5, 9000),
                of_stream(kind, 1 << 31 | 7, 4),
                of_stream(WINDOW_UPDATE, 0, 4),
                of_stream(WINDOW_UPDATE, 1, 4)[..5].to_vec(),
            ]
            .concat()
        };
        let sent = [&before, ANSWER.as_slice(), &late(WINDOW_UPDATE)].concat();
        let expected = [&before, ANSWER.as_slice(), &late(MEANS_NOTHING)].concat();
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut client, server) = tokio::io::duplex(random.usize(1..12_000));
            let sent = sent.clone();
            tokio::spawn(async move { client.write_all(&sent).await.unwrap() });
            let mut gate = GoawayGate::new(server);
            let most = random.choice([2, 20, 20_000]).unwrap();
            let mut got = Vec::new();
            loop {
                let mut some = vec![0; random.usize(1..most)];
                match gate.read(&mut some).await.unwrap() {
                    0 => break,
                    n => got.extend_from_slice(&some[..n]),
                }
            }
            assert!(got == expected, "{seed}");
        }
    }

    #[tokio::test]
    async fn what_is_not_http2_passes_as_it_is() {
        let sent = [b"GET ", ANSWER.as_slice(), &of_stream(WINDOW_UPDATE, 5, 4)].concat();
        let mut gate = GoawayGate::new(sent.as_slice());
        let mut got = Vec::new();
        gate.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, sent);
    }
}
