//! Somebody who has connected to the control socket.
//!
//! Invariants:
//! 1. Whoever tells a caller something does not wait: what the socket does not take at once is kept
//!    here, up to a bound, and written by the caller's own task. A caller that is behind by more is
//!    cut off; it hears of no further progress before it has caught up.
//! 2. Lines are whole and in order: they are appended and written under one lock.
//! 3. The last line is offered to the socket by who says it. So it is delivered although the process
//!    may end right after, unless its reader has not read what was there before.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Mutex,
    time::Duration,
};

use rustix::net::{SendFlags, send};
use tokio::{io::Interest, net::UnixStream, sync::Notify, time::timeout};

use super::{Event, LONGEST_REQUEST, Refusal, Refused, Request};
use crate::{generation::shared::lock, kernel};

/// How much is kept for a caller that does not read.
const BEHIND: usize = 256 * 1024;
/// How long a caller may take to read something of what is kept for it.
const STALLED: Duration = Duration::from_secs(5);
/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(5);

/// Who has connected to a control socket, and what it is still to be told.
///
/// Telling it something never waits. What it has not read is kept, up to a bound, and written by
/// [`attend`](Self::attend), which a task is to run.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::control::{Caller, Event, Refusal, Request};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::UnixStream};
///
/// let (mut client, accepted) = UnixStream::pair()?;
/// client.write_all(Request::Drain.to_line().as_bytes()).await?;
///
/// let caller = Caller::new(accepted);
/// assert_eq!(caller.receive().await, Some(Request::Drain));
/// caller.tell_if_idle(&Event::begun(41, 6));
/// caller.tell(&Event::refused(Refusal::Draining, "this service is to end already"));
/// caller.attend().await;
/// assert!(caller.is_closed(), "that was the outcome");
/// drop(caller);
///
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.contains(r#""event":"begun""#) && answer.contains("already"), "{answer}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    out: Mutex<Out>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Out {
    pending: Vec<u8>,
    /// Nothing more is taken: the last line was said, or the caller has gone or does not read.
    closed: bool,
}

impl Caller {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            out: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Tells it something. After what [is last](Event::is_last), nothing more is taken.
    pub fn tell(&self, event: &Event) {
        let mut out = lock(&self.out);
        if out.closed {
            return;
        }
        let line = event.to_line();
        if out.pending.len() + line.len() > BEHIND {
            tracing::info!("a caller of the control socket does not read, hanging up");
            out.pending.clear();
            out.closed = true;
        } else {
            out.pending.extend_from_slice(line.as_bytes());
            out.closed = event.is_last();
            self.write(&mut out);
        }
        drop(out);
        self.wake.notify_one();
    }

    /// Tells it something that the next such line replaces, unless it is behind.
    pub fn tell_if_idle(&self, event: &Event) {
        if lock(&self.out).pending.is_empty() {
            self.tell(event);
        }
    }

