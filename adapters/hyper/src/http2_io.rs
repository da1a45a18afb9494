//! The IO of an HTTP/2 connection: it can answer a PING in place of the peer, and be taken back.
//!
//! h2 sends its final GOAWAY when the peer has answered the PING that goes with the first one, and
//! has no other way to. A peer that never answers is answered for: its next bytes are preceded by
//! the answer that it owes, at a place where a frame may begin. What follows is as if it had come
//! from the peer: the last stream that was looked at is named, and the connection ends with it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{io::ConnIo, sniff::PREFACE};

/// The answer to the PING that h2 sends with its first GOAWAY.
const ANSWER: [u8; 17] = *b"\0\0\x08\x06\x01\0\0\0\0\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";

/// What the driver keeps of an [`Http2Io`].
pub(crate) struct Hold<Io> {
    shared: Arc<Shared<Io>>,
}

struct Shared<Io> {
    due: AtomicBool,
    // By the peer, or for it.
    answered: AtomicBool,
    answered_for: AtomicBool,
    // Once h2 is done with it.
    back: Mutex<Option<Io>>,
}

impl<Io> Hold<Io> {
    /// The PING is answered for the peer, if it has not done so: poll the connection after this.
    pub(crate) fn answer_the_ping(&self) {
        self.shared.due.store(true, Release);
    }

    /// The PING has its answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.shared.answered.load(Acquire)
    }

    /// The peer has said nothing.
    pub(crate) fn is_answered_for(&self) -> bool {
        self.shared.answered_for.load(Acquire)
    }

    /// The connection, once h2 has been dropped.
    pub(crate) fn take(&self) -> Option<Io> {
        let mut back = self
            .shared
            .back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        back.take()
    }
}

pub(crate) struct Http2Io<Io> {
    // `None` only while it is dropped.
    io: Option<ConnIo<Io>>,
    frames: Frames,
    shared: Arc<Shared<Io>>,
    // Of the answer, what h2 had no room for yet.
    answer: &'static [u8],
}

impl<Io> Http2Io<Io> {
    pub(crate) fn new(io: ConnIo<Io>) -> (Self, Hold<Io>) {
        let shared = Arc::new(Shared {
            due: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            answered_for: AtomicBool::new(false),
            back: Mutex::new(None),
        });
        let hold = Hold {
            shared: shared.clone(),
        };
        let io = Self {
            io: Some(io),
            frames: Frames::default(),
            shared,
            answer: &[],
        };
        (io, hold)
    }

    fn io(&mut self) -> io::Result<Pin<&mut ConnIo<Io>>>
    where
        Io: Unpin,
    {
        let io = self.io.as_mut().map(Pin::new);
        io.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<Io> Drop for Http2Io<Io> {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            let (io, _unread) = io.into_parts();
            let mut back = self
                .shared
                .back
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *back = Some(io);
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Http2Io<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.shared.due.load(Acquire)
            && self.frames.is_between()
            && !self.shared.answered.swap(true, AcqRel)
        {
            self.shared.answered_for.store(true, Release);
            self.answer = &ANSWER;
        }
        if !self.answer.is_empty() {
            let (now, later) = self.answer.split_at(self.answer.len().min(buf.remaining()));
            buf.put_slice(now);
            self.answer = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = self.io()?.poll_read(cx, buf);
        self.frames.pass(&buf.filled()[before..]);
        if self.frames.is_answered() {
            self.shared.answered.store(true, Release);
        }
        polled
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Http2Io<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}

/// Where frames begin in what a peer sends, and whether it has answered the PING.
#[derive(Debug)]
struct Frames {
    // Of the preface, or of a frame's payload.
    left: usize,
    head: [u8; 9],
    // Of the head.
    have: usize,
    // A block of headers goes on in the next frame, and nothing may come in between.
    in_headers: bool,
    // The first one is the peer's settings.
    any: bool,
    // How much of the answer has come. Whole ones stay; a frame that is none starts again.
    answer: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            left: PREFACE.len(),
            head: [0; 9],
            have: 0,
            in_headers: false,
            any: false,
            answer: 0,
        }
    }
}

impl Frames {
    fn is_between(&self) -> bool {
        self.any && self.left == 0 && self.have == 0 && !self.in_headers
    }

