//! What fuzzers call, and what must hold whatever they try. Not for programs: it is there only where
//! the compiler is told that it builds for a fuzzer, and in the tests of this crate, which run the
//! kept inputs again.
//!
//! Each looks at bytes as a peer may send them, through a reader under test and by a second way that
//! has all of them before it. The first byte of an input says in what pieces they come and are read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    FrameGate, GoawayGate,
    http2_frames::{ANSWER, HEAD, HEADERS, KIND, MEANS_NOTHING, WINDOW_UPDATE},
    sniff::{PREFACE, Protocol, Sniff},
};

/// A peer that has sent all it will, and of which no read gets more than a piece.
struct Peer<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.rest.len().min(self.piece).min(buf.remaining());
        let (now, later) = self.rest.split_at(n);
        buf.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

/// The peer, how much is read at a time, and its bytes.
fn peer(input: &[u8]) -> Option<(Peer<'_>, usize, &[u8])> {
    let (how, bytes) = input.split_first()?;
    let sizes = [1, 2, 7, 9, 17, 64, 1024, 10_000];
    let piece = sizes[usize::from(how & 7)];
    let most = sizes[usize::from(how >> 3 & 7)];
    Some((Peer { rest: bytes, piece }, most, bytes))
}

fn read(io: &mut (impl AsyncRead + Unpin), most: usize) -> Vec<u8> {
    let mut some = vec![0; most];
    let mut buf = ReadBuf::new(&mut some);
    let mut cx = Context::from_waker(Waker::noop());
    let polled = Pin::new(io).poll_read(&mut cx, &mut buf);
    assert!(matches!(polled, Poll::Ready(Ok(()))), "{polled:?}");
    buf.filled().to_vec()
}

/// The first bytes of a connection: HTTP/2 is what begins with its preface, and no byte is lost.
pub fn sniff(input: &[u8]) {
    let Some((mut peer, _, bytes)) = peer(input) else {
        return;
    };
    let mut sniff = Sniff::default();
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(protocol)) = sniff.poll(&mut peer, &mut cx) else {
        panic!("all has come");
    };
    let expected = match bytes {
        _ if bytes.starts_with(PREFACE) => Some(Protocol::Http2),
        _ if PREFACE.starts_with(bytes) => None,
        _ => Some(Protocol::Http1),
    };
    assert_eq!(protocol, expected);
    assert!(sniff.len() <= PREFACE.len());
    let all = [&sniff.into_bytes(), peer.rest].concat();
    assert!(all == bytes);
}

/// What an HTTP/2 client sends, before and after it, or somebody for it, has answered the PING. The
/// top bit of the first byte has it answered for.
pub fn goaway_gate(input: &[u8]) {
    let Some((peer, most, bytes)) = peer(input) else {
        return;
    };
    let answers = input[0] & 0x80 != 0;
    let mut gate = GoawayGate::new(peer);
    let (mut got, mut answered_for) = (Vec::new(), None);
    loop {
        if answers && gate.is_between() && !gate.is_answered() {
            gate.answer();
            answered_for = Some(got.len());
        }
        let some = read(&mut gate, most);
        if some.is_empty() {
            break;
        }
        got.extend(some);
    }
    assert!(got == let_through(bytes, answered_for));
}

/// The same by the rule: with all bytes at hand.
fn let_through(bytes: &[u8], answered_for: Option<usize>) -> Vec<u8> {
    let mut all = bytes.to_vec();
    if !bytes.starts_with(PREFACE) {
        return all;
    }
    let (mut at, mut answered, mut last) = (PREFACE.len(), false, 0);
    while let Some(head) = bytes[at..].first_chunk::<HEAD>() {
        answered |= answered_for.is_some_and(|from| at >= from);
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        match head[KIND] {
            WINDOW_UPDATE if answered && stream > last => all[at + KIND] = MEANS_NOTHING,
            HEADERS if !answered => last = last.max(stream),
            _ => {}
        }
        answered |= bytes[at..].starts_with(&ANSWER);
        at = bytes.len().min(at + HEAD + length);
    }
    all
}

/// Frames of a WebSocket: no read goes beyond one, and a boundary is one between messages.
pub fn frame_gate(input: &[u8]) {
    let Some((peer, most, bytes)) = peer(input) else {
        return;
    };
    let mut gate = FrameGate::new(peer);
    let mut got = Vec::new();
    // Where the frame under way ends, and whether its message goes on behind it.
    let (mut end, mut goes_on) = (0, false);
    loop {
        if got.len() == end {
            match frame(&bytes[end..]) {
                Some((length, is_control, is_last)) => {
                    end += length;
                    goes_on = if is_control { goes_on } else { !is_last };
                }
                None => end = bytes.len(),
            }
        }
        let some = read(&mut gate, most);
        if some.is_empty() {
            break;
        }
        got.extend(some);
        assert!(got.len() <= end, "{} of {end}", got.len());
        let is_whole = got.len() == end && frame_is_whole(bytes, end);
        assert!(!gate.is_at_boundary() || got.len() == end);
        assert!(!is_whole || gate.is_at_boundary() != goes_on);
    }
    assert!(got == bytes);
}

/// Whether frames, and not the end of the connection, end here.
fn frame_is_whole(bytes: &[u8], end: usize) -> bool {
    let mut at = 0;
    while at < end {
        match frame_of(&bytes[at..]) {
            Some((length, ..)) if length <= (end - at) as u64 => at += length as usize,
            _ => return false,
        }
    }
    true
}

/// The frame that begins here, no longer than what there is.
fn frame(bytes: &[u8]) -> Option<(usize, bool, bool)> {
    let (length, is_control, is_last) = frame_of(bytes)?;
    let length = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    Some((length, is_control, is_last))
}

/// Its length with the head, whether it is a control frame, and whether it is the last of a message.
fn frame_of(bytes: &[u8]) -> Option<(u64, bool, bool)> {
    let [first, second, ..] = *bytes else {
        return None;
    };
    let (more, short) = match second & 0x7f {
        126 => (2, None),
        127 => (8, None),
        short => (0, Some(short)),
    };
    let number = bytes.get(2..2 + more)?;
    let payload = match short {
        Some(short) => short.into(),
        None => number
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let length = (2 + more as u64 + mask).saturating_add(payload);
    Some((length, first & 0x08 != 0, first & 0x80 != 0))
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::run, *};

    #[test]
    fn kept_inputs_of_fuzzers_pass() {
        run("sniff", sniff);
        run("goaway_gate", goaway_gate);
        run("frame_gate", frame_gate);
    }
}
