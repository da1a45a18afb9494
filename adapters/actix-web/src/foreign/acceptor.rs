//! Whether actix's accept thread accepts, as the kernel sees it.
//!
//! A pause returns when the thread has been told of it; on a busy machine it may accept for a while
//! yet. What it has done is seen in the epoll instance on which it waits: once our listeners are not
//! among what that waits for, all that the thread has accepted is in the queues of its workers. (Nor
//! are they for the half second in which it gets over having found no descriptor left for a connection.)

use std::{
    fs::{self, File},
    io::{Read, Seek},
    os::fd::RawFd,
    path::Path,
    time::Duration,
};

use tokio::time::sleep;

/// For how long a pause may take to be heard of, where the kernel does not tell of it: without
/// `/proc`, or where that does not say what an epoll instance waits for.
const SETTLE: Duration = Duration::from_millis(2);

/// How often to look.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Acceptor {
    /// As actix has them: an epoll instance names what it waits for by number.
    listeners: Vec<RawFd>,
    // Kept open, so that it can be read where the process has no descriptor left.
    waits_for: Option<File>,
}

impl Acceptor {
    pub(super) fn of(listeners: Vec<RawFd>) -> Self {
        Self {
            listeners,
            waits_for: None,
        }
    }

    /// Looks for it, until it has begun to accept. Gives up where the kernel does not tell. Cancel safe.
    pub(super) async fn found(&mut self) {
        loop {
            let mut tells = false;
            for instance in epoll_instances() {
                let watched = watched(&instance);
                tells |= !watched.is_empty();
                if self.listeners.iter().all(|fd| watched.contains(fd)) {
                    self.waits_for = Some(instance);
                    return;
                }
            }
            if !tells {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until it has accepted the last connection; it was told to pause. Cancel safe.
    pub(super) async fn paused(&self) {
        self.until(|is_watched| !is_watched).await;
    }

    /// Waits until it accepts again, as it was told to: else the pause before would be taken for the
    /// next one. Cancel safe.
    pub(super) async fn resumed(&self) {
        self.until(|is_watched| is_watched).await;
    }

    /// Waits until all listeners are, or are not, waited for.
    async fn until(&self, mut is: impl FnMut(bool) -> bool) {
        let Some(waits_for) = &self.waits_for else {
            return sleep(SETTLE).await;
        };
        loop {
            let watched = watched(waits_for);
            if self.listeners.iter().all(|fd| is(watched.contains(fd))) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// What the kernel says of each that this process has.
fn epoll_instances() -> impl Iterator<Item = File> {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten();
    descriptors.filter_map(|descriptor| {
        let descriptor = descriptor.ok()?;
        let is = fs::read_link(descriptor.path()).ok()?;
        let info = Path::new("/proc/self/fdinfo").join(descriptor.file_name());
        (is == Path::new("anon_inode:[eventpoll]")).then(|| File::open(info).ok())?
    })
}

/// What an epoll instance waits for.
fn watched(mut instance: &File) -> Vec<RawFd> {
    let mut text = String::new();
    let read = instance.rewind();
    // What cannot be read says nothing.
    let _ = read.and_then(|()| instance.read_to_string(&mut text));
    let lines = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
    let numbers = lines.filter_map(|line| line.split_whitespace().next());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{AsRawFd, OwnedFd},
    };

    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
    use tokio::time::{Instant, timeout};

    use super::*;

    const LONG: Duration = Duration::from_millis(20);

    /// What an accept thread does.
    fn accept(instance: &OwnedFd, listener: &TcpListener) {
        epoll::add(instance, listener, EventData::new_u64(1), EventFlags::IN).unwrap();
    }

    async fn is_paused(acceptor: &Acceptor) -> bool {
        timeout(LONG, acceptor.paused()).await.is_ok()
    }

    async fn is_resumed(acceptor: &Acceptor) -> bool {
        timeout(LONG, acceptor.resumed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_paused_once_no_listener_is_waited_for_and_resumed_once_all_are() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let instance = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let mut acceptor = Acceptor::of(listeners.iter().map(AsRawFd::as_raw_fd).collect());
        accept(&instance, &listeners[0]);
        assert!(timeout(LONG, acceptor.found()).await.is_err());
        accept(&instance, &listeners[1]);
        assert!(timeout(LONG, acceptor.found()).await.is_ok());
        assert!(!is_paused(&acceptor).await);
        epoll::delete(&instance, &listeners[0]).unwrap();
        assert!(!is_paused(&acceptor).await);
        epoll::delete(&instance, &listeners[1]).unwrap();
        assert!(is_paused(&acceptor).await);
        assert!(!is_resumed(&acceptor).await);
        accept(&instance, &listeners[1]);
        assert!(!is_resumed(&acceptor).await);
        accept(&instance, &listeners[0]);
        assert!(is_resumed(&acceptor).await);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_kernel_does_not_tell_it_has_a_moment() {
        let acceptor = Acceptor::of(vec![0]);
        let began = Instant::now();
        acceptor.paused().await;
        assert!(began.elapsed() >= SETTLE && began.elapsed() < 2 * SETTLE);
    }
}
