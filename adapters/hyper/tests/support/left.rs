#![allow(dead_code, unreachable_pub, unnameable_types)]
//! A socket that the successor does not have.

use std::{
    io,
    task::{Context, Poll},
};

use handover::{Accept, Address};
use tokio::{io::DuplexStream, sync::mpsc};

/// Accepts nothing, and leaves in the drain after an upgrade what comes by its channel, until that
/// is closed.
pub struct Left {
    coming: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Left {
    pub fn new() -> (mpsc::UnboundedSender<DuplexStream>, Self) {
        let (send, coming) = mpsc::unbounded_channel();
        (send, Self { coming })
    }
}

impl Accept for Left {
    type Io = DuplexStream;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(DuplexStream, Address)>> {
        Poll::Pending
    }

    fn poll_leftover(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(DuplexStream, Address)>>> {
        let next = self.coming.poll_recv(cx);
        next.map(|io| io.map(|io| Ok((io, Address::Unix(None)))))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unix(None))
    }
}
