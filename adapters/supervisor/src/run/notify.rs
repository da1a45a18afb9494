//! What a process says by `sd_notify`, or over crank's descriptor.
//!
//! Each process has an address of its own, an abstract one: it needs no directory that another user
//! may enter, and goes with the socket. The kernel says under whom the sender runs; what another
//! user sends is not heard.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, recvmsg, sockopt,
};
use socket2::{Domain, Socket, Type};
use tokio::{io::Interest, net::UnixDatagram};

pub(crate) use super::said::Said;
use super::said::read;

/// The longest message.
const LONGEST: usize = 4096;
/// How many addresses are tried that are taken.
const TRIES: u32 = 100;

/// Where the messages of one process arrive.
#[derive(Debug)]
pub(crate) struct Mailbox {
    socket: UnixDatagram,
    name: String,
    /// Who may be heard, beside us and root.
    uid: u32,
}

/// What one process has said at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Its number, as the kernel says.
    pub(crate) from: u32,
    pub(crate) said: Vec<Said>,
}

impl Mailbox {
    /// Opens one. `mark` is part of its address.
    pub(crate) fn open(mark: u64, uid: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        let mut tries = 0;
        let name = loop {
            let name = format!("handover/{}/{mark}/{tries}", std::process::id());
            let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
            match rustix::net::bind(&socket, &address) {
                Ok(()) => break name,
                Err(rustix::io::Errno::ADDRINUSE) if tries < TRIES => tries += 1,
                Err(err) => return Err(err.into()),
            }
        };
        Self::restore(socket.into(), name, uid)
    }

    /// Makes it of its socket.
    pub(crate) fn restore(fd: OwnedFd, name: String, uid: u32) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(fd);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        Ok(Self { socket, name, uid })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// For `NOTIFY_SOCKET`.
    pub(crate) fn address(&self) -> String {
        format!("@{}", self.name)
    }

    /// A socket whose messages arrive here, for who wants a descriptor to write to.
    pub(crate) fn connected(&self) -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        let address = SocketAddrUnix::new_abstract_name(self.name.as_bytes())?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket.into())
    }

    /// The next message. Cancel safe.
    pub(crate) async fn next(&self) -> io::Result<Heard> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, || self.receive());
            if let Some(heard) = received.await? {
                return Ok(heard);
            }
        }
    }

    /// What has arrived and was not taken.
    pub(crate) fn rest(&self) -> Vec<Heard> {
        let received = std::iter::from_fn(|| self.receive().ok());
        received.flatten().collect()
    }

    /// `None` if it is of another user.
    fn receive(&self) -> io::Result<Option<Heard>> {
        let mut bytes = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        // There is no room for descriptors, so the kernel closes them, which is what a barrier
        // waits for.
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let length = recvmsg(&self.socket, &mut iov, &mut control, flags)?.bytes;
        let ours = rustix::process::geteuid().as_raw();
        let from = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(who) => {
                let uid = who.uid.as_raw();
                let permitted = uid == self.uid || uid == ours || uid == 0;
                permitted.then(|| who.pid.as_raw_nonzero().get().cast_unsigned())
            }
            _ => None,
        });
        let said = read(&String::from_utf8_lossy(&bytes[..length]));
        Ok(from.map(|from| Heard { from, said }))
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_to_the_address_or_the_descriptor_arrives() {
        let us = rustix::process::geteuid().as_raw();
        let mailbox = Mailbox::open(7, us).unwrap();
        let fd = mailbox.connected().unwrap();
        std::os::unix::net::UnixDatagram::from(fd)
            .send(b"STATUS=one")
            .unwrap();
        let heard = mailbox.next().await.unwrap();
        assert_eq!(heard.from, std::process::id());
        assert_eq!(heard.said, [Said::Status("one".to_owned())]);
        let address = std::ffi::OsString::from(mailbox.address());
        let notifier = handover::supervise::Notifier::new(&address).unwrap();
        notifier.send("READY=1", &[]).unwrap();
        assert_eq!(mailbox.next().await.unwrap().said, [Said::Ready]);
        for text in ["STATUS=two", "READY=1"] {
            notifier.send(text, &[]).unwrap();
        }
        let rest = mailbox.rest();
        let rest: Vec<_> = rest.into_iter().flat_map(|heard| heard.said).collect();
        assert_eq!(rest, [Said::Status("two".to_owned()), Said::Ready]);
        assert_eq!(mailbox.rest(), []);
        // Another with the same mark gets another address.
        assert_ne!(Mailbox::open(7, us).unwrap().name(), mailbox.name());
    }
}
