//! The channel between two generations: a socket pair that passes frames and descriptors.
//!
//! Each message is sent whole or not at all, so any number of tasks may send, and neither sending
//! nor receiving loses anything by being cancelled.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, recvmsg, sendmsg,
    },
};
use tokio::{io::Interest, net::UnixDatagram};

use super::frame::{self, Decoded, FRAME, Message};
use crate::kernel;

/// The most descriptors that the kernel passes in one message (`SCM_MAX_FD`).
const DESCRIPTORS: usize = 253;

/// One end, in the runtime.
#[derive(Debug)]
pub(crate) struct Channel {
    // Only its readiness is used, which is the same for every kind of socket.
    io: UnixDatagram,
    // For what comes: to make and clear one for each small answer would cost more than the answer.
    bytes: Mutex<Vec<u8>>,
}

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Decoded,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// More descriptors were sent than this process has room for; those that came are the first.
    pub(crate) fds_lost: bool,
}

/// Makes a channel. Both ends are close-on-exec and nonblocking.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    kernel::packet_pair()
}

impl Channel {
    /// Registers an end with the runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(fd);
        // Ours are; one from who knows where would stop the runtime.
        socket.set_nonblocking(true)?;
        Ok(Self {
            io: UnixDatagram::from_std(socket)?,
            bytes: Mutex::new(vec![0; FRAME]),
        })
    }

    /// Sends now or not at all.
    pub(crate) fn try_send(&self, message: &Message) -> io::Result<()> {
        let frame = frame::encode(message, b"").map_err(io::Error::other)?;
        send(self.io.as_fd(), &frame, &[])
    }

    /// Sends bytes that need not be a frame.
    #[cfg(test)]
    pub(crate) fn try_send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.io.as_fd(), bytes, &[])
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }

    /// Sends, when there is room.
    pub(crate) async fn send(
        &self,
        message: &Message,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame = frame::encode(message, payload).map_err(io::Error::other)?;
        let send = || send(self.io.as_fd(), &frame, fds);
        self.io.async_io(Interest::WRITABLE, send).await
    }

    /// Receives the next message; `None` when the other end has gone and all it sent was received.
    pub(crate) async fn recv(&self) -> io::Result<Option<Received>> {
        self.io
            .async_io(Interest::READABLE, || self.try_recv())
            .await
    }

    /// Receives what is there already. `WouldBlock` if nothing is.
    pub(crate) fn try_recv(&self) -> io::Result<Option<Received>> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        recv(self.io.as_fd(), &mut bytes, false)
    }
}

/// As [`Channel::recv`], without a runtime, until `deadline`, by a buffer of [`FRAME`] bytes.
pub(crate) fn recv_until(
    fd: BorrowedFd<'_>,
    bytes: &mut [u8],
    deadline: Instant,
) -> io::Result<Option<Received>> {
    wait_until(fd, deadline)?;
    recv(fd, bytes, false)
}

/// As [`recv_until`], but leaves the message where it is.
pub(crate) fn peek_until(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<Option<Received>> {
    wait_until(fd, deadline)?;
    recv(fd, &mut vec![0; FRAME], true)
}

/// Sends now or not at all, without a runtime.
pub(crate) fn try_send(fd: BorrowedFd<'_>, message: &Message) -> io::Result<()> {
    let frame = frame::encode(message, b"").map_err(io::Error::other)?;
    send(fd, &frame, &[])
}

/// Waits until `fd` is readable.
pub(crate) fn wait_until(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
    }
}

fn send(fd: BorrowedFd<'_>, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    loop {
        // NOSIGNAL: that the other end has gone is an answer and must not end this process.
        match sendmsg(fd, &[IoSlice::new(frame)], &mut control, kernel::NO_SIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

fn recv(fd: BorrowedFd<'_>, bytes: &mut [u8], peek: bool) -> io::Result<Option<Received>> {
    let mut flags = kernel::CLOSE_ON_EXEC;
    flags.set(RecvFlags::PEEK, peek);
    // The other end may have gone without reading all that we sent. That is reported once, before
    // what it sent us, which is still there.
    let mut resets = 0;
    loop {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = match recvmsg(fd, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) if resets < 2 => {
                resets += 1;
                continue;
            }
            Err(Errno::CONNRESET) => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        // Owned first, so that they are closed whatever the frame holds.
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if got.bytes == 0 {
            return Ok(None);
        }
        if got.flags.contains(ReturnFlags::TRUNC) {
            return Err(invalid("a message did not arrive whole"));
        }
        let (message, payload) = frame::decode(&bytes[..got.bytes]).map_err(invalid)?;
        return Ok(Some(Received {
            message,
            payload: payload.to_vec(),
            fds,
            fds_lost: got.flags.contains(ReturnFlags::CTRUNC),
        }));
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(received: Option<Received>) -> Message {
        match received.unwrap().message {
            Decoded::Known(message) => message,
            Decoded::Unknown(what) => panic!("{what}"),
        }
    }

    #[tokio::test]
    async fn frames_and_descriptors_arrive() {
        let (left, right) = pair().unwrap();
        let (left, right) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
        let file = tempfile::tempfile().unwrap();
        let fds = vec![file.as_fd(); DESCRIPTORS];
        let payload = vec![7; frame::PAYLOAD];
        left.send(&Message::Ready, &payload, &fds).await.unwrap();
        let received = right.recv().await.unwrap().unwrap();
        assert_eq!(received.payload, payload);
        assert_eq!(received.fds.len(), DESCRIPTORS);
        for fd in &received.fds {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        let more = vec![file.as_fd(); DESCRIPTORS + 1];
        assert!(left.send(&Message::Ready, b"", &more).await.is_err());
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_arrives_before_it() {
        let (left, right) = pair().unwrap();
        let (left, right) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
        // Unread: makes the kernel report a reset to `left`.
        left.try_send(&Message::Ready).unwrap();
        right.try_send(&Message::Commit).unwrap();
        drop(right);
        assert_eq!(known(left.recv().await.unwrap()), Message::Commit);
        assert!(left.recv().await.unwrap().is_none());
        assert!(left.try_send(&Message::Bye).is_err());
    }

    #[tokio::test]
    async fn a_full_channel_waits_for_its_reader() {
        let (left, right) = pair().unwrap();
        let (left, right) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
        let payload = vec![1; frame::PAYLOAD];
        let sender = tokio::spawn(async move {
            for _ in 0..32 {
                left.send(
                    &Message::State {
                        name: "x".into(),
                        last: false,
                        version: 0,
                    },
                    &payload,
                    &[],
                )
                .await
                .unwrap();
            }
        });
        let mut count = 0;
        while right.recv().await.unwrap().is_some() {
            count += 1;
        }
        sender.await.unwrap();
        assert_eq!(count, 32);
    }

    #[test]
    fn waiting_has_an_end() {
        let (_left, right) = pair().unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        let err = recv_until(right.as_fd(), &mut vec![0; FRAME], deadline).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let (left, right) = pair().unwrap();
        send(left.as_fd(), b"\xff\xff\xff\xffgarbage", &[]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let err = recv_until(right.as_fd(), &mut vec![0; FRAME], deadline).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidData);
    }
}
