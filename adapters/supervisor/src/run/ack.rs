//! einhorn's command socket, as far as its workers use it: one says that it is ready.
//!
//! A message is a line of JSON or, as einhorn's own library writes it, of YAML, in which `%` and line
//! ends are written as `%25` and `%0A`. All else that can be asked for there is asked for at our
//! [control socket](handover::control).

use std::{
    collections::VecDeque,
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc::UnboundedSender,
    task::AbortHandle,
};

/// What the names of our directories begin with.
const PREFIX: &str = "handover-";
/// The name of the socket there.
const NAME: &str = "ack";
/// A directory that is younger may be one in which the socket is about to be opened.
const YOUNG: Duration = Duration::from_secs(60);
/// The longest message.
const LONGEST: u64 = 4096;
/// How many are heard at a time.
const AT_ONCE: usize = 64;

/// The socket and its directory, which go with it. An `exec` drops nothing, so they stay.
#[derive(Debug)]
pub(crate) struct AckSocket {
    listener: OwnedFd,
    path: PathBuf,
}

impl AckSocket {
    /// Opens it in a directory of its own. Any user may connect: who it is tells the kernel.
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_in(&std::env::temp_dir())
    }

    fn open_in(parent: &Path) -> io::Result<Self> {
        sweep(parent, SystemTime::now());
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o711))
            .tempdir_in(parent)?;
        let path = dir.path().join(NAME);
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        let _ = dir.keep();
        let listener = listener.into();
        Ok(Self { listener, path })
    }

    pub(crate) fn restore(path: PathBuf, listener: OwnedFd) -> Self {
        Self { listener, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Hears who is ready, and says so by process id.
    ///
    /// Any user of the machine can connect, and say nothing. So the one that has been heard longest
    /// gives way to the next: who is ready says so at once.
    pub(crate) fn listen(&self, ready: UnboundedSender<u32>) -> io::Result<()> {
        let listener = std::os::unix::net::UnixListener::from(self.listener.try_clone()?);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        tokio::spawn(async move {
            let mut heard: VecDeque<AbortHandle> = VecDeque::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if heard.len() >= AT_ONCE
                            && let Some(oldest) = heard.pop_front()
                        {
                            oldest.abort();
                        }
                        let hearing = tokio::spawn(hear(stream, ready.clone()));
                        heard.push_back(hearing.abort_handle());
                        // So that it is heard before it may have to give way.
                        tokio::task::yield_now().await;
                    }
                    // Out of descriptors, mostly: somebody may close one.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        });
        Ok(())
    }
}

impl Drop for AckSocket {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    if let Some(dir) = path.parent() {
        let _ = fs::remove_dir(dir);
    }
}

/// Removes what supervisors of our user have left that were killed: sockets at which nobody
/// listens.
fn sweep(parent: &Path, now: SystemTime) {
    let ours = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // Not through a link.
        let Ok(meta) = entry.metadata() else { continue };
        let age = meta.modified().map(|then| now.duration_since(then));
        let is_old = matches!(age, Ok(Ok(age)) if age > YOUNG);
        if !meta.is_dir() || meta.uid() != ours || !is_old {
            continue;
        }
        let path = entry.path().join(NAME);
        let is_socket = |meta: fs::Metadata| meta.file_type().is_socket();
        if !fs::symlink_metadata(&path).is_ok_and(is_socket) {
            continue;
        }
        let dead = std::os::unix::net::UnixStream::connect(&path);
        if dead.is_err_and(|err| err.kind() == io::ErrorKind::ConnectionRefused) {
            remove(&path);
        }
    }
}

impl AsFd for AckSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

async fn hear(stream: UnixStream, ready: UnboundedSender<u32>) {
    // Not what it claims: another process could claim it, too.
    let Some(pid) = stream.peer_cred().ok().and_then(|who| who.pid()) else {
        return;
    };
    let mut lines = BufReader::new(stream.take(LONGEST));
    let mut line = String::new();
    while matches!(lines.read_line(&mut line).await, Ok(1..)) {
        if is_ack(&line) {
            let _ = ready.send(pid.cast_unsigned());
        }
        line.clear();
        lines.get_mut().set_limit(LONGEST);
    }
}

/// Returns true if a worker says that it is ready.
fn is_ack(line: &str) -> bool {
    let text = line.trim_end().replace("%0A", "\n").replace("%25", "%");
    let command = match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => value
            .get("command")
            .and_then(|one| one.as_str())
            .map(ToOwned::to_owned),
        Err(_) => text.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            (bare(key).trim_start_matches(':') == "command").then(|| bare(value))
        }),
    };
    command.as_deref() == Some("worker:ack")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn json_and_yaml_are_read() {
        for line in [
            "{\"command\":\"worker:ack\",\"pid\":7}\n",
            "---%0Acommand: worker:ack%0Apid: 7%0A\n",
            "---%0A:command: \"worker:ack\"%0A\n",
        ] {
            assert!(is_ack(line), "{line}");
        }
        for line in [
            "",
            "worker:ack",
            "{\"command\":\"state\"}",
            "{\"command\":7}",
            "a: b",
        ] {
            assert!(!is_ack(line), "{line}");
        }
    }

    #[tokio::test]
    async fn who_acks_is_known_by_the_kernel() {
        let socket = AckSocket::open().unwrap();
        let (send, mut ready) = tokio::sync::mpsc::unbounded_channel();
        socket.listen(send).unwrap();
        let mut stream = UnixStream::connect(socket.path()).await.unwrap();
        stream
            .write_all(b"{\"command\":\"worker:ack\",\"pid\":1}\n")
            .await
            .unwrap();
        assert_eq!(ready.recv().await, Some(std::process::id()));
        let dir = socket.path().parent().unwrap().to_owned();
        drop(socket);
        assert!(!dir.exists());
    }

    #[test]
    fn what_killed_supervisors_have_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let open = || AckSocket::open_in(parent.path()).unwrap();
        let (alive, killed) = (open(), open());
        // As a kill does it: the socket is closed, and its file stays.
        let left = killed.path().parent().unwrap().to_owned();
        fs::rename(&left, left.with_extension("kept")).unwrap();
        let left = left.with_extension("kept");
        drop(killed);
        let other = parent.path().join("handover-notes");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(NAME), "").unwrap();
        sweep(parent.path(), SystemTime::now());
        assert!(left.exists(), "it is young");
        sweep(parent.path(), SystemTime::now() + 2 * YOUNG);
        assert!(!left.exists());
        assert!(alive.path().exists() && other.join(NAME).exists());
    }

    /// Fails if who connects and says nothing takes descriptors without end, or the place of one that
    /// is ready.
    #[tokio::test]
    async fn who_says_nothing_gives_way() {
        let socket = AckSocket::open().unwrap();
        let (send, mut ready) = tokio::sync::mpsc::unbounded_channel();
        socket.listen(send).unwrap();
        let mut silent = Vec::new();
        // The first of each lot says something: silent ones are there before it, and come after it.
        for number in 0..3 * AT_ONCE {
            let mut stream = UnixStream::connect(socket.path()).await.unwrap();
            if number % AT_ONCE == 0 {
                let ack = b"{\"command\":\"worker:ack\"}\n";
                stream.write_all(ack).await.unwrap();
            }
            silent.push(stream);
        }
        for _ in 0..3 {
            let heard = tokio::time::timeout(std::time::Duration::from_secs(20), ready.recv());
            assert_eq!(heard.await.unwrap(), Some(std::process::id()));
        }
        for gone in &mut silent[..AT_ONCE] {
            let mut byte = [0];
            let read = gone.read(&mut byte);
            let read = tokio::time::timeout(std::time::Duration::from_secs(20), read).await;
            assert_eq!(read.expect("it gives way").unwrap(), 0);
        }
    }
}
