//! Which protocol a connection speaks, from its first bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is certain, and keeps what it has read.
///
/// A single byte is enough to know HTTP/1, unless it is the one that the preface begins with.
#[derive(Debug, Default)]
pub(crate) struct Sniff {
    // Longer than the preface only if somebody else has read it.
    bytes: Vec<u8>,
}

impl Sniff {
    /// Begins with what was read before.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The protocol; `None` if the peer has closed before it was certain.
    pub(crate) fn poll<Io: AsyncRead + Unpin>(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Protocol>>> {
        loop {
            if let Some(protocol) = decide(&self.bytes) {
                return Poll::Ready(Ok(Some(protocol)));
            }
            let mut scratch = [0; PREFACE.len()];
            // No more than the preface: the rest is for who speaks the protocol.
            let mut buf = ReadBuf::new(&mut scratch[self.bytes.len()..]);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            self.bytes.extend_from_slice(buf.filled());
        }
    }

    /// How much has come.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

fn decide(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        Some(Protocol::Http2)
    } else if PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Protocol::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_as_soon_as_it_can() {
        assert_eq!(decide(b""), None);
        assert_eq!(decide(b"G"), Some(Protocol::Http1));
        assert_eq!(decide(b"P"), None);
        assert_eq!(decide(b"PO"), Some(Protocol::Http1));
        assert_eq!(decide(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(decide(PREFACE), Some(Protocol::Http2));
        assert_eq!(decide(b"PRI * HTTP/1.1\r\n"), Some(Protocol::Http1));
    }

    #[tokio::test]
    async fn keeps_what_it_read_however_it_comes() {
        for sent in [&b"GET / HTTP/1.1\r\n"[..], PREFACE] {
            let mut io = tokio_test_io(sent);
            let mut sniff = Sniff::default();
            let protocol = std::future::poll_fn(|cx| sniff.poll(&mut io, cx)).await;
            assert!(protocol.unwrap().is_some());
            let mut all = sniff.into_bytes().to_vec();
            tokio::io::AsyncReadExt::read_to_end(&mut io, &mut all)
                .await
                .unwrap();
            assert_eq!(all, sent);
        }
    }

    // One byte at a time.
    fn tokio_test_io(bytes: &[u8]) -> impl AsyncRead + Unpin + use<> {
        let (mut write, read) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut write, &bytes)
                .await
                .unwrap();
        });
        read
    }
}
