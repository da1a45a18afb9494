//! What the processes write, line by line.
//!
//! Invariants:
//! 1. A pipe is read to its end, also after its process has ended: the last lines are those that
//!    say why.
//! 2. A thread of its own writes, so that a reader of ours who stops reading stops the programs'
//!    output and not the supervisor.
//! 3. Before an `exec` all that was read is written, and the beginning of a line is passed on.

use std::{
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{net::unix::pipe::Receiver, sync::mpsc, time::timeout};

/// A line is broken after so many bytes.
const LONGEST: usize = 64 * 1024;
/// So many pieces wait for the writer.
const WAITING: usize = 64;
/// How long the end waits for a reader of ours.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end waits for what is still in the pipes.
const REST: Duration = Duration::from_millis(500);

/// Which stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
    /// The system's log, in which lines are messages.
    Log,
}

enum Piece {
    Bytes(Stream, Vec<u8>),
    /// All before it has been written once this is dropped.
    Flush(mpsc::Sender<()>),
}

/// Writes, in its thread.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pieces: mpsc::Sender<Piece>,
    /// What was read, and is not written.
    pending: Arc<AtomicUsize>,
}

impl Writer {
    /// `name` is what we are called in the system's log.
    pub(crate) fn start(name: &'static str) -> Self {
        let (send, mut pieces) = mpsc::channel(WAITING);
        let pending = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&pending);
        std::thread::spawn(move || {
            let mut log = None;
            while let Some(piece) = pieces.blocking_recv() {
                let counts = matches!(piece, Piece::Bytes(..));
                // If nobody reads it, there is nobody to be told.
                let _ = match piece {
                    Piece::Bytes(Stream::Stdout, bytes) => {
                        let mut out = io::stdout().lock();
                        out.write_all(&bytes).and_then(|()| out.flush())
                    }
                    Piece::Bytes(Stream::Stderr, bytes) => io::stderr().write_all(&bytes),
                    Piece::Bytes(Stream::Log, bytes) => to_log(&mut log, name, &bytes),
                    Piece::Flush(done) => {
                        drop(done);
                        Ok(())
                    }
                };
                if counts {
                    left.fetch_sub(1, Ordering::AcqRel);
                }
            }
        });
        Self {
            pieces: send,
            pending,
        }
    }

    /// Waits until there is room for it.
    pub(crate) async fn write(&self, stream: Stream, bytes: Vec<u8>) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        // Its thread ends with the last sender.
        let _ = self.pieces.send(Piece::Bytes(stream, bytes)).await;
    }

    /// If there is room for it.
    pub(crate) fn try_write(&self, stream: Stream, bytes: Vec<u8>) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        if self.pieces.try_send(Piece::Bytes(stream, bytes)).is_err() {
            self.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits until all is written, or for a while. Right after, before anything else is waited
    /// for, nothing that was read from a pipe is in our hands.
    pub(crate) async fn flush(&self) {
        let flush = async {
            loop {
                let (done, mut wait) = mpsc::channel(1);
                let _ = self.pieces.send(Piece::Flush(done)).await;
                wait.recv().await;
                // More may have been read meanwhile.
                if self.pending.load(Ordering::Acquire) == 0 {
                    return;
                }
            }
        };
        let _ = timeout(PATIENCE, flush).await;
    }
}

fn to_log(log: &mut Option<UnixDatagram>, name: &str, bytes: &[u8]) -> io::Result<()> {
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        // Facility user, priority info.
        let mut message = format!("<14>{name}: ").into_bytes();
        message.extend_from_slice(line);
        let to = match log.take() {
            Some(to) => to,
            None => {
                let to = UnixDatagram::unbound()?;
                to.connect("/dev/log")?;
                to
            }
        };
        // If that fails, the log was started anew, perhaps.
        to.send(&message)?;
        *log = Some(to);
    }
    Ok(())
}

/// What a process writes to.
#[derive(Debug)]
pub(crate) struct Pipe {
    fd: Receiver,
    pid: u32,
    stream: Stream,
    /// The beginning of a line.
    partial: Mutex<Vec<u8>>,
    ended: AtomicBool,
}

/// A pipe, for the program after an `exec`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPipe {
    pub(crate) fd: usize,
    pid: u32,
    stream: Stream,
    partial: Vec<u8>,
}

impl Pipe {
    pub(crate) fn new(fd: OwnedFd, pid: u32, stream: Stream) -> io::Result<Arc<Self>> {
        Self::with(fd, pid, stream, Vec::new())
    }

    pub(crate) fn restore(saved: SavedPipe, fd: OwnedFd) -> io::Result<Arc<Self>> {
        Self::with(fd, saved.pid, saved.stream, saved.partial)
    }

    fn with(fd: OwnedFd, pid: u32, stream: Stream, partial: Vec<u8>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            fd: Receiver::from_owned_fd(fd)?,
            pid,
            stream,
            partial: Mutex::new(partial),
            ended: AtomicBool::new(false),
        }))
    }

    pub(crate) fn save(&self, fd: usize) -> SavedPipe {
        SavedPipe {
            fd,
            pid: self.pid,
            stream: self.stream,
            partial: self
                .partial
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Carries lines until the last writer has gone. Where it is cancelled while it waits for room,
    /// what it holds is lost: so it is not.
    pub(crate) async fn carry(self: Arc<Self>, writer: Writer) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = match self
                .fd
                .readable()
                .await
                .and_then(|()| self.fd.try_read(&mut buffer))
            {
                Ok(length) => length,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                // As its end: nothing can be read from it any more.
                Err(_) => 0,
            };
            let lines = self.take(&buffer[..length]);
            if !lines.is_empty() {
                writer.write(self.stream, lines).await;
            }
            if length == 0 {
                self.ended.store(true, Ordering::Release);
                return;
            }
        }
    }

    /// Whole lines with their prefixes; the rest too, if nothing follows it.
    fn take(&self, bytes: &[u8]) -> Vec<u8> {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        let mut line = |line: &[u8]| {
            out.extend_from_slice(format!("[{}] ", self.pid).as_bytes());
            out.extend_from_slice(line);
            out.push(b'\n');
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if partial.ends_with(b"\n") || partial.len() >= LONGEST {
                line(partial.strip_suffix(b"\n").unwrap_or(&partial));
                partial.clear();
            }
        }
        if bytes.is_empty() && !partial.is_empty() {
            line(&partial);
            partial.clear();
        }
        out
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits for what is still in the pipes; others than our processes may hold them open.
pub(crate) async fn drain(pipes: &[Arc<Pipe>], writer: &Writer) {
    let ended = async {
        while pipes.iter().any(|pipe| !pipe.has_ended()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = timeout(REST, ended).await;
    writer.flush().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_and_the_last_is_not_lost() {
        let (read, _write) = io::pipe().unwrap();
        let pipe = Pipe::new(read.into(), 7, Stream::Stdout).unwrap();
        let take = |bytes: &[u8]| String::from_utf8(pipe.take(bytes)).unwrap();
        assert_eq!(take(b"one\ntw"), "[7] one\n");
        assert_eq!(take(b"o"), "");
        let saved = pipe.save(0);
        assert_eq!(saved.partial, b"two");
        assert_eq!(take(b"\n\nthr"), "[7] two\n[7] \n");
        assert_eq!(take(b""), "[7] thr\n");
        assert_eq!(take(b""), "");
        let long = "x".repeat(LONGEST);
        assert_eq!(take(long.as_bytes()), format!("[7] {long}\n"));
    }
}
