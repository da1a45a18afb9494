//! When IO has to fail.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::{guard::Holder, wait::Reached};

/// Fails one direction of a connection's IO after the cut.
///
/// Not at the cut: for three quarters of the grace a handler's 503 or a WebSocket's close frame
/// can still be written. One for each direction, because the two may be used by two tasks.
///
/// # Examples
///
/// ```
/// # use std::{io, pin::Pin, task::{Context, Poll}};
/// # use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
/// use handover::{Graceful, Holder, accept::IoDeadline};
///
/// /// A stream whose reads fail after the cut.
/// struct Cuttable<Io> {
///     io: Io,
///     holder: Holder,
///     reading: IoDeadline,
/// }
///
/// impl<Io: AsyncRead + Unpin> AsyncRead for Cuttable<Io> {
///     fn poll_read(
///         self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         buf: &mut ReadBuf<'_>,
///     ) -> Poll<io::Result<()>> {
///         let this = self.get_mut();
///         match Pin::new(&mut this.io).poll_read(cx, buf) {
///             Poll::Pending => this.reading.poll(&this.holder, cx).map(Err),
///             ready => ready,
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let graceful = Graceful::new();
/// let (_silent, io) = tokio::io::duplex(64);
/// let holder = graceful.hold("session").expect("the drain is not over");
/// let mut stream = Cuttable { io, holder, reading: IoDeadline::default() };
/// graceful.cut();
/// assert!(stream.read_u8().await.is_err());
/// # }
/// ```
#[derive(Default)]
pub struct IoDeadline {
    wait: Wait,
}

#[derive(Default)]
enum Wait {
    #[default]
    Unasked,
    Cut(Reached),
    Grace(Pin<Box<Sleep>>),
    Over,
}

impl IoDeadline {
    /// Ready with an error once the IO has to fail; until then the task is woken by it.
    ///
    /// Poll it when the IO is pending. Before the cut it allocates nothing.
    pub fn poll(&mut self, holder: &Holder, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            match &mut self.wait {
                Wait::Unasked => self.wait = Wait::Cut(holder.cutting()),
                Wait::Cut(cut) => {
                    ready!(Pin::new(cut).poll(cx));
                    self.wait = Wait::Grace(Box::pin(sleep(last_words(holder.cut_grace()))));
                }
                Wait::Grace(grace) => {
                    ready!(grace.as_mut().poll(cx));
                    self.wait = Wait::Over;
                }
                Wait::Over => return Poll::Ready(error()),
            }
        }
    }
}

impl fmt::Debug for IoDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoDeadline").finish_non_exhaustive()
    }
}

/// The part of the grace in which what was cut may still speak; the rest is for it to end.
fn last_words(grace: Duration) -> Duration {
    grace * 3 / 4
}

fn error() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "connection cut at the drain's deadline",
    )
}

#[cfg(all(test, not(miri)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Policy;

    proptest! {
        /// Fails if what was cut may speak for longer than three quarters of any grace, or for less, or
        /// if more grace gives it less.
        #[test]
        fn last_words_are_three_quarters_of_the_grace(seconds: u64, nanos: u32, more: u32) {
            let time = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()));
            let grace = Policy::default().with_cut_grace(time).cut_grace();
            let words = last_words(grace);
            prop_assert!(words.as_nanos() * 4 <= grace.as_nanos() * 3);
            prop_assert!((words.as_nanos() + 1) * 4 > grace.as_nanos() * 3);
            prop_assert!(words <= last_words(grace + Duration::from_nanos(more.into())));
        }
    }
}
