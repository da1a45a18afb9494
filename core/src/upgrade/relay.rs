//! Carries what a starting successor writes to standard error to our own, and remembers the end of
//! it: a program that fails says why there.
//!
//! Invariants:
//! 1. No line is lost: what is read is written in the same poll, so a relay that is cancelled holds
//!    nothing.
//! 2. A living successor never finds its pipe broken: it is started with a duplicate of the reading
//!    end, and writes to the real standard error from the moment it is ready. When the predecessor
//!    has gone it reads what may be left in the pipe itself, and goes on doing so for any child of
//!    its own that still writes there. (Both come in [`Message::Stderr`] as well.)
//!
//! On a terminal there is no relay: programs look at what they write to, and the operator sees it.
//!
//! [`Message::Stderr`]: super::frame::Message::Stderr

use std::{
    ffi::OsStr,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    fs::{FileType, fstat},
    net::{SocketType, sockopt},
};
use tokio::{net::unix::pipe::Receiver, task::JoinHandle};

use crate::{kernel, sys};

/// The variable that tells a successor where the real standard error is, and the reading end of the
/// pipe in its place.
pub(crate) const VARIABLE: &str = "HANDOVER_STDERR";

/// How much of the end is remembered.
const TAIL: usize = 2048;
/// How long the rest is awaited after the writer has ended. Its own children may hold the pipe.
const REST: Duration = Duration::from_millis(200);

/// A relay in the predecessor.
#[derive(Debug)]
pub(crate) struct Relay {
    tail: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

/// The two ends of a relay's pipe.
pub(crate) struct Ends {
    pub(crate) read: OwnedFd,
    /// Blocking, as programs expect of standard error: the runtime makes only the other end not so.
    pub(crate) write: OwnedFd,
}

/// Makes a pipe, unless our standard error is a terminal.
pub(crate) fn ends() -> io::Result<Option<Ends>> {
    if io::stderr().is_terminal() {
        return Ok(None);
    }
    let (read, write) = io::pipe()?;
    Ok(Some(Ends {
        read: read.into(),
        write: write.into(),
    }))
}

impl Relay {
    /// Relays in a task, until the last writer has gone.
    pub(crate) fn start(read: OwnedFd) -> io::Result<Self> {
        let read = Receiver::from_owned_fd(read)?;
        let tail = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&tail);
        let task = tokio::spawn(async move {
            carry(read, |bytes| {
                let mut tail = into.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend_from_slice(bytes);
                let over = tail.len().saturating_sub(TAIL);
                tail.drain(..over);
            })
            .await;
        });
        Ok(Self { tail, task })
    }

    /// The end of what was written, as text, once the writer has ended.
    pub(crate) async fn tail(&mut self) -> String {
        let _ = tokio::time::timeout(REST, &mut self.task).await;
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).trim().to_owned()
    }
}

/// Lets a successor write to a pipe, and gives it what it needs should its reader die.
pub(crate) fn equip(command: &mut Command, read: OwnedFd, write: OwnedFd) -> io::Result<()> {
    let real = io::stderr().as_fd().try_clone_to_owned()?;
    command.env(
        VARIABLE,
        format!("{}:{}", real.as_raw_fd(), read.as_raw_fd()),
    );
    command.stderr(write);
    sys::inherit(command, real);
    sys::inherit(command, read);
    Ok(())
}

/// Takes the real standard error and the reading end of the pipe, in a successor. `value` is the
/// variable's; nothing is taken if it is garbage or another's, for it harms nobody.
pub(crate) fn inherited(value: &OsStr) -> Option<(OwnedFd, OwnedFd)> {
    let (real, read) = value.to_str()?.split_once(':')?;
    let (real, read) = (real.parse().ok()?, read.parse().ok()?);
    // That our standard error is the other end of it is what tells that the numbers are for us.
    let (read, ()) = sys::adopt(read, is_of_our_pipe).ok()?;
    let (real, ()) = sys::adopt(real, is_no_other_inheritance).ok()?;
    Some((real, read))
}

/// Nothing that another variable may name, and that is taken by its number as well: the pipe, a
/// channel, a listener, a socket of datagrams.
fn is_no_other_inheritance(fd: BorrowedFd<'_>) -> Result<(), String> {
    if is_of_our_pipe(fd).is_ok() {
        return Err("is the pipe".to_owned());
    }
    match (sockopt::socket_type(fd), kernel::listens(fd)) {
        (Err(_), _) | (Ok(SocketType::STREAM), Ok(false)) => Ok(()),
        _ => Err("is a socket that one does not write to".to_owned()),
    }
}

fn is_of_our_pipe(fd: BorrowedFd<'_>) -> Result<(), String> {
    let ours = fstat(rustix::stdio::stderr()).map_err(|err| err.to_string())?;
    let theirs = fstat(fd).map_err(|err| err.to_string())?;
    let is_pipe = FileType::from_raw_mode(theirs.st_mode) == FileType::Fifo;
    match is_pipe && (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
        true => Ok(()),
        false => Err("is not of the pipe that we write to".to_owned()),
    }
}

/// Writes to the real standard error at once: the predecessor died before it could say anything.
pub(crate) fn give_up(real: &OwnedFd, read: OwnedFd) {
    if let Err(err) = rustix::stdio::dup2_stderr(real) {
        tracing::warn!(%err, "standard error is a pipe that nobody reads");
    }
    tokio::spawn(take_over(read));
}

/// Reads what the predecessor's relay no longer can. In the successor.
pub(crate) async fn take_over(read: OwnedFd) {
    match Receiver::from_owned_fd(read) {
        Ok(read) => carry(read, |_| ()).await,
        Err(err) => tracing::debug!(%err, "cannot read the rest of the start's standard error"),
    }
}

async fn carry(read: Receiver, mut seen: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    loop {
        if read.readable().await.is_err() {
            return;
        }
        match read.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                seen(&buffer[..length]);
                // To whom should a failure of standard error be told?
                let _ = io::stderr().write_all(&buffer[..length]);
            }
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => return,
        }
    }
}
