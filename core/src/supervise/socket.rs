//! A socket that is held for whoever serves from it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    accept::Address,
    control::socket as control_socket,
    error::{Error, Kind},
    sockets::{
        SocketOptions, foreign,
        open::{self, How, Opened, Target},
        record::{self, Record, SocketKind},
        spec::Spec,
    },
    sys,
};

/// A listener, or a socket of datagrams, that this process holds for the programs it starts.
///
/// It is close-on-exec here, and blocking, as programs expect of what they inherit: one that wants
/// it otherwise says so itself, and a blocking one would spin. (A control socket is nonblocking.)
/// Dropping it closes this process's copy and leaves the file of a Unix socket where it is:
/// [`remove_file`](Self::remove_file) removes that.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover::Error> {
/// use handover::{SocketOptions, supervise::ServiceSocket};
///
/// let here = std::path::Path::new(".");
/// let socket = ServiceSocket::open("web=127.0.0.1:0", &SocketOptions::new(), here).await?;
/// assert_eq!((socket.name(), socket.kind()), (Some("web"), "tcp".to_owned()));
/// println!("{}", socket.address());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ServiceSocket {
    label: Label,
    fd: OwnedFd,
}

/// What is known of a socket beside the socket.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    named: bool,
    /// The address, as it was written.
    asked: String,
    record: Record,
}

impl ServiceSocket {
    /// Opens a socket at `[NAME=]ADDRESS`, where `ADDRESS` is what
    /// [`Generation::listen`](crate::Generation::listen) takes (`127.0.0.1:80`, `[::1]:80`,
    /// `unix:/path`, `unix:@name`), or the same after `udp:`, or a path or `@name` after
    /// `seqpacket:` or `datagram:`. Relative paths are taken from `dir`. `fd:N` is a socket that this
    /// process was started with; nothing else in it may use that number.
    ///
    /// # Errors
    ///
    /// If the address cannot be read or resolved, or no socket can be opened there.
    pub async fn open(text: &str, options: &SocketOptions, dir: &Path) -> Result<Self, Error> {
        let (kind, text) = kind(text);
        if let Some((name, number)) = numbered(&text) {
            return Self::adopt(name, number);
        }
        let spec = Spec::parse(&text)?;
        let target = Target::resolve(&spec, dir).await?;
        let kind = kind.unwrap_or_else(|| target.stream_kind());
        let asked = text.strip_prefix(&format!("{}=", spec.name));
        let asked = asked.unwrap_or(&text).to_owned();
        let failed = |err| {
            let message = format!("cannot {} {asked}", kind.verb());
            Error::io(Kind::Listen, message, err)
        };
        let how = How {
            kind,
            options,
            beside: false,
        };
        let Opened {
            fd,
            path,
            differences,
        } = open::open(how, &target).map_err(failed)?;
        blocking(&fd).map_err(failed)?;
        for difference in differences {
            tracing::warn!(socket = asked, %difference, "a socket is not as it was asked to be");
        }
        let record = Record {
            address: record::address(&fd).map_err(failed)?.to_string(),
            name: spec.name,
            kind,
            foreign: false,
            path,
            access: options.access(),
        };
        let label = Label {
            named: spec.named,
            asked,
            record,
        };
        Ok(Self { label, fd })
    }