    /// Returns true if it is told nothing any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.out).closed
    }

    // Not by way of the runtime, which may be ending.
    fn write(&self, out: &mut Out) {
        while !out.pending.is_empty() {
            let flags = kernel::NO_SIGNAL | SendFlags::DONTWAIT;
            match send(&self.stream, &out.pending, flags) {
                Ok(written) => drop(out.pending.drain(..written)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    // It has gone.
                    out.pending.clear();
                    out.closed = true;
                }
            }
        }
    }

    /// Writes what is kept until all has been said. Cancel safe.
    pub async fn attend(&self) {
        loop {
            let (pending, closed) = {
                let out = lock(&self.out);
                (!out.pending.is_empty(), out.closed)
            };
            if pending {
                let some = self.stream.async_io(Interest::WRITABLE, || {
                    let mut out = lock(&self.out);
                    let before = out.pending.len();
                    self.write(&mut out);
                    match out.pending.len() {
                        after if after == before => Err(io::ErrorKind::WouldBlock.into()),
                        _ => Ok(()),
                    }
                });
                if !matches!(timeout(STALLED, some).await, Ok(Ok(()))) {
                    let mut out = lock(&self.out);
                    out.pending.clear();
                    out.closed = true;
                }
            } else if closed {
                return;
            } else {
                self.wake.notified().await;
            }
        }
    }

    /// Reads what it asks for, if it may ask at all. Who asks for nothing that can be done has been
    /// told so when this returns `None`.
    ///
    /// # Cancel safety
    ///
    /// A request that was not returned is lost.
    pub async fn receive(&self) -> Option<Request> {
        let line = match self.is_permitted() {
            Ok(()) => self.request().await,
            Err(refused) => Err(refused),
        };
        match line.and_then(|line| Request::from_line(&line)) {
            Ok(request) => Some(request),
            Err(refused) => {
                tracing::info!(kind = ?refused.0, why = refused.1, "a request over the control socket was refused");
                self.tell(&refused.into());
                None
            }
        }
    }

    async fn request(&self) -> Result<Vec<u8>, Refused> {
        let late = || {
            let message = format!("no request came within {REQUEST:?}");
            Err(Refused(Refusal::TooSlow, message))
        };
        timeout(REQUEST, self.line())
            .await
            .unwrap_or_else(|_| late())
    }

    async fn line(&self) -> Result<Vec<u8>, Refused> {
        let bad = |message: String| Refused(Refusal::BadRequest, message);
        let mut line = Vec::new();
        loop {
            let failed = |err: io::Error| bad(format!("the request cannot be read: {err}"));
            self.stream.readable().await.map_err(failed)?;
            let mut some = [0; 1024];
            let read = match self.stream.try_read(&mut some) {
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                Err(err) => return Err(failed(err)),
            };
            let some = &some[..read];
            let end = some.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&some[..end.unwrap_or(read)]);
            if line.len() >= LONGEST_REQUEST {
                let message = format!("the request is longer than {LONGEST_REQUEST} bytes");
                return Err(bad(message));
            }
            if end.is_some() || read == 0 {
                return Ok(line);
            }
        }
    }

    /// Whether it may ask for anything: it is of our user, or root.
    fn is_permitted(&self) -> Result<(), Refused> {
        let refuse = |message: String| Err(Refused(Refusal::Forbidden, message));
        match self.stream.peer_cred() {
            Ok(who) if may(who.uid(), rustix::process::geteuid().as_raw()) => Ok(()),
            Ok(who) => refuse(format!(
                "user {} may not control this service: only its own user and root may",
                who.uid()
            )),
            Err(err) => refuse(format!("the kernel does not tell who asks: {err}")),
        }
    }
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn may(who: u32, ours: u32) -> bool {
    who == ours || who == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn our_user_and_root_may() {
        assert!(may(1000, 1000) && may(0, 1000) && may(0, 0));
        assert!(!may(1000, 0) && !may(1000, 1001));
    }

    fn progress(text: &str) -> Event {
        let text = text.to_owned();
        Event::Initialising { pid: 1, text }
    }

    #[tokio::test]
    async fn one_that_does_not_read_is_cut_off_and_holds_nobody_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let caller = Caller::new(ours);
        let line = progress(&"x".repeat(1000));
        let mut told = 0;
        while !caller.is_closed() {
            caller.tell(&line);
            told += 1;
            assert!(told < 10_000, "it takes all that it is told");
        }
        caller.tell(&Event::refused(Refusal::Busy, "over"));
        timeout(STALLED, caller.attend()).await.expect("it is over");
        drop(caller);
        let mut all = String::new();
        let mut theirs = theirs;
        theirs.read_to_string(&mut all).await.unwrap();
        assert!(!all.contains("over") && all.len() > 1000);
    }

    #[tokio::test]
    async fn one_that_reads_late_gets_all_of_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let caller = Caller::new(ours);
        let mut expected = String::new();
        // More than the socket takes at once, and less than is kept.
        while lock(&caller.out).pending.len() < BEHIND / 2 {
            let line = progress(&expected.len().to_string());
            expected += &line.to_line();
            caller.tell(&line);
        }
        let behind = caller.is_closed();
        caller.tell_if_idle(&progress("not told"));
        let last = Event::refused(Refusal::Busy, "the end");
        expected += &last.to_line();
        caller.tell(&last);
        let mut all = String::new();
        let read = async {
            theirs.read_to_string(&mut all).await.unwrap();
        };
        let write = async {
            caller.attend().await;
            drop(caller);
        };
        tokio::join!(write, read);
        assert!(!behind && all == expected);
    }
}
