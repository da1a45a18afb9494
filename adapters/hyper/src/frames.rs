//! Frame boundaries of a WebSocket, below an implementation that does not show them.
//!
//! # Invariants
//!
//! 1. What one read returns is of one frame. So an implementation that reads only when it needs
//!    more has, after it has returned, nothing in its buffer of a frame that it has not begun.
//! 2. Each byte is given out once and in order, or is in what is given back at the end.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// How much is read to find a frame's head.
const AHEAD: usize = 4096;

/// Reads a WebSocket frame by frame, so that the connection can be taken from under an
/// implementation, between two messages.
///
/// A WebSocket implementation reads ahead into a buffer of its own, and some, such as tungstenite,
/// do not give it back. With this below it there is never anything of a next frame in that buffer.
/// So when the implementation has been polled for a message, has flushed what it had to write, and
/// this [is at a boundary](Self::is_at_boundary), the two of them can be taken apart: no byte is
/// lost, and another one, in another process, can go on.
///
/// Only lengths are looked at. Extensions, such as compression, may have state that goes from
/// message to message; they must not have been negotiated.
///
/// # Examples
///
/// ```
/// use handover_hyper::FrameGate;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, server) = tokio::io::duplex(64);
/// // Two frames at once, and the beginning of a third: unmasked text, to keep it short.
/// client.write_all(b"\x81\x02hi\x81\x03all\x81").await?;
/// let mut gate = FrameGate::new(server);
/// let mut buffer = [0; 64];
/// assert_eq!(gate.read(&mut buffer).await?, 4);
/// assert!(gate.is_at_boundary());
/// let (_connection, ahead) = gate.into_parts();
/// assert_eq!(ahead, b"\x81\x03all\x81"[..]);
/// # Ok(())
/// # }
/// ```
pub struct FrameGate<Io> {
    io: Io,
    // Read, and not given out.
    ahead: BytesMut,
    // Of the frame under way, head and all, still to be given out.
    rest: u64,
    // A message is under way: its last frame has not begun.
    continues: bool,
}

impl<Io> FrameGate<Io> {
    /// A gate over a connection on which a frame is to come next.
    pub fn new(io: Io) -> Self {
        Self {
            io,
            ahead: BytesMut::new(),
            rest: 0,
            continues: false,
        }
    }

    /// Returns true if no message is under way: what was given out ends with the last frame of one.
    pub fn is_at_boundary(&self) -> bool {
        self.rest == 0 && !self.continues
    }

    /// The connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_hyper::FrameGate;
    /// use tokio::net::TcpStream;
    ///
    /// fn send_at_once(gate: &FrameGate<TcpStream>) -> std::io::Result<()> {
    ///     gate.get_ref().set_nodelay(true)
    /// }
    /// ```
    pub fn get_ref(&self) -> &Io {
        &self.io
    }

    /// The connection, and what was read from it and not given out.
    pub fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.ahead.freeze())
    }
}

/// A frame's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Of head and payload together.
    length: u64,
    last: bool,
    control: bool,
}

/// Reads a head (RFC 6455, section 5.2); `None` if there is not enough of it.
fn head(bytes: &[u8]) -> Option<Head> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (extended, payload) = match second & 0x7f {
        126 => (
            2,
            u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into(),
        ),
        127 => (8, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        short => (0, short.into()),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    Some(Head {
        length: payload.saturating_add(2 + extended + mask),
        last: first & 0x80 != 0,
        control: first & 0x08 != 0,
    })
}

impl<Io: AsyncRead + Unpin> AsyncRead for FrameGate<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.rest == 0 {
            if let Some(head) = head(&this.ahead) {
                this.rest = head.length;
                if !head.control {
                    this.continues = !head.last;
                }
                break;
            }
            let mut scratch = [0; AHEAD];
            let mut read = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // The end, in the middle of a head perhaps: for who is above to complain of.
                this.rest = this.ahead.len() as u64;
                if this.rest == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            this.ahead.extend_from_slice(read.filled());
        }
        // What is longer than memory is cut by the buffer anyway.
        let most = usize::try_from(this.rest)
            .unwrap_or(usize::MAX)
            .min(buf.remaining());
        let n = if this.ahead.is_empty() {
            let mut read = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            let n = read.filled().len();
            buf.advance(n);
            n
        } else {
            let n = most.min(this.ahead.len());
            buf.put_slice(&this.ahead[..n]);
            this.ahead.advance(n);
            n
        };
        this.rest -= n as u64;
        Poll::Ready(Ok(()))
    }
}

