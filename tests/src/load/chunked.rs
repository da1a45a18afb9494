//! The chunked transfer coding, as far as a client must understand it.

/// Decodes a chunked body from pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Before a line with a size.
    #[default]
    Start,
    /// In it: the value so far, and whether an extension began, which is skipped.
    Size {
        size: u64,
        extension: bool,
    },
    /// In a chunk, of which so many bytes are to come.
    Data {
        left: u64,
    },
    /// The line end after a chunk's data.
    DataEnd,
    /// In the trailer; bytes of the line under way.
    Trailer {
        line: usize,
    },
    Done,
}

/// What a body sends that is not chunked coding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Chunked {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes from `input` what belongs to the body, hands the content to `sink`, and returns how
    /// many bytes were taken. It takes all, unless the body ends in `input`.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            match &mut self.state {
                State::Start => {
                    let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                    self.state = State::Size {
                        size: digit.into(),
                        extension: false,
                    };
                    at += 1;
                }
                State::Size { size, extension } => {
                    at += 1;
                    match byte {
                        b'\n' if *size == 0 => self.state = State::Trailer { line: 0 },
                        b'\n' => self.state = State::Data { left: *size },
                        b'\r' => {}
                        b';' | b' ' => *extension = true,
                        _ if *extension => {}
                        _ => {
                            let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                            let shifted = size.checked_mul(16).ok_or(Malformed)?;
                            *size = shifted + u64::from(digit);
                        }
                    }
                }
                State::Data { left } => {
                    let here = (input.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    sink(&input[at..at + here]);
                    at += here;
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                }
                State::DataEnd => {
                    at += 1;
                    match byte {
                        b'\r' => {}
                        b'\n' => self.state = State::Start,
                        _ => return Err(Malformed),
                    }
                }
                State::Trailer { line } => {
                    at += 1;
                    match byte {
                        b'\r' => {}
                        b'\n' if *line == 0 => self.state = State::Done,
                        b'\n' => *line = 0,
                        _ => *line += 1,
                    }
                }
                State::Done => break,
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let mut chunked = Chunked::default();
        let (mut body, mut taken) = (Vec::new(), 0);
        for piece in pieces {
            taken += chunked.decode(piece, |bytes| body.extend_from_slice(bytes))?;
        }
        Ok((body, taken, chunked.is_done()))
    }

    #[test]
    fn pieces_of_any_size_give_the_same_body() {
        let wire = b"5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\na: b\r\n\r\nHTTP";
        let end = wire.len() - 4;
        for size in 1..wire.len() {
            let pieces: Vec<&[u8]> = wire.chunks(size).collect();
            let (body, taken, done) = decode(&pieces).unwrap();
            assert_eq!(body, b"hello0123456789abcdef");
            assert_eq!((taken, done), (end, true), "pieces of {size}");
        }
    }

    #[test]
    fn an_early_end_is_not_done() {
        let (body, _, done) = decode(&[b"5\r\nhel"]).unwrap();
        assert_eq!(body, b"hel");
        assert!(!done);
    }

    #[test]
    fn nonsense_is_malformed() {
        assert_eq!(decode(&[b"x\r\n"]), Err(Malformed));
        assert_eq!(decode(&[b"1\r\nabc"]), Err(Malformed));
        assert_eq!(decode(&[b"fffffffffffffffff\r\n"]), Err(Malformed));
    }
}
