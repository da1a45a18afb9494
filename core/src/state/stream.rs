//! State that is written while the successor reads it: over a socket pair of its own.
//!
//! The bytes go in chunks, each with its length before it (32 bits, little endian). A chunk of no
//! length is the end; one whose length has the highest bit set is why there is no end, in words. So
//! a stream that breaks off, because the predecessor died or its writer failed, is never taken for
//! a whole one.

use std::{
    io::{self, ErrorKind, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use tokio::io::{AsyncRead, ReadBuf};

/// Writes a stream.
pub(crate) type Write = Arc<dyn Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync>;

/// The longest chunk.
const CHUNK: usize = 64 * 1024;
/// The longest explanation.
const REASON: usize = 1024;
const FAILED: u32 = 1 << 31;

/// Starts to write, and returns the end to read from.
///
/// In a thread of its own, which no runtime waits for: a successor that stops reading would else
/// hold up the end of this process. It ends when all is written or the successor has closed its end.
pub(crate) fn begin(name: &str, write: Write) -> io::Result<OwnedFd> {
    // Both ends are close-on-exec.
    let (ours, theirs) = UnixStream::pair()?;
    let name = name.to_owned();
    let mut chunks = Chunks {
        socket: ours,
        buffer: Vec::new(),
    };
    let run = move || {
        let written = write(&mut chunks);
        match written.and_then(|()| chunks.end()) {
            Ok(()) => tracing::debug!(state = name, "written"),
            // It had no use for the rest.
            Err(err) if err.kind() == ErrorKind::BrokenPipe => {
                tracing::debug!(state = name, "the successor does not read it");
            }
            Err(err) => {
                tracing::error!(state = name, %err, "the state for the successor cannot be written");
                let _ = chunks.fail(&err);
            }
        }
    };
    let builder = thread::Builder::new().name("handover-state".to_owned());
    builder.spawn(run)?;
    Ok(theirs.into())
}

struct Chunks {
    socket: UnixStream,
    buffer: Vec<u8>,
}

impl Chunks {
    fn end(&mut self) -> io::Result<()> {
        io::Write::flush(self)?;
        self.socket.write_all(&0_u32.to_le_bytes())
    }

    fn fail(&mut self, why: &io::Error) -> io::Result<()> {
        let text = why.to_string();
        let text = &text.as_bytes()[..text.len().min(REASON)];
        // At most `REASON`, so nothing is lost.
        self.socket
            .write_all(&(FAILED | text.len() as u32).to_le_bytes())?;
        self.socket.write_all(text)
    }
}

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(CHUNK - self.buffer.len())];
        self.buffer.extend_from_slice(some);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // At most `CHUNK`, so nothing is lost.
        self.socket
            .write_all(&(self.buffer.len() as u32).to_le_bytes())?;
        self.socket.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// What a predecessor writes for this process, as it comes.
///
/// Made by [`Generation::take_state_stream`](crate::Generation::take_state_stream). It is to be read
/// to its end before this process is [`ready`](crate::Generation::ready): afterwards the predecessor
/// may go at any time, and what it has not written yet goes with it.
///
/// # Errors
///
/// Reading fails with [`UnexpectedEof`](ErrorKind::UnexpectedEof) if the predecessor ended before
/// all was written, and with what its writer said if that failed. An end without an error is the
/// end of the whole.
///
/// # Cancel safety
///
/// That of [`AsyncRead`]: nothing is lost between two reads.
///
/// # Examples
///
/// ```
/// use handover::StateReader;
/// use tokio::io::AsyncReadExt;
///
/// /// Reads what the predecessor writes, in a form that this release knows.
/// async fn read(mut kept: StateReader) -> std::io::Result<Vec<u8>> {
///     if kept.version() != 1 {
///         return Err(std::io::Error::other("the cache has another form"));
///     }
///     let mut bytes = Vec::new();
///     kept.read_to_end(&mut bytes).await?;
///     Ok(bytes)
/// }
/// ```
#[derive(Debug)]
pub struct StateReader {
    version: u32,
    socket: tokio::net::UnixStream,
    /// The length of a chunk, as far as it has come.
    header: [u8; 4],
    have: usize,
    now: Now,
}

#[derive(Debug)]
enum Now {
    Header,
    /// In a chunk, with so many bytes left.
    Chunk(usize),
    /// In an explanation, with so many bytes left.
    Failure(usize, Vec<u8>),
    Ended,
}

impl StateReader {
    pub(crate) fn new(version: u32, socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            version,
            socket: tokio::net::UnixStream::from_std(socket)?,
            header: [0; 4],
            have: 0,
            now: Now::Header,
        })
    }

    /// The version under which it was kept.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Reads into `buffer`; no bytes at all are an error.
    fn poll_some(
        socket: &mut tokio::net::UnixStream,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
        Poll::Ready(match buffer.filled().len() {
            0 => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the predecessor ended before all of its state was here",
            )),
            some => Ok(some),
        })
    }
}

