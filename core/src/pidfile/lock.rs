//! The lock by which a pid file's process is known to live.
//!
//! `flock(2)` is permitted to whoever may read a file, and a pid file is for everybody to read. So on Linux
//! what counts is a write lock of the open file, which takes the right to write. Both belong to the open
//! file and not to the process: they go along through an `exec`, and with a descriptor that is inherited.

use std::{fs::File, io};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Locks a file that nobody else can have opened yet. Also by `flock`, since scripts ask by that.
pub(super) fn hold(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    #[cfg(target_os = "linux")]
    {
        use nix::{fcntl, libc};
        fcntl::fcntl(file, fcntl::F_OFD_SETLK(&whole(libc::F_WRLCK)))?;
    }
    Ok(())
}

/// Whether a process lives whose file this is. `number` is what is in it.
///
/// On Linux a lock that only who may write it can have says so. Other programs have `flock` alone:
/// theirs counts if the process of this number is root's or our user's, who are the ones to write
/// such a file.
#[cfg(target_os = "linux")]
pub(super) fn is_held(file: &File, number: Option<u32>) -> io::Result<bool> {
    use nix::{fcntl, libc};
    // A read lock is in the way of write locks alone.
    let mut lock = whole(libc::F_RDLCK);
    fcntl::fcntl(file, fcntl::F_OFD_GETLK(&mut lock))?;
    if i32::from(lock.l_type) != libc::F_UNLCK {
        return Ok(true);
    }
    // Ours is one that died and had our number, as in a container.
    let other = number.filter(|number| *number != std::process::id());
    Ok(other.is_some_and(is_trusted) && has_flock(file)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_held(file: &File, _: Option<u32>) -> io::Result<bool> {
    has_flock(file)
}

fn has_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => flock(file, FlockOperation::Unlock)?,
        Err(Errno::WOULDBLOCK) => return Ok(true),
        Err(err) => return Err(err.into()),
    }
    Ok(false)
}

/// Whether a process lives and was started by root or our user. By its real user: the owner of
/// its directory is root for every process that does not let itself be traced.
#[cfg(target_os = "linux")]
fn is_trusted(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let user = user.and_then(|users| users.split_whitespace().next()?.parse().ok());
    user.is_some_and(|user: u32| user == 0 || user == rustix::process::geteuid().as_raw())
}

#[cfg(target_os = "linux")]
pub(super) fn whole(kind: i32) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        // Must be 0: the lock is the open file's.
        l_pid: 0,
    }
}
