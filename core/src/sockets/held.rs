//! A socket that a generation holds for its successor, and what becomes of it if that one does not
//! take it: an address that the new release no longer has, or has otherwise.
//!
//! Invariants:
//! 1. Such a socket is this process's to finish. Its listener accepts on, through the probation,
//!    for until then this process may have to serve again.
//! 2. Then it is made *deaf*: nothing new reaches it, and what has reached it is still accepted.
//!    Where another socket covers its address, that one hears from the same instant on; elsewhere
//!    clients are refused. So no connection is ever in a queue that is closed.
//! 3. A socket that another program passed to us is never made deaf: that program has it too.
//! 4. `touched` is set before a socket is first *left*, and so before it can be deaf, and never
//!    cleared: who finds it unset may take the state for the first one, without the lock. It is set
//!    before the drain of that upgrade begins, and so before the gate opens again, should the drain
//!    be taken back. Who acts on either of these sees it, and no order beyond theirs is needed.
//!
//! A TCP socket is deaf once it is bound to a network interface that does not exist: the kernel then
//! finds it for no new connection, while those whose handshake has begun still come to it. It takes
//! no privilege, but one (`CAP_NET_RAW`) to take back. A Unix socket is deaf once its reading side
//! is shut down, for good.

use std::{
    collections::HashSet,
    io,
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::time::{Instant, sleep_until};

use super::record::{Record, SocketKind};
use crate::{Graceful, Phase, kernel};

/// No interface has it: the kernel counts them from 1.
#[cfg(target_os = "linux")]
const NOWHERE: u32 = 0x7fff_fff0;

/// For how long handshakes that have begun may take to be over, once a TCP socket is deaf.
const HANDSHAKES: Duration = Duration::from_millis(500);

/// A socket, by name.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) record: Record,
    fd: OwnedFd,
    /// What the successor that starts now says.
    unused: AtomicBool,
    /// The state may be another than the first.
    touched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The successor that serves does not have it: until when it is heard.
    left: Option<Instant>,
    deaf: bool,
    /// It was deaf, and cannot be heard again.
    lost: bool,
}

impl Held {
    pub(crate) fn new(record: Record, fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self {
            record,
            fd,
            unused: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if it may be another than the first.
    fn touched(&self) -> Option<MutexGuard<'_, State>> {
        self.touched.load(Ordering::Acquire).then(|| self.state())
    }

    /// The state, to change it.
    fn touch(&self) -> MutexGuard<'_, State> {
        self.touched.store(true, Ordering::Release);
        self.state()
    }

    /// Until when it is heard, if the successor does not have it.
    pub(crate) fn left(&self) -> Option<Instant> {
        self.touched()?.left
    }