    fn is_answered(&self) -> bool {
        self.answer == ANSWER.len()
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            if (self.head.len()..ANSWER.len()).contains(&self.answer) {
                self.compare(&bytes[..skipped]);
            }
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(self.head.len() - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.head.len() {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        const HEADERS: u8 = 1;
        const CONTINUATION: u8 = 9;
        const END_HEADERS: u8 = 4;
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if kind == HEADERS || kind == CONTINUATION {
            self.in_headers = flags & END_HEADERS == 0;
        }
        self.have = 0;
        self.any = true;
        if !self.is_answered() {
            let is_answer = ANSWER.starts_with(&self.head);
            self.answer = if is_answer { self.head.len() } else { 0 };
        }
    }

    /// Of a payload that may be the answer's.
    fn compare(&mut self, bytes: &[u8]) {
        match ANSWER[self.answer..].starts_with(bytes) {
            true => self.answer += bytes.len(),
            false => self.answer = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags];
        frame.extend([0, 0, 0, 1]);
        frame.resize(9 + payload, 7);
        frame
    }

    /// Where a frame may be put in, by how many bytes have come.
    fn places(bytes: &[u8], pieces: usize) -> Vec<usize> {
        let mut frames = Frames::default();
        let mut places = Vec::new();
        for (number, piece) in bytes.chunks(pieces).enumerate() {
            frames.pass(piece);
            if frames.is_between() {
                places.push((number * pieces + piece.len()).min(bytes.len()));
            }
        }
        places
    }

    #[test]
    fn frames_are_found_however_their_bytes_come() {
        let mut bytes = PREFACE.to_vec();
        let mut ends = Vec::new();
        for (kind, flags, payload, is_end) in [
            (4, 0, 0, true),     // settings, empty
            (1, 0, 300, false),  // headers that go on
            (9, 0, 1, false),    // and on
            (9, 4, 5, true),     // to here
            (0, 0, 70, true),    // data
            (1, 4 | 1, 3, true), // headers in one
        ] {
            bytes.extend(frame(kind, flags, payload));
            if is_end {
                ends.push(bytes.len());
            }
        }
        assert_eq!(places(&bytes, 1), ends);
        assert_eq!(places(&bytes, bytes.len()), [bytes.len()]);
        for pieces in 2..40 {
            let some: Vec<_> = ends
                .iter()
                .copied()
                .filter(|end| end % pieces == 0 || *end == bytes.len())
                .collect();
            assert_eq!(places(&bytes, pieces), some, "in pieces of {pieces}");
        }
    }

    #[test]
    fn the_answer_is_known_from_others() {
        let other = |at: usize| {
            let mut other = ANSWER;
            other[at] ^= 1;
            other
        };
        for pieces in 1..20 {
            let mut bytes = [PREFACE.as_slice(), &frame(4, 0, 0)].concat();
            bytes.extend(other(4)); // a PING, not its answer
            bytes.extend(other(16));
            bytes.extend(frame(0, 0, 20));
            let mut frames = Frames::default();
            bytes.chunks(pieces).for_each(|piece| frames.pass(piece));
            assert!(!frames.is_answered());
            ANSWER.chunks(pieces).for_each(|piece| frames.pass(piece));
            assert!(frames.is_answered() && frames.is_between());
            frames.pass(&frame(0, 0, 20));
            assert!(frames.is_answered());
        }
    }

    #[test]
    fn nothing_is_put_in_before_the_settings() {
        assert_eq!(places(PREFACE, 1), [0; 0]);
    }
}
