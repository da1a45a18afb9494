//! What a program asks of a socket beyond its address.
//!
//! | option | new socket | inherited socket |
//! |---|---|---|
//! | backlog | set | set again; what it was cannot be asked |
//! | keepalive, send and receive buffer | set | compared, set again |
//! | mode, owner, group of a socket file | set | set if this is not what the predecessor asked for |
//! | IPv6 only | set | compared: it is fixed since the socket was bound |
//! | no delay | set on each connection | set on each connection |
//!
//! What the kernel does not take as it was asked for is a [`Difference`].

use std::{fmt, io, os::fd::BorrowedFd, time::Duration};

use socket2::{SockRef, TcpKeepalive};

use super::{access::Access, difference::Difference, record::SocketKind};

/// The kernel clamps it to `net.core.somaxconn`, which is 4096 by default: a burst while two
/// generations change places should find room.
const BACKLOG: u32 = 4096;

/// What a program asks of a socket beyond its address.
///
/// Options that a kind of socket does not have are ignored, so that one value serves for all.
///
/// An inherited socket is one and the same in both generations, so what is set on it here the
/// predecessor has too, from then on and also should this process fail.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::{Generation, SocketOptions};
///
/// let generation = Generation::start()?;
/// let options = SocketOptions::new().backlog(1024).mode(0o660);
/// let listener = generation.listen_with("unix:/run/app.sock", &options).await?;
/// for difference in listener.differences() {
///     println!("{difference}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until a socket is opened with them"]
pub struct SocketOptions {
    backlog: Option<u32>,
    v6_only: Option<bool>,
    keepalive: Option<Duration>,
    no_delay: Option<bool>,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
    access: Access,
}

impl SocketOptions {
    /// The defaults: a backlog of 4096, `TCP_NODELAY` on connections, all else as the kernel has
    /// it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::SocketOptions;
    ///
    /// let for_tcp = SocketOptions::new()
    ///     .backlog(1024)
    ///     .v6_only(false)
    ///     .keepalive(Duration::from_secs(60))
    ///     .no_delay(true)
    ///     .receive_buffer(256 * 1024)
    ///     .send_buffer(256 * 1024);
    /// // Of user 33 and any group it has by default.
    /// let for_a_file = SocketOptions::new().mode(0o660).owner(Some(33), None);
    /// println!("{for_tcp:?}, {for_a_file:?}");
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections may wait to be accepted. The kernel takes no more than
    /// `net.core.somaxconn`. Set again on an inherited socket.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// Whether `[::]` leaves IPv4 alone; `false` asks for both, whatever `net.ipv6.bindv6only`
    /// says. It cannot be changed on a socket that is bound: a difference is reported.
    pub fn v6_only(mut self, only: bool) -> Self {
        self.v6_only = Some(only);
        self
    }

    /// After how long a TCP connection without traffic is probed; seconds at the finest. Accepted
    /// connections have it from their listener. Set again on an inherited socket.
    pub fn keepalive(mut self, idle: Duration) -> Self {
        self.keepalive = Some(idle);
        self
    }

    /// Whether `TCP_NODELAY` is set on accepted connections. On by default.
    pub fn no_delay(mut self, on: bool) -> Self {
        self.no_delay = Some(on);
        self
    }

    /// The receive buffer in bytes, as a program counts them: the kernel reserves twice as much. It
    /// takes no more than `net.core.rmem_max`. Accepted connections have it from their listener. Set
    /// again on an inherited socket.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The send buffer in bytes, up to `net.core.wmem_max`, otherwise as
    /// [`receive_buffer`](Self::receive_buffer).
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// The permissions of a Unix socket's file. By default those that the umask leaves.
    ///
    /// An inherited file gets them only if the predecessor asked for something else: so what a
    /// person has changed since stays, and what a new release asks for comes. There is no moment at
    /// which a new file may be used by more.
    pub fn mode(mut self, mode: u32) -> Self {
        self.access.mode = Some(mode & 0o7777);
        self
    }