    /// Opens a control socket: nobody but this user and root can connect.
    ///
    /// # Errors
    ///
    /// If it cannot be opened there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{fs, os::unix::fs::PermissionsExt};
    ///
    /// use handover::supervise::ServiceSocket;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("app.control");
    /// let socket = ServiceSocket::control(&path)?;
    /// assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    /// assert_eq!(socket.local_addr()?.as_path(), Some(path.as_path()));
    /// socket.remove_file();
    /// assert!(!path.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub fn control(path: &Path) -> Result<Self, Error> {
        let (record, fd) = control_socket::open_recorded(path)?;
        let label = Label {
            named: true,
            asked: record.address.clone(),
            record,
        };
        Ok(Self { label, fd })
    }

    /// Takes the sockets that another program left this process in its environment: systemd,
    /// einhorn, socketmaster or Server::Starter. Each descriptor may be taken once in the life of
    /// this process; so ask once, and start no [`Generation`](crate::Generation) beside.
    ///
    /// # Errors
    ///
    /// If the environment names what is not there, or is no socket.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), handover::Error> {
    /// use handover::supervise::ServiceSocket;
    ///
    /// for socket in ServiceSocket::inherited()? {
    ///     println!("{} {} at {}", socket.kind(), socket.asked(), socket.address());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn inherited() -> Result<Vec<Self>, Error> {
        let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let found = foreign::parse(|name| std::env::var_os(name), pid, parent)?;
        let names: Vec<_> = found.iter().map(|named| named.name.clone()).collect();
        let adopted = foreign::adopt(found)?.sockets.into_iter();
        let socket = |(record, fd): (Record, OwnedFd)| {
            blocking(&fd).map_err(|err| {
                let message = format!("cannot pass on the socket {}", record.name);
                Error::io(Kind::Inherited, message, err)
            })?;
            let label = Label {
                named: names.iter().flatten().any(|name| *name == record.name),
                asked: record.address.clone(),
                record,
            };
            Ok(Self { label, fd })
        };
        adopted.map(socket).collect()
    }

    fn adopt(name: Option<&str>, number: i32) -> Result<Self, Error> {
        let failed = |why: String| {
            let message = format!("cannot use descriptor {number} as a socket: it {why}");
            Error::new(Kind::Inherited, message)
        };
        let (fd, kind) = sys::adopt(number, record::inspect).map_err(failed)?;
        let address =
            record::address(&fd).map_err(|err| failed(format!("has no address: {err}")))?;
        blocking(&fd).map_err(|err| failed(format!("cannot be made blocking: {err}")))?;
        let address = address.to_string();
        let record = Record {
            name: name.unwrap_or(&address).to_owned(),
            address: address.clone(),
            kind,
            foreign: true,
            path: None,
            access: Default::default(),
        };
        let label = Label {
            named: name.is_some(),
            asked: address,
            record,
        };
        Ok(Self { label, fd })
    }

    /// What is to be known of it in another process, as text, beside its descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{os::fd::AsFd, path::Path};
    ///
    /// use handover::{SocketOptions, supervise::ServiceSocket};
    ///
    /// let here = Path::new(".");
    /// let before = ServiceSocket::open("web=127.0.0.1:0", &SocketOptions::new(), here).await?;
    /// let (label, fd) = (before.label(), before.as_fd().try_clone_to_owned()?);
    ///
    /// // In another process, or after an `exec` of this one.
    /// let after = ServiceSocket::restore(&label, fd)?;
    /// assert_eq!(after.address(), before.address());
    /// assert!(after.is("web=127.0.0.1:0", here).await);
    /// assert_eq!(after.asked(), "127.0.0.1:0");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn label(&self) -> String {
        // Strings, numbers and lists of them: JSON has a form for each.
        serde_json::to_string(&self.label).unwrap_or_default()
    }

    /// Makes it of its [`label`](Self::label) and its descriptor.
    ///
    /// # Errors
    ///
    /// If the label is none, or the descriptor is another kind of socket.
    pub fn restore(label: &str, fd: OwnedFd) -> Result<Self, Error> {
        let failed = |why: String| {
            let message = format!("cannot hold a socket on: {label:?}: {why}");
            Error::new(Kind::Inherited, message)
        };
        let label: Label = serde_json::from_str(label).map_err(|err| failed(err.to_string()))?;
        let kind = record::inspect(fd.as_fd()).map_err(failed)?;
        if kind != label.record.kind {
            return Err(failed(format!("it is a {} socket", kind.word())));
        }
        Ok(Self { label, fd })
    }

    /// Returns true if this socket is what `text` asks for, by name or else by address.
    pub async fn is(&self, text: &str, dir: &Path) -> bool {
        let (wanted, text) = kind(text);
        let Ok(spec) = Spec::parse(&text) else {
            return false;
        };
        if spec.named && self.name() == Some(&spec.name) {
            return true;
        }
        let Ok(target) = Target::resolve(&spec, dir).await else {
            return false;
        };
        let wanted = wanted.unwrap_or_else(|| target.stream_kind());
        wanted == self.label.record.kind
            && record::address(&self.fd).is_ok_and(|bound| target.accepts(&bound))
    }

    /// The name that its user chose.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        Some(self.label.record.name.as_str()).filter(|_| self.label.named)
    }

    /// Its address, as it was asked for.
    #[must_use]
    pub fn asked(&self) -> &str {
        &self.label.asked
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.label.record.address
    }

    /// Where it is bound, as the kernel says it now.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn local_addr(&self) -> io::Result<Address> {
        record::address(&self.fd)
    }

    /// What it is: `tcp`, `udp`, `unix`, `seqpacket`, `datagram`.
    #[must_use]
    pub fn kind(&self) -> String {
        self.label.record.kind.word()
    }

    /// Removes the file of a Unix socket, if this service made it and it is still the same one.
    pub fn remove_file(&self) {
        if let Some(path) = &self.label.record.path {
            path.remove();
        }
    }
}

