//! The sockets that a generation opens or inherits.

use std::io;

use tokio::net::{UdpSocket, UnixDatagram};

use super::Generation;
use crate::{
    error::{Error, Kind},
    sockets::{
        Listener, SeqpacketListener, SocketOptions,
        open::Target,
        record::SocketKind,
        registry::{Obtained, Wish},
        spec::Spec,
    },
};

impl Generation {
    /// Listens on an address: with the socket that was inherited for it, or a new one.
    ///
    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `unix:/path` and `unix:@name` (abstract,
    /// on Linux) are addresses; `name=` before one names the socket. An inherited socket is found by
    /// its name, then by its address. Without a name of its own a socket is named after its address
    /// as written here, so that port 0 keeps its port from generation to generation; the second of
    /// a name is called `name#2`.
    ///
    /// The listener accepts nothing before this generation is [`ready`](Self::ready).
    ///
    /// # Other addresses than the predecessor's
    ///
    /// What is new is bound here, so that an address that cannot be had fails while the predecessor
    /// serves. What the predecessor has and this process does not ask for, the predecessor finishes:
    /// nothing that is queued there is lost ([`Listener::accept_leftover`]). Its time is that of the
    /// [probation](crate::GenerationBuilder::probation), and should the predecessor be killed within
    /// it, what it alone had in a queue is lost with it.
    ///
    /// A TCP address may be widened (`127.0.0.1:80` to `0.0.0.0:80`) or narrowed, under a name or
    /// without one: the new socket listens from the commit on, beside the old one, and at no
    /// instant is a connection to what both cover refused. Both processes must run as one user, and
    /// another program must not have opened the old socket.
    ///
    /// # Errors
    ///
    /// If the address cannot be read or resolved, its name is taken, or the socket cannot be opened:
    /// another process listens there, or on a Unix path a file is in the way that is not a socket.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Address, Generation};
    ///
    /// let generation = Generation::start()?;
    /// let web = generation.listen("web=127.0.0.1:0").await?;
    /// assert_eq!(web.name(), "web");
    /// assert!(matches!(web.local_addr()?, Address::Tcp(addr) if addr.port() != 0));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen(&self, address: impl AsRef<str>) -> Result<Listener, Error> {
        self.listen_with(address, &SocketOptions::new()).await
    }

