//! What a correct body is.

use std::time::Duration;

use super::connection::Head;

/// Byte `at` of a `/stream` body.
#[must_use]
pub fn stream_byte(at: u64) -> u8 {
    b'a' + (at % 26) as u8
}

/// Bytes of a `/stream` body that takes `duration`: 1024 for each whole 50 ms.
#[must_use]
pub fn stream_len(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis() / 50).unwrap_or(u64::MAX / 1024) * 1024
}

/// The 64-bit FNV-1a hash of what was fed to it.
#[derive(Clone, Copy, Debug)]
pub struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash of all bytes so far.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.0
    }
}

/// Checks a body as it comes in.
#[derive(Debug)]
pub(crate) enum Check {
    /// `pid=PID` and `ok`, the pid being the one in the head.
    Page(Vec<u8>),
    /// The pattern of `/stream`, `len` bytes of it.
    Stream {
        len: u64,
        seen: u64,
        wrong_at: Option<u64>,
    },
    /// Exactly these bytes.
    Exact { want: Vec<u8>, seen: Vec<u8> },
}

/// More than any correct page has; what comes after is not kept.
const PAGE_MAX: usize = 256;

impl Check {
    pub(crate) fn page() -> Self {
        Self::Page(Vec::new())
    }

    pub(crate) fn stream(duration: Duration) -> Self {
        Self::Stream {
            len: stream_len(duration),
            seen: 0,
            wrong_at: None,
        }
    }

    pub(crate) fn upload(body: &[u8]) -> Self {
        let mut hash = Fnv1a::default();
        hash.update(body);
        let want = format!("len={} fnv1a={:016x}\n", body.len(), hash.finish()).into_bytes();
        Self::Exact {
            want,
            seen: Vec::new(),
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        match self {
            Check::Page(seen) | Check::Exact { seen, .. } => {
                let room = PAGE_MAX.saturating_sub(seen.len());
                seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Check::Stream { seen, wrong_at, .. } => {
                if wrong_at.is_none() {
                    let wrong = (*seen..)
                        .zip(bytes)
                        .find(|(at, byte)| stream_byte(*at) != **byte);
                    *wrong_at = wrong.map(|(at, _)| at);
                }
                *seen += bytes.len() as u64;
            }
        }
    }

    /// Says what is wrong with a complete body, if anything is.
    pub(crate) fn finish(self, head: &Head) -> Result<(), String> {
        match self {
            Check::Page(seen) => {
                let text = String::from_utf8_lossy(&seen);
                let pid = text
                    .strip_prefix("pid=")
                    .and_then(|rest| rest.strip_suffix("\nok\n"));
                match pid.and_then(|pid| pid.parse::<u32>().ok()) {
                    Some(pid) if head.pid.is_none_or(|told| told == pid) => Ok(()),
                    Some(pid) => Err(format!("pid {pid} in the body, {:?} in the head", head.pid)),
                    None => Err(format!("wanted a pid and ok, got {text:?}")),
                }
            }
            Check::Stream {
                wrong_at: Some(at), ..
            } => Err(format!("byte {at} is wrong")),
            Check::Stream { len, seen, .. } if len != seen => {
                Err(format!("{seen} bytes instead of {len}"))
            }
            Check::Stream { .. } => Ok(()),
            Check::Exact { want, seen } if want == seen => Ok(()),
            Check::Exact { want, seen } => Err(format!(
                "wanted {:?}, got {:?}",
                String::from_utf8_lossy(&want),
                String::from_utf8_lossy(&seen)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_agrees_with_its_published_vectors() {
        for (text, hash) in [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c)] {
            let mut fnv = Fnv1a::default();
            fnv.update(text.as_bytes());
            assert_eq!(fnv.finish(), hash);
        }
        let mut fnv = Fnv1a::default();
        fnv.update(b"foo");
        fnv.update(b"bar");
        assert_eq!(fnv.finish(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_wrong_byte_in_a_stream_is_found() {
        let mut check = Check::stream(Duration::from_millis(120));
        let mut body: Vec<u8> = (0..2048).map(stream_byte).collect();
        body[1500] = b'!';
        for piece in body.chunks(7) {
            check.feed(piece);
        }
        assert_eq!(
            check.finish(&Head::default()),
            Err("byte 1500 is wrong".into())
        );
    }
}