handover::forward_write!(FrameGate, io);

impl<Io> fmt::Debug for FrameGate<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameGate")
            .field("at_boundary", &self.is_at_boundary())
            .field("ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A frame as a client sends it, or a server.
    fn frame(first: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(&[1, 2, 3, 4][..if masked { 4 } else { 0 }]);
        frame.extend((0..payload).map(|i| i as u8 ^ first));
        frame
    }

    #[test]
    fn heads_are_read_when_they_are_whole() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            for masked in [false, true] {
                let frame = frame(0x81, masked, payload);
                let whole =
                    (2..15).find_map(|n| head(&frame[..n.min(frame.len())]).map(|h| (n, h)));
                let (_, head) = whole.unwrap();
                assert_eq!(head.length, frame.len() as u64);
                assert!(head.last && !head.control);
            }
        }
        assert_eq!(head(&[0x81]), None);
        assert_eq!(head(&[0x81, 126, 1]), None);
        let longest = [0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(head(&longest).unwrap().length, u64::MAX);
    }

    /// Frames of all kinds, in pieces of any length, into buffers of any length; the gate changes
    /// hands at every boundary.
    #[tokio::test]
    async fn no_read_goes_beyond_a_frame_and_nothing_is_lost() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut all = Vec::new();
            // Where a message ends, with all its frames.
            let mut frames = Vec::new();
            let mut ends = Vec::new();
            for _ in 0..60 {
                let parts = random.usize(1..4);
                for part in 0..parts {
                    if random.u8(..).is_multiple_of(4) {
                        all.extend(frame(0x89, true, random.usize(..10)));
                        frames.push(all.len());
                        if part == 0 {
                            ends.push(all.len());
                        }
                    }
                    let opcode = if part == 0 { 2 } else { 0 };
                    let last = if part + 1 == parts { 0x80 } else { 0 };
                    let length = match random.u8(..) % 32 {
                        0 => 70_000,
                        1..10 => random.usize(..300),
                        _ => random.usize(..20),
                    };
                    all.extend(frame(opcode | last, true, length));
                    frames.push(all.len());
                }
                ends.push(all.len());
            }
            let (mut client, server) = tokio::io::duplex(random.usize(1..5000));
            let sent = all.clone();
            let mut pieces = random.fork();
            let sending = tokio::spawn(async move {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let n = pieces.usize(1..2000).min(rest.len());
                    client.write_all(&rest[..n]).await.unwrap();
                    rest = &rest[n..];
                    tokio::task::yield_now().await;
                }
                client
            });
            let mut gate = FrameGate::new(server);
            let mut got = Vec::new();
            let mut boundaries = Vec::new();
            while got.len() < all.len() {
                let mut buffer = vec![0; random.usize(1..3000)];
                let before = got.len();
                let n = gate.read(&mut buffer).await.unwrap();
                got.extend_from_slice(&buffer[..n]);
                let end = *frames.iter().find(|end| **end > before).unwrap();
                assert!(n > 0 && got.len() <= end, "{seed}");
                if gate.is_at_boundary() {
                    boundaries.push(got.len());
                    let (io, ahead) = gate.into_parts();
                    // As after a move: what was read ahead is read again.
                    gate = FrameGate::new(io);
                    gate.ahead.extend_from_slice(&ahead);
                }
            }
            assert!(got == all, "{seed}");
            assert_eq!(boundaries, ends, "{seed}");
            drop(sending.await.unwrap());
            assert_eq!(gate.read(&mut [0; 9]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn half_a_head_before_the_end_is_given_out() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(&[0x81, 126, 0]).await.unwrap();
        drop(client);
        let mut gate = FrameGate::new(server);
        let mut got = Vec::new();
        gate.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [0x81, 126, 0]);
    }
}
