//! The frames of an HTTP/2 connection, as far as a drain has to know them.

use crate::sniff::PREFACE;

/// The answer to the PING that h2 sends with its first GOAWAY.
pub(crate) const ANSWER: [u8; 17] = *b"\0\0\x08\x06\x01\0\0\0\0\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";

/// The length of a frame's head, and where in it stands what the frame is.
pub(crate) const HEAD: usize = 9;
pub(crate) const KIND: usize = 3;

pub(crate) const HEADERS: u8 = 1;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Frames of kinds that are not known are ignored (RFC 9113, section 4.1).
pub(crate) const MEANS_NOTHING: u8 = 0xff;

pub(crate) const END_HEADERS: u8 = 4;

/// Where frames begin in what a client sends, whether it has answered the PING, and which streams it
/// has begun before.
#[derive(Debug)]
pub(crate) struct Frames {
    // Of the preface, or of a frame's payload.
    left: usize,
    // Of the preface, while that is awaited.
    preface: usize,
    is_http2: bool,
    head: [u8; HEAD],
    // Of the head.
    have: usize,
    // A block of headers goes on in the next frame, and nothing may come in between.
    in_headers: bool,
    // The first one is the peer's settings.
    any: bool,
    // How much of the answer has come. Whole ones stay; a frame that is none starts again.
    answer: usize,
    // The highest stream that was begun before the answer.
    last: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            left: 0,
            preface: 0,
            is_http2: true,
            head: [0; HEAD],
            have: 0,
            in_headers: false,
            any: false,
            answer: 0,
            last: 0,
        }
    }
}

impl Frames {
    pub(crate) fn is_between(&self) -> bool {
        self.any && self.left == 0 && self.have == 0 && !self.in_headers
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answer == ANSWER.len()
    }

    /// The part of a head that has come last, of a frame that has not begun.
    pub(crate) fn half_a_head(&self) -> usize {
        self.have
    }

    /// How many bytes are missing of the preface, the head or the payload that is under way, or
    /// comes next.
    pub(crate) fn rest(&self) -> usize {
        match self.left {
            _ if self.preface < PREFACE.len() => PREFACE.len() - self.preface,
            0 => HEAD - self.have,
            left => left,
        }
    }

    /// Somebody else answers the PING.
    pub(crate) fn answer(&mut self) {
        self.answer = ANSWER.len();
    }

    /// Looks at what has come, from here on: what is before that has been looked at. Changes the
    /// window updates of streams that the final GOAWAY leaves out.
    pub(crate) fn pass(&mut self, bytes: &mut [u8], from: usize) {
        let mut at = from;
        while at < bytes.len() && self.is_http2 {
            let rest = &bytes[at..];
            if self.preface < PREFACE.len() {
                let taken = rest.len().min(PREFACE.len() - self.preface);
                self.is_http2 = PREFACE[self.preface..].starts_with(&rest[..taken]);
                self.preface += taken;
                at += taken;
                continue;
            }
            let skipped = self.left.min(rest.len());
            if (HEAD..ANSWER.len()).contains(&self.answer) {
                self.compare(&rest[..skipped]);
            }
            self.left -= skipped;
            let rest = &rest[skipped..];
            let taken = rest.len().min(HEAD - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken;
            at += skipped + taken;
            if self.have == HEAD {
                self.begin();
                if self.is_left_out()
                    && let Some(start) = at.checked_sub(HEAD)
                {
                    bytes[start + KIND] = MEANS_NOTHING;
                }
            }
        }
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if kind == HEADERS || kind == CONTINUATION {
            self.in_headers = flags & END_HEADERS == 0;
        }
        self.have = 0;
        self.any = true;
        if self.is_answered() {
            return;
        }
        if kind == HEADERS {
            self.last = self.last.max(self.stream());
        }
        let is_answer = ANSWER.starts_with(&self.head);
        self.answer = if is_answer { HEAD } else { 0 };
    }

    fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_be_bytes([a & 0x7f, b, c, d])
    }

    /// The frame whose head has come is a window update that h2 takes amiss.
    fn is_left_out(&self) -> bool {
        self.is_answered() && self.head[KIND] == WINDOW_UPDATE && self.stream() > self.last
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
            frames.pass(&mut piece.to_vec(), 0);
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
            bytes
                .chunks(pieces)
                .for_each(|piece| frames.pass(&mut piece.to_vec(), 0));
            assert!(!frames.is_answered());
            ANSWER
                .chunks(pieces)
                .for_each(|piece| frames.pass(&mut piece.to_vec(), 0));
            assert!(frames.is_answered() && frames.is_between());
            frames.pass(&mut frame(0, 0, 20), 0);
            assert!(frames.is_answered());
        }
    }

    #[test]
    fn nothing_is_put_in_before_the_settings() {
        assert_eq!(places(PREFACE, 1), [0; 0]);
    }
}