impl AsyncRead for StateReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.now {
                Now::Ended => return Poll::Ready(Ok(())),
                _ if buffer.remaining() == 0 => return Poll::Ready(Ok(())),
                Now::Header => {
                    let rest = &mut this.header[this.have..];
                    this.have += ready!(Self::poll_some(&mut this.socket, cx, rest))?;
                    if this.have == this.header.len() {
                        this.have = 0;
                        this.now = next(u32::from_le_bytes(this.header))?;
                    }
                }
                Now::Chunk(left) => {
                    let some = buffer.initialize_unfilled_to(buffer.remaining().min(*left));
                    let some = ready!(Self::poll_some(&mut this.socket, cx, some))?;
                    buffer.advance(some);
                    *left -= some;
                    if *left == 0 {
                        this.now = Now::Header;
                    }
                    return Poll::Ready(Ok(()));
                }
                Now::Failure(0, text) => {
                    let text = String::from_utf8_lossy(text);
                    let why = format!("the predecessor could not write its state: {text}");
                    return Poll::Ready(Err(io::Error::other(why)));
                }
                Now::Failure(left, text) => {
                    let mut more = [0; REASON];
                    let more = &mut more[..*left];
                    let some = ready!(Self::poll_some(&mut this.socket, cx, more))?;
                    text.extend_from_slice(&more[..some]);
                    *left -= some;
                }
            }
        }
    }
}

/// What comes after a header.
fn next(header: u32) -> io::Result<Now> {
    let length = (header & !FAILED) as usize;
    match header & FAILED {
        0 if length == 0 => Ok(Now::Ended),
        0 if length <= CHUNK => Ok(Now::Chunk(length)),
        FAILED if length <= REASON => Ok(Now::Failure(length, Vec::new())),
        _ => {
            let what = format!("a chunk of {length} bytes in the predecessor's state");
            Err(io::Error::new(ErrorKind::InvalidData, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn reader(
        write: impl Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> StateReader {
        StateReader::new(7, begin("test", Arc::new(write)).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let all: Vec<u8> = (0..1_000_003_u32).map(|at| (at % 251) as u8).collect();
        for size in [1, 1000, 65_535, 65_536, 70_000, 1 << 20] {
            let written = all.clone();
            let mut reader = reader(move |out| {
                written
                    .chunks(size)
                    .try_for_each(|some| out.write_all(some))
            });
            assert_eq!(reader.version(), 7);
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.unwrap();
            assert!(read == all, "{size}");
            assert_eq!(
                reader.read(&mut [0; 8]).await.unwrap(),
                0,
                "it stays at its end"
            );
        }
    }

    #[tokio::test]
    async fn nothing_is_a_whole_too() {
        let mut read = Vec::new();
        reader(|_| Ok(())).read_to_end(&mut read).await.unwrap();
        assert!(read.is_empty());
    }

    #[tokio::test]
    async fn a_writer_that_fails_is_heard() {
        let mut reader = reader(|out| {
            out.write_all(b"half")?;
            out.flush()?;
            Err(io::Error::other("the disk is on fire"))
        });
        let mut read = Vec::new();
        let err = reader.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(read, b"half");
        assert!(err.to_string().contains("the disk is on fire"), "{err}");
    }

    #[tokio::test]
    async fn what_breaks_off_is_not_whole() {
        for bytes in [&b""[..], b"\x04\0", b"\x04\0\0\0ab", b"\x04\0\0\0abcd"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            let mut reader = StateReader::new(0, theirs.into()).unwrap();
            let err = reader.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(err.kind(), ErrorKind::UnexpectedEof, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for header in [CHUNK as u32 + 1, FAILED | (REASON as u32 + 1), u32::MAX] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(&header.to_le_bytes()).unwrap();
            let mut reader = StateReader::new(0, theirs.into()).unwrap();
            let err = reader.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(err.kind(), ErrorKind::InvalidData, "{header:x}");
        }
    }

    #[test]
    fn a_reader_that_goes_ends_the_writer() {
        let (told, heard) = std::sync::mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let write: Write = Arc::new(move |out| {
            loop {
                if let Err(err) = out.write_all(&[0; 4096]) {
                    let _ = told.lock().unwrap().send(err.kind());
                    return Err(err);
                }
            }
        });
        drop(begin("test", write).unwrap());
        assert_eq!(heard.recv().unwrap(), ErrorKind::BrokenPipe);
    }
}
