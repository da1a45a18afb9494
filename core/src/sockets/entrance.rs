//! Between a listening socket and who accepts from it: when that may be, and what is done with the
//! queue of a socket that the successor does not have.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use socket2::SockRef;

use super::{
    gate::{Gate, Pass},
    held::Held,
    leaving::Leaving,
    record,
};
use crate::Address;

/// The way of connections to one listener, of whichever kind.
pub(super) struct Entrance {
    pass: Pass,
    held: Arc<Held>,
    leaving: Leaving,
}

impl Entrance {
    pub(super) fn new(held: Arc<Held>, gate: &Gate) -> Self {
        Self {
            pass: gate.pass(),
            held,
            leaving: Leaving::default(),
        }
    }

    /// Waits until this generation may accept. Cancel safe.
    pub(super) async fn opened(&mut self) {
        self.pass.opened().await;
    }

    /// Ready when connections may be accepted.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let may = match self.pass.poll_open(cx) {
            Poll::Ready(()) => self.held.is_heard(),
            // What only this process has it may take at any time.
            Poll::Pending => self.held.left().is_some(),
        };
        if may { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes with `accept` what nobody else will, until there is no more.
    pub(super) fn poll_leftover<T>(
        &mut self,
        cx: &mut Context<'_>,
        accept: impl Fn(&Self, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<Option<io::Result<T>>> {
        // Open: this generation serves again.
        if self.pass.poll_open(cx).is_ready() || self.leaving.is_over(&self.held) {
            return Poll::Ready(None);
        }
        loop {
            if let Poll::Ready(accepted) = accept(self, cx) {
                return Poll::Ready(Some(accepted));
            }
            if ready!(self.leaving.poll(&self.held, cx)) {
                return Poll::Ready(None);
            }
        }
    }

    /// Accepts from a socket that is deaf and must not be waited for; `None` from any other.
    pub(super) fn poll_deaf(&self) -> Option<Poll<io::Result<(OwnedFd, Address)>>> {
        let Ok(fd) = self.held.accept_deaf()? else {
            // At its end nothing comes any more.
            return Some(Poll::Pending);
        };
        let peer = SockRef::from(&fd).peer_addr();
        Some(Poll::Ready(peer.map(|peer| (fd, record::of(peer)))))
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }
}
