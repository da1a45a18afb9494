//! Bytes that are read twice.

use tokio::io::ReadBuf;

/// What was read before, and is to be read again first, as far as it has not been.
#[derive(Debug, Default)]
pub(super) struct Replay {
    bytes: Vec<u8>,
    read: usize,
}

impl Replay {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0 }
    }

    /// Reads what there is; false if there is nothing.
    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.bytes[self.read..];
        if rest.is_empty() {
            return false;
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.read += n;
        if self.read == self.bytes.len() {
            *self = Self::default();
        }
        true
    }

    /// What has not been read again.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.read);
        self.bytes
    }
}