    /// The user and the group of a Unix socket's file, by number; `None` leaves one as it is.
    /// Inherited files are treated as by [`mode`](Self::mode).
    pub fn owner(mut self, user: Option<u32>, group: Option<u32>) -> Self {
        (self.access.user, self.access.group) = (user, group);
        self
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    pub(crate) fn connections_have_no_delay(&self) -> bool {
        self.no_delay.unwrap_or(true)
    }

    /// For `listen(2)`.
    pub(crate) fn queue(&self) -> i32 {
        i32::try_from(self.backlog.unwrap_or(BACKLOG)).unwrap_or(i32::MAX)
    }

    /// What must be set before a socket is bound.
    pub(crate) fn before_bind(&self, fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
        match self.v6_only {
            Some(only) if v6 => SockRef::from(&fd).set_only_v6(only),
            _ => Ok(()),
        }
    }

    /// Sets what can be set at any time, and says what is not as asked.
    pub(crate) fn apply(&self, fd: BorrowedFd<'_>, kind: SocketKind) -> Vec<Difference> {
        let socket = SockRef::from(&fd);
        let mut found = Found(Vec::new());
        if kind == SocketKind::Tcp
            && let Some(idle) = self.keepalive
        {
            let get = || {
                Ok(match socket.keepalive()? {
                    true => socket.tcp_keepalive_time()?,
                    false => Duration::ZERO,
                })
            };
            let set = || socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle));
            found.setting("keepalive", idle, get, set);
        }
        if let Some(bytes) = self.receive_buffer {
            let get = || socket.recv_buffer_size().map(counted);
            let set = || socket.set_recv_buffer_size(bytes);
            found.setting("receive buffer", bytes, get, set);
        }
        if let Some(bytes) = self.send_buffer {
            let get = || socket.send_buffer_size().map(counted);
            let set = || socket.set_send_buffer_size(bytes);
            found.setting("send buffer", bytes, get, set);
        }
        if let Some(only) = self.v6_only
            // Fails on a socket that is not of IPv6, which is no difference.
            && let Ok(is) = socket.only_v6()
        {
            found.fixed("IPv6 only", only, is);
        }
        found.0
    }

    /// As [`apply`](Self::apply), for an inherited socket, which has its backlog already.
    pub(crate) fn apply_again(&self, fd: BorrowedFd<'_>, kind: SocketKind) -> Vec<Difference> {
        let mut differences = self.apply(fd, kind);
        if kind.listens()
            && let Some(backlog) = self.backlog
            && let Err(err) = SockRef::from(&fd).listen(self.queue())
        {
            differences.push(Difference::new("backlog", backlog, err));
        }
        differences
    }
}

/// The kernel says what it reserves: on Linux twice what is used, for its own book-keeping.
fn counted(bytes: usize) -> usize {
    if cfg!(target_os = "linux") {
        bytes / 2
    } else {
        bytes
    }
}

struct Found(Vec<Difference>);

impl Found {
    fn setting<T: PartialEq + Copy + fmt::Debug>(
        &mut self,
        option: &'static str,
        asked: T,
        get: impl Fn() -> io::Result<T>,
        set: impl Fn() -> io::Result<()>,
    ) {
        if get().is_ok_and(|found| found == asked) {
            return;
        }
        match set().and_then(|()| get()) {
            Ok(found) if found == asked => {}
            Ok(found) => self.fixed(option, asked, found),
            Err(err) => self
                .0
                .push(Difference::new(option, format!("{asked:?}"), err)),
        }
    }

    fn fixed<T: PartialEq + fmt::Debug>(&mut self, option: &'static str, asked: T, found: T) {
        if asked != found {
            self.0.push(Difference::new(
                option,
                format!("{asked:?}"),
                format!("{found:?}"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd};

    use super::*;

    #[test]
    fn what_can_be_set_is_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = SocketOptions::new()
            .keepalive(Duration::from_secs(77))
            .receive_buffer(16 * 1024)
            .backlog(7);
        assert_eq!(options.apply_again(listener.as_fd(), SocketKind::Tcp), []);
        let socket = SockRef::from(&listener);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 77);
        assert_eq!(counted(socket.recv_buffer_size().unwrap()), 16 * 1024);
    }

    #[test]
    fn what_cannot_be_set_is_reported() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let is = SockRef::from(&listener).only_v6().unwrap();
        let options = SocketOptions::new().v6_only(!is).receive_buffer(1 << 30);
        let differences = options.apply(listener.as_fd(), SocketKind::Tcp);
        let options: Vec<_> = differences.iter().map(Difference::option).collect();
        assert_eq!(options, ["receive buffer", "IPv6 only"]);
        let text = format!("IPv6 only: asked for {}, found {is}", !is);
        assert_eq!(differences[1].to_string(), text);
    }
}