    /// Makes it deaf, if it is not yet. Returns for how long something may still come.
    ///
    /// # Errors
    ///
    /// If there is no way to: what comes later may be lost when the socket is closed.
    pub(crate) fn deafen(&self) -> io::Result<Duration> {
        let mut state = self.touch();
        let socket = SockRef::from(&self.fd);
        match self.record.kind {
            SocketKind::Tcp => {
                if !state.deaf {
                    nowhere(&socket, true)?;
                    tracing::info!(socket = %self.record.name, address = %self.record.address, "no longer heard: the successor does not use it");
                }
                state.deaf = true;
                Ok(HANDSHAKES)
            }
            SocketKind::Unix | SocketKind::Seqpacket => {
                if !state.deaf {
                    tracing::info!(socket = %self.record.name, address = %self.record.address, "no longer heard: the successor does not use it");
                    socket.shutdown(Shutdown::Read)?;
                }
                state.deaf = true;
                Ok(Duration::ZERO)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Accepts from a Unix socket that is deaf; `None` if it is not deaf. To its runtime such a
    /// socket is always ready, so it must not be waited for.
    pub(crate) fn accept_deaf(&self) -> Option<io::Result<OwnedFd>> {
        let unix = matches!(self.record.kind, SocketKind::Unix | SocketKind::Seqpacket);
        if !unix || !self.touched().is_some_and(|state| state.deaf) {
            return None;
        }
        Some(kernel::accept(&self.fd))
    }

    /// Returns true if it is heard; hears again if it was deaf, for its generation serves again. If
    /// that is not possible, it never is.
    pub(crate) fn is_heard(&self) -> bool {
        let Some(mut state) = self.touched() else {
            return true;
        };
        if !std::mem::take(&mut state.deaf) {
            return !state.lost;
        }
        let heard = match self.record.kind {
            SocketKind::Tcp => nowhere(&SockRef::from(&self.fd), false),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        if let Err(err) = heard {
            state.lost = true;
            let (name, address) = (&self.record.name, &self.record.address);
            tracing::error!(socket = %name, %address, %err, "this socket was given up in an upgrade and cannot be heard again; restart to have it back");
        }
        !state.lost
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(target_os = "linux")]
fn nowhere(socket: &SockRef<'_>, nowhere: bool) -> io::Result<()> {
    let index = std::num::NonZeroU32::new(NOWHERE).filter(|_| nowhere);
    // For IPv6 as well: on Linux the option is the socket's, not the protocol's.
    socket.bind_device_by_index_v4(index)
}

#[cfg(not(target_os = "linux"))]
fn nowhere(_: &SockRef<'_>, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What is offered to one successor.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    sockets: Vec<Arc<Held>>,
    graceful: Option<Graceful>,
    probation: Duration,
}

impl Passing {
    pub(crate) fn new(sockets: Vec<Arc<Held>>, graceful: Option<Graceful>, time: Duration) -> Self {
        for held in &sockets {
            held.unused.store(false, Ordering::Relaxed);
        }
        Self {
            sockets,
            graceful,
            probation: time,
        }
    }

    pub(crate) fn sockets(&self) -> &[Arc<Held>] {
        &self.sockets
    }

    /// The successor says that it will not use these.
    pub(crate) fn unused(&self, names: &[String]) {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        for held in &self.sockets {
            if names.contains(&*held.record.name) {
                held.unused.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The successor serves: what it does not use is ours to finish.
    pub(crate) fn settle(&self) {
        let until = Instant::now() + self.probation;
        for held in &self.sockets {
            let left = held.unused.load(Ordering::Relaxed)
                && held.record.kind.listens()
                && !held.record.foreign;
            if !left {
                if let Some(mut state) = held.touched() {
                    state.left = None;
                }
                continue;
            }
            held.touch().left = Some(until);
            if let Some(graceful) = &self.graceful {
                tokio::spawn(give_up(Arc::clone(held), graceful.clone(), until));
            }
        }
    }
}

/// Makes a socket deaf when its time is over, also if nobody polls its listener any more.
async fn give_up(held: Arc<Held>, graceful: Graceful, until: Instant) {
    graceful.draining().await;
    sleep_until(until).await;
    // The successor may have died, and another may have come since.
    let drains = graceful.phase() == Phase::Draining;
    if drains && held.left() == Some(until) {
        // Only a loss of comfort: what it hears from now on may be lost at the end.
        if let Err(err) = held.deafen() {
            tracing::debug!(socket = %held.record.name, %err, "cannot be made deaf");
        }
        // Taken back in between.
        if graceful.phase() == Phase::Running {
            held.is_heard();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    fn held(kind: SocketKind, fd: impl Into<OwnedFd>) -> Arc<Held> {
        let record = Record {
            name: "web".into(),
            kind,
            address: String::new(),
            foreign: false,
            path: None,
            access: Default::default(),
        };
        Held::new(record, fd.into())
    }

    #[test]
    fn a_deaf_tcp_socket_keeps_its_queue_and_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held = held(SocketKind::Tcp, listener.try_clone().unwrap());
        let mut queued = TcpStream::connect(address).unwrap();
        held.deafen().unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"x").unwrap();
        queued.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_deaf_unix_socket_keeps_its_queue_and_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let held = held(SocketKind::Unix, listener.try_clone().unwrap());
        let mut queued = UnixStream::connect(&path).unwrap();
        held.deafen().unwrap();
        let refused = UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"x").unwrap();
        queued.read_exact(&mut [0]).unwrap();
        assert!(listener.accept().is_err(), "it does not wait");
    }

    #[test]
    fn a_socket_that_was_never_left_is_heard_without_the_lock() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = held(SocketKind::Tcp, listener);
        let passing = Passing::new(vec![held.clone()], None, Duration::ZERO);
        assert!(held.is_heard() && held.left().is_none());
        assert!(held.touched().is_none());
        // The successor has it.
        passing.settle();
        assert!(held.is_heard() && held.left().is_none());
        assert!(held.touched().is_none());
    }

    #[test]
    fn a_socket_that_was_left_is_seen_to_be() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = held(SocketKind::Tcp, listener);
        let leave = |names: &[String]| {
            let passing = Passing::new(vec![held.clone()], None, Duration::ZERO);
            passing.unused(names);
            passing.settle();
        };
        leave(&["web".into()]);
        assert!(held.left().is_some());
        // The next successor has it again.
        leave(&[]);
        assert_eq!(held.left(), None);
    }

    #[test]
    fn what_others_hold_too_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut record = held(SocketKind::Tcp, listener.try_clone().unwrap())
            .record
            .clone();
        record.foreign = true;
        let held = Held::new(record, listener.into());
        let passing = Passing::new(vec![held.clone()], None, Duration::ZERO);
        passing.unused(&["web".into()]);
        passing.settle();
        assert_eq!(held.left(), None);
    }
}
