//! Files and connections that one generation keeps for the next.

use std::os::fd::{AsFd, OwnedFd};

use super::Generation;
use crate::{
    Stream,
    error::{Error, Kind},
    sockets::{
        kept::set_nonblocking,
        record::{self, SocketKind},
    },
};

impl Generation {
    /// Keeps an open file for the successor, which [takes](Self::take_file) it by its name: a log, a
    /// pipe, a memfd, an eventfd, a lock.
    ///
    /// The descriptor is this generation's from here on (`try_clone` makes another for the program),
    /// and close-on-exec. What is one file for the kernel stays one: position, flags and locks are
    /// shared by both generations while both live. A second file of a name takes the place of the
    /// first. What was taken from the predecessor is not kept by itself: keep it again.
    ///
    /// # Errors
    ///
    /// If a connection is kept under this name, or the name is empty or longer than 512 bytes.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{fs::File, io::Write};
    /// use handover::Generation;
    ///
    /// let generation = Generation::start()?;
    /// let mut log = match generation.take_file("log") {
    ///     Some(log) => File::from(log),
    ///     None => File::options().append(true).create(true).open("app.log")?,
    /// };
    /// generation.keep_file("log", log.try_clone()?)?;
    /// writeln!(log, "generation {}", generation.number())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_file(
        &self,
        name: impl Into<String>,
        file: impl Into<OwnedFd>,
    ) -> Result<(), Error> {
        let mut registry = self.shared().registry();
        registry
            .kept
            .keep(name.into(), SocketKind::File, file.into())
    }

    /// Takes the file that the predecessor kept under this name; once. What nobody has taken is
    /// closed at [`ready`](Self::ready).
    #[must_use]
    pub fn take_file(&self, name: &str) -> Option<OwnedFd> {
        self.shared().registry().kept.take(name, SocketKind::File)
    }

    /// Keeps a connected stream for the successor, which [takes](Self::take_connection) it by its
    /// name: a connection to an upstream, to a broker, to who controls this service. TCP or Unix.
    ///
    /// As with [`keep_file`](Self::keep_file) the descriptor is this generation's from here on. Both
    /// generations have one connection, so the program says who reads and writes: this one stops
    /// when its token drains, the successor begins once [`ready`](Self::ready) has returned. Bytes
    /// that were read ahead are state, to be [kept](Self::keep_state) as such.
    ///
    /// # Errors
    ///
    /// If it is not a connected stream, a file is kept under this name, or the name is empty or
    /// longer than 512 bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use handover::{Generation, Stream};
    /// use tokio::net::{TcpListener, TcpStream};
    ///
    /// # let broker = TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = broker.local_addr()?;
    /// let generation = Generation::start()?;
    /// let broker = match generation.take_connection("broker")? {
    ///     Some(Stream::Tcp(stream)) => stream,
    ///     _ => TcpStream::connect(address).await?,
    /// };
    /// let broker = broker.into_std()?;
    /// generation.keep_connection("broker", broker.try_clone()?)?;
    /// generation.ready().await?;
    ///
    /// // It is lost, so the successor is to make one itself.
    /// let ours = generation.withdraw("broker");
    /// assert!(ours.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_connection(
        &self,
        name: impl Into<String>,
        stream: impl Into<OwnedFd>,
    ) -> Result<(), Error> {
        let mut registry = self.shared().registry();
        registry
            .kept
            .keep(name.into(), SocketKind::Stream, stream.into())
    }

    /// Takes the connection that the predecessor kept under this name; once. What nobody has taken
    /// is closed at [`ready`](Self::ready).
    ///
    /// It is made nonblocking, which the predecessor sees too.
    ///
    /// # Errors
    ///
    /// If it cannot be registered with the runtime. The connection has then gone.
    pub fn take_connection(&self, name: &str) -> Result<Option<Stream>, Error> {
        let taken = self.shared().registry().kept.take(name, SocketKind::Stream);
        let Some(fd) = taken else {
            return Ok(None);
        };
        // Where it is bound says what it is, also when its peer has gone.
        let stream = set_nonblocking(fd.as_fd())
            .and_then(|()| record::address(&fd))
            .and_then(|address| Stream::from_fd(fd, &address));
        stream.map(Some).map_err(|err| {
            let message = format!("cannot take the connection {name:?}");
            Error::io(Kind::File, message, err)
        })
    }

    /// Gives back the file or the connection that this generation keeps under a name, so that no
    /// successor gets it.
    pub fn withdraw(&self, name: &str) -> Option<OwnedFd> {
        self.shared().registry().kept.withdraw(name)
    }
}
