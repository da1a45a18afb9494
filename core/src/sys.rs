//! What the kernel asks for and safe Rust has no word for: the one file with unsafe code.
#![allow(unsafe_code)]

use std::{
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    os::unix::process::CommandExt,
    process::Command,
};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes a descriptor that this process was started with, and makes it close-on-exec.
///
/// The caller vouches that the environment gave this number to this process, and takes each number
/// once: that is what makes it ours. The standard streams are refused, for they are std's. `check`
/// sees the descriptor before it is owned, so that what turns out to be something else (a stale
/// variable, and the number has another use by now) is not closed.
///
/// # Errors
///
/// What `check` returns, or why the number cannot be taken, in words.
pub(crate) fn adopt<T>(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<T, String>,
) -> Result<(OwnedFd, T), String> {
    match number {
        ..0 => return Err("is not a descriptor".to_owned()),
        0..3 => return Err("is a standard stream".to_owned()),
        _ => {}
    }
    // SAFETY: the borrow ends before the number is owned below, and of a number that is not open
    // the only use made is the system call that says so. It is not -1, which a `BorrowedFd` must
    // not be.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed).map_err(|_| "is not open".to_owned())?;
    let checked = check(borrowed)?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).map_err(|err| format!("fails: {err}"))?;
    // SAFETY: the descriptor is open and is what the environment promised. Nothing in this process
    // opened it, and callers take each number at most once, so nothing else will close it.
    Ok((unsafe { OwnedFd::from_raw_fd(number) }, checked))
}

/// Lets one descriptor through the `exec` of `command`, under its number here.
///
/// The flag is cleared in the child, between fork and exec: in this process the descriptor stays
/// close-on-exec, so that nothing else that is started at the same time gets it.
pub(crate) fn inherit(command: &mut Command, fd: OwnedFd) {
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes one
    // fcntl system call, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || Ok(fcntl_setfd(&fd, FdFlags::empty())?));
    }
}
