//! Descriptors that survive an `exec` of this process by itself.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::{
    error::{Error, Kind},
    sys,
};

/// The numbers are this process's own, so they are taken once in its life.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Descriptors that are not closed by an `exec`, as long as this lives.
///
/// Nothing else may be started meanwhile, or it gets them too.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{net::TcpListener, os::fd::{AsFd, AsRawFd}, os::unix::process::CommandExt, process::Command};
///
/// use handover::supervise::Keeping;
///
/// let socket = TcpListener::bind("127.0.0.1:0")?;
/// let keeping = Keeping::new([socket.as_fd()])?;
/// let value = keeping.value();
/// assert!(value.ends_with(&format!(":{}", socket.as_raw_fd())));
/// // The new program gives the variable to `kept`. This returns only if there is none.
/// let failed = Command::new("/no/such/program").env("APP_KEPT", value).exec();
/// println!("{failed}");
/// drop(keeping);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "they are close-on-exec again once it is dropped"]
pub struct Keeping<'a> {
    fds: Vec<BorrowedFd<'a>>,
}

impl<'a> Keeping<'a> {
    /// Lets these through.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; then none is let through.
    pub fn new(fds: impl IntoIterator<Item = BorrowedFd<'a>>) -> std::io::Result<Self> {
        let mut keeping = Self { fds: Vec::new() };
        for fd in fds {
            let flags = fcntl_getfd(fd)?;
            fcntl_setfd(fd, flags - FdFlags::CLOEXEC)?;
            keeping.fds.push(fd);
        }
        Ok(keeping)
    }

    /// What the program after the `exec` is to give to [`kept`].
    #[must_use]
    pub fn value(&self) -> String {
        let numbers = self.fds.iter().map(|fd| fd.as_raw_fd().to_string());
        let numbers: Vec<_> = numbers.collect();
        format!("1:{}:{}", std::process::id(), numbers.join(","))
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        for fd in &self.fds {
            // It could be cleared, so it can be set.
            let _ = fcntl_getfd(fd).and_then(|flags| fcntl_setfd(fd, flags | FdFlags::CLOEXEC));
        }
    }
}

/// Takes what this process kept over an `exec`, in the order in which it was given. `value` is
/// [`Keeping::value`]; `None` if it is another process's, which has passed its environment on.
///
/// # Errors
///
/// If the value is garbage, names what is not there, or is used a second time.
///
/// # Examples
///
/// ```
/// use handover::supervise::kept;
///
/// assert!(kept("1:1:3".as_ref()).is_ok_and(|kept| kept.is_none()), "another process's");
/// assert!(kept("three".as_ref()).is_err());
/// ```
pub fn kept(value: &OsStr) -> Result<Option<Vec<OwnedFd>>, Error> {
    let bad = |why: &str| {
        let message = format!("cannot take what was kept over an exec: {value:?}: {why}");
        Error::new(Kind::Inherited, message)
    };
    let text = value.to_str().ok_or_else(|| bad("it is not UTF-8"))?;
    let mut parts = text.splitn(3, ':');
    let (version, pid, numbers) = (parts.next(), parts.next(), parts.next());
    let (Some("1"), Some(pid), Some(numbers)) = (version, pid, numbers) else {
        return Err(bad("it is not 1:pid:descriptors"));
    };
    let pid: u32 = pid.parse().map_err(|_| bad("it names no process"))?;
    if pid != std::process::id() {
        return Ok(None);
    }
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(bad("it was taken before"));
    }
    let mut fds: Vec<OwnedFd> = Vec::new();
    for number in numbers.split(',').filter(|number| !number.is_empty()) {
        let number: i32 = number
            .parse()
            .map_err(|_| bad(&format!("{number:?} is no descriptor")))?;
        if fds.iter().any(|fd| fd.as_fd().as_raw_fd() == number) {
            return Err(bad(&format!("descriptor {number} twice")));
        }
        let (fd, ()) = sys::adopt(number, |_| Ok(()))
            .map_err(|why| bad(&format!("descriptor {number} {why}")))?;
        fds.push(fd);
    }
    Ok(Some(fds))
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn what_was_kept_is_taken_once_and_only_by_its_process() {
        for value in ["", "1", "1:x:3", "2:1:3", "1:1"] {
            assert!(
                kept(OsStr::new(value)).unwrap_err().is_inherited(),
                "{value}"
            );
        }
        assert!(kept(OsStr::new("1:1:3")).unwrap().is_none());

        let file = tempfile::tempfile().unwrap();
        let cloexec = |fd: BorrowedFd<'_>| fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC);
        let keeping = Keeping::new([file.as_fd()]).unwrap();
        assert!(!cloexec(file.as_fd()));
        let value = keeping.value();
        drop(keeping);
        assert!(cloexec(file.as_fd()), "no exec, no leak");

        // As exec does: the number stays, its owner does not.
        let number = file.into_raw_fd();
        let fds = kept(OsStr::new(&value)).unwrap().unwrap();
        assert_eq!(fds[0].as_raw_fd(), number);
        assert!(cloexec(fds[0].as_fd()));
        let err = kept(OsStr::new(&value)).unwrap_err();
        assert!(err.to_string().contains("before"), "{err}");
    }
}