    /// Listens as [`listen`](Self::listen) does, with options.
    ///
    /// On an inherited socket they are compared with what is set. What can be set again is, and what
    /// cannot is logged, and can be asked for: [`Listener::differences`].
    ///
    /// # Errors
    ///
    /// As for [`listen`](Self::listen); and if a new socket file cannot get its mode or its owner.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// use std::time::Duration;
    ///
    /// use handover::{Generation, SocketOptions};
    ///
    /// let generation = Generation::start()?;
    /// let options = SocketOptions::new().backlog(1024).keepalive(Duration::from_secs(60));
    /// let listener = generation.listen_with("127.0.0.1:0", &options).await?;
    /// for difference in listener.differences() {
    ///     println!("{difference}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen_with(
        &self,
        address: impl AsRef<str>,
        options: &SocketOptions,
    ) -> Result<Listener, Error> {
        let text = address.as_ref();
        let obtained = self.obtain(text, None, options).await?;
        let shared = self.shared();
        let adopting = shared.adopters.register(&obtained.name);
        let (gate, route) = (&shared.gate, shared.route.clone());
        Listener::new(obtained, options, gate, adopting, route)
            .map_err(|err| failed(SocketKind::Tcp, text, err))
    }

    /// Listens on a Unix socket of whole messages (`SOCK_SEQPACKET`): `unix:/path` or `unix:@name`.
    /// Names and inheritance are as for [`listen`](Self::listen).
    ///
    /// # Errors
    ///
    /// As for [`listen`](Self::listen), or if the address is not a Unix socket's.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.sock");
    /// let generation = handover::Generation::start()?;
    /// let listener = generation.listen_seqpacket(format!("unix:{}", path.display())).await?;
    /// assert!(path.exists());
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen_seqpacket(
        &self,
        address: impl AsRef<str>,
    ) -> Result<SeqpacketListener, Error> {
        self.listen_seqpacket_with(address, &SocketOptions::new())
            .await
    }

    /// Listens as [`listen_seqpacket`](Self::listen_seqpacket) does, with options as for
    /// [`listen_with`](Self::listen_with).
    ///
    /// # Errors
    ///
    /// As for [`listen_with`](Self::listen_with).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Generation, SocketOptions};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.sock");
    /// let generation = Generation::start()?;
    /// let address = format!("control=unix:{}", path.display());
    /// let listener = generation
    ///     .listen_seqpacket_with(&address, &SocketOptions::new().mode(0o600))
    ///     .await?;
    /// assert_eq!(listener.name(), "control");
    /// assert_eq!(listener.local_addr()?.as_path(), Some(path.as_path()));
    /// assert!(listener.differences().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen_seqpacket_with(
        &self,
        address: impl AsRef<str>,
        options: &SocketOptions,
    ) -> Result<SeqpacketListener, Error> {
        let (text, kind) = (address.as_ref(), SocketKind::Seqpacket);
        let obtained = self.obtain(text, Some(kind), options).await?;
        SeqpacketListener::new(obtained, &self.shared().gate).map_err(|err| failed(kind, text, err))
    }

    /// Binds a UDP socket, or takes the one that was inherited for this address. Names are as for
    /// [`listen`](Self::listen).
    ///
    /// A datagram goes to whichever process reads first, so from the start of a successor until the
    /// predecessor stops reading both get some. Read only once [`ready`](Self::ready) has returned,
    /// and stop when the token drains.
    ///
    /// An address that is widened or narrowed is a second socket, which is heard from here on: what
    /// comes to it waits in its queue until this process reads.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Self::listen), or if the address is not an IP address and port.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::Generation;
    ///
    /// let generation = Generation::start()?;
    /// let socket = generation.bind_udp("dns=127.0.0.1:0").await?;
    /// generation.ready().await?;
    ///
    /// let graceful = generation.graceful();
    /// # let to = socket.local_addr()?;
    /// # tokio::net::UdpSocket::bind("127.0.0.1:0").await?.send_to(b"?", to).await?;
    /// # let token = graceful.clone();
    /// # tokio::spawn(async move { tokio::time::sleep(std::time::Duration::from_millis(20)).await; token.drain() });
    /// let mut datagram = [0; 1500];
    /// loop {
    ///     tokio::select! {
    ///         received = socket.recv_from(&mut datagram) => {
    ///             let (length, peer) = received?;
    ///             socket.send_to(&datagram[..length], peer).await?;
    ///         }
    ///         () = graceful.draining() => break,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind_udp(&self, address: impl AsRef<str>) -> Result<UdpSocket, Error> {
        self.bind_udp_with(address, &SocketOptions::new()).await
    }

    /// Binds as [`bind_udp`](Self::bind_udp) does, with options as for
    /// [`listen_with`](Self::listen_with). What is otherwise than it was asked for is logged.
    ///
    /// # Errors
    ///
    /// As for [`bind_udp`](Self::bind_udp).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::Error> {
    /// use handover::{Generation, SocketOptions};
    ///
    /// let generation = Generation::start()?;
    /// let options = SocketOptions::new().receive_buffer(64 * 1024);
    /// let socket = generation.bind_udp_with("127.0.0.1:0", &options).await?;
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind_udp_with(
        &self,
        address: impl AsRef<str>,
        options: &SocketOptions,
    ) -> Result<UdpSocket, Error> {
        let (text, kind) = (address.as_ref(), SocketKind::Udp);
        let obtained = self.obtain(text, Some(kind), options).await?;
        UdpSocket::from_std(obtained.fd.into()).map_err(|err| failed(kind, text, err))
    }

    /// Binds a Unix datagram socket (`unix:/path` or `unix:@name`), or takes the one that was
    /// inherited for this address. Names are as for [`listen`](Self::listen).
    ///
    /// Who reads first gets a datagram, as with [`bind_udp`](Self::bind_udp): read once
    /// [`ready`](Self::ready) has returned, and until the token drains. What is in the queue between
    /// the two waits for the successor.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Self::listen), or if the address is not a Unix socket's.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("log.sock");
    /// use handover::Generation;
    /// use tokio::net::UnixDatagram;
    ///
    /// let generation = Generation::start()?;
    /// let socket = generation.bind_unix_datagram(format!("unix:{}", path.display())).await?;
    /// generation.ready().await?;
    ///
    /// UnixDatagram::unbound()?.send_to(b"hello", &path).await?;
    /// let mut datagram = [0; 1500];
    /// let length = socket.recv(&mut datagram).await?;
    /// assert_eq!(&datagram[..length], b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind_unix_datagram(
        &self,
        address: impl AsRef<str>,
    ) -> Result<UnixDatagram, Error> {
        self.bind_unix_datagram_with(address, &SocketOptions::new())
            .await
    }

    /// Binds as [`bind_unix_datagram`](Self::bind_unix_datagram) does, with options as for
    /// [`listen_with`](Self::listen_with). What is otherwise than it was asked for is logged.
    ///
    /// # Errors
    ///
    /// As for [`listen_with`](Self::listen_with).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("log.sock");
    /// use std::os::unix::fs::PermissionsExt;
    ///
    /// use handover::{Generation, SocketOptions};
    ///
    /// let generation = Generation::start()?;
    /// let address = format!("unix:{}", path.display());
    /// let options = SocketOptions::new().mode(0o620);
    /// let socket = generation.bind_unix_datagram_with(address, &options).await?;
    /// assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o620);
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind_unix_datagram_with(
        &self,
        address: impl AsRef<str>,
        options: &SocketOptions,
    ) -> Result<UnixDatagram, Error> {
        let (text, kind) = (address.as_ref(), SocketKind::Datagram);
        let obtained = self.obtain(text, Some(kind), options).await?;
        UnixDatagram::from_std(obtained.fd.into()).map_err(|err| failed(kind, text, err))
    }

    /// A socket of this kind, or a stream listener's.
    async fn obtain(
        &self,
        text: &str,
        kind: Option<SocketKind>,
        options: &SocketOptions,
    ) -> Result<Obtained, Error> {
        let spec = Spec::parse(text)?;
        let target = Target::resolve(&spec, &self.shared().program.dir).await?;
        let kind = kind.unwrap_or(target.stream_kind());
        let ip = matches!(target, Target::Ip(_));
        let wanted = match kind {
            SocketKind::Udp if !ip => Some("an IP address and port"),
            SocketKind::Seqpacket | SocketKind::Datagram if ip => {
                Some("the address of a Unix socket")
            }
            _ => None,
        };
        if let Some(wanted) = wanted {
            let message = format!("cannot {} {text:?}: it is not {wanted}", kind.verb());
            return Err(Error::new(Kind::Address, message));
        }
        let obtained = self.shared().registry().obtain(Wish {
            spec: &spec,
            kind,
            target: &target,
            options,
        })?;
        self.shared().socket_added();
        Ok(obtained)
    }
}

fn failed(kind: SocketKind, text: &str, err: io::Error) -> Error {
    Error::io(
        Kind::Listen,
        format!("cannot {} {text:?}", kind.verb()),
        err,
    )
}