impl AsFd for ServiceSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Nobody accepts from it here.
fn blocking(fd: &OwnedFd) -> io::Result<()> {
    socket2::SockRef::from(fd).set_nonblocking(false)
}

/// Reads `[NAME=]fd:N`.
fn numbered(text: &str) -> Option<(Option<&str>, i32)> {
    let (name, number) = match text.split_once("=fd:") {
        Some((name, number)) => (Some(name), number),
        None => (None, text.strip_prefix("fd:")?),
    };
    Some((name, number.parse().ok()?))
}

/// Takes the kind out of an address, where it names one.
fn kind(text: &str) -> (Option<SocketKind>, String) {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) if !name.contains([':', '/']) => (Some(name), address),
        _ => (None, text),
    };
    let with_name = |address: String| match name {
        Some(name) => format!("{name}={address}"),
        None => address,
    };
    for (prefix, kind, unix) in [
        ("udp:", SocketKind::Udp, false),
        ("seqpacket:", SocketKind::Seqpacket, true),
        ("datagram:", SocketKind::Datagram, true),
    ] {
        if let Some(rest) = address.strip_prefix(prefix) {
            let scheme = if unix { "unix:" } else { "" };
            return (Some(kind), with_name(format!("{scheme}{rest}")));
        }
    }
    (None, text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    async fn open(text: &str, dir: &Path) -> Result<ServiceSocket, Error> {
        ServiceSocket::open(text, &SocketOptions::new(), dir).await
    }

    #[tokio::test]
    async fn every_kind_is_opened_and_comes_back_by_its_label() {
        let dir = tempfile::tempdir().unwrap();
        for (text, name, kind) in [
            ("127.0.0.1:0", None, "tcp"),
            ("web=[::1]:0", Some("web"), "tcp"),
            ("udp:127.0.0.1:0", None, "udp"),
            ("dns=udp:127.0.0.1:0", Some("dns"), "udp"),
            ("unix:stream", None, "unix"),
            ("a=seqpacket:packets", Some("a"), "seqpacket"),
            ("datagram:grams", None, "datagram"),
        ] {
            let socket = open(text, dir.path()).await.unwrap();
            assert_eq!(
                (socket.name(), socket.kind().as_str()),
                (name, kind),
                "{text}"
            );
            assert!(socket.is(text, dir.path()).await, "{text}");
            assert!(!socket.is("127.0.0.1:1", dir.path()).await, "{text}");
            let (label, address) = (socket.label(), socket.address().to_owned());
            let again = ServiceSocket::restore(&label, socket.fd).unwrap();
            assert_eq!((again.name(), again.address()), (name, address.as_str()));
            again.remove_file();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_asked_for_is_said_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let socket = open("web=localhost:0", dir.path()).await.unwrap();
        assert_eq!(socket.asked(), "localhost:0");
        let err = open("nowhere", dir.path()).await.unwrap_err();
        assert!(err.is_address(), "{err}");
        let err = open("udp:nowhere", dir.path()).await.unwrap_err();
        assert!(err.is_address(), "{err}");
    }

    #[tokio::test]
    async fn a_label_of_another_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (tcp, udp) = ("127.0.0.1:0", "udp:127.0.0.1:0");
        let tcp = open(tcp, dir.path()).await.unwrap();
        let udp = open(udp, dir.path()).await.unwrap();
        let err = ServiceSocket::restore(&tcp.label(), udp.fd).unwrap_err();
        assert!(
            err.is_inherited() && err.to_string().contains("udp"),
            "{err}"
        );
    }

    /// What a shell has opened and names by its number.
    #[tokio::test]
    async fn a_socket_this_process_was_started_with_is_used_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let number = listener.into_raw_fd();
        let socket = open(&format!("web=fd:{number}"), dir.path()).await.unwrap();
        assert_eq!(
            (socket.name(), socket.kind()),
            (Some("web"), "tcp".to_owned())
        );
        assert_eq!((socket.asked(), socket.address()), (&*address, &*address));
        assert!(
            socket.is("web=127.0.0.1:1", dir.path()).await,
            "by its name"
        );
        assert!(socket.is(&address, dir.path()).await, "by its address");
        assert!(!socket.is(&format!("udp:{address}"), dir.path()).await);
        assert!(!socket.is("nowhere", dir.path()).await);
        // A program that inherits it would spin.
        let flags = rustix::fs::fcntl_getfl(&socket).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        // Without a name it has that of its address, which nobody has chosen.
        let unnamed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = unnamed.local_addr().unwrap().to_string();
        let unnamed = format!("fd:{}", unnamed.into_raw_fd());
        let socket = open(&unnamed, dir.path()).await.unwrap();
        assert_eq!((socket.name(), socket.kind()), (None, "udp".to_owned()));
        assert_eq!(socket.local_addr().unwrap().to_string(), address);
    }

    #[tokio::test]
    async fn a_number_that_is_no_socket_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let number = tempfile::tempfile().unwrap().into_raw_fd();
        let err = open(&format!("web=fd:{number}"), dir.path())
            .await
            .unwrap_err();
        assert!(err.is_inherited(), "{err}");
        let text = err.to_string();
        assert!(text.contains(&format!("descriptor {number}")), "{text}");
    }

    #[tokio::test]
    async fn a_label_that_is_none_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let socket = open("127.0.0.1:0", dir.path()).await.unwrap();
        let err = ServiceSocket::restore("{\"named\":", socket.fd).unwrap_err();
        assert!(err.is_inherited(), "{err}");
        assert!(err.to_string().contains("named"), "{err}");
    }

    /// Also the one that was there before: two who answer would each know half.
    #[tokio::test]
    async fn a_control_socket_is_for_its_owner_and_goes_when_it_is_told() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.control");
        let socket = ServiceSocket::control(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(socket.kind(), "unix");
        let err = ServiceSocket::control(&path).unwrap_err();
        assert!(err.is_control(), "{err}");
        drop(socket);
        assert!(path.exists(), "dropped, it is for who restores it");
        // Nobody listens there, so it may be had.
        let socket = ServiceSocket::control(&path).unwrap();
        socket.remove_file();
        assert!(!path.exists());
    }

    #[test]
    fn a_process_that_was_left_nothing_inherits_nothing() {
        let inherited = ServiceSocket::inherited().unwrap();
        assert!(inherited.is_empty(), "{inherited:?}");
    }
}
