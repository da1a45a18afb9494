//! Waiting until the runtime knows what the kernel knew a moment ago.
//!
//! A socket of tokio's says "nothing there" for as long as the reactor has not told it of what came, and
//! the reactor runs in one thread of several, which other programs may keep from the processor. Whoever
//! asks for the last time has to be sure.
//!
//! # Invariants
//!
//! 1. The kernel tells of what became ready in the order in which it did (epoll and kqueue keep lists). So
//!    an event of our own, made now, is told behind all that was there before it.

/// How often to let others run, where there is no such event.
const YIELDS: usize = 3;

/// Ends when the reactor of this runtime has told of all that the kernel had when this was first polled.
pub(super) async fn has_looked() {
    #[cfg(unix)]
    if event_of_our_own().await.is_ok() {
        return;
    }
    // As after running out of descriptors: the best that can be done without one.
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

#[cfg(unix)]
async fn event_of_our_own() -> std::io::Result<()> {
    use std::{io::Write, os::unix::net::UnixStream};

    let (here, mut there) = UnixStream::pair()?;
    there.write_all(&[0])?;
    here.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(here)?.readable().await
}
