//! The successor's side of an upgrade: what the predecessor left, received at the start.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{
    channel::{self, Received},
    frame::{self, Decoded, Hello, Message, Older},
    spawn::VARIABLE,
};
use crate::{
    error::{Error, Kind, OPEN_FILES},
    fault, kernel,
    sockets::record::Record,
    state::State,
    sys,
};

/// How long the predecessor may take to send everything. It does so as soon as we are started.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a process may take to die: its memory is given back first.
const DYING: Duration = Duration::from_secs(5);
/// Why a predecessor's channel is not taken that ought to be.
const SILENT: &str = "says nothing";

/// What a predecessor left.
#[derive(Debug)]
pub(crate) struct Heritage {
    pub(crate) channel: OwnedFd,
    /// Its process id.
    pub(crate) predecessor: u32,
    /// The number of our generation.
    pub(crate) generation: u64,
    pub(crate) sockets: Vec<(Record, OwnedFd)>,
    pub(crate) states: HashMap<String, State>,
    /// With their versions.
    pub(crate) streams: HashMap<String, (u32, OwnedFd)>,
    /// The predecessor died before it had sent everything.
    pub(crate) orphaned: bool,
    /// The real standard error, and the reading end of the pipe that stands in for it.
    pub(crate) stderr: Option<(OwnedFd, OwnedFd)>,
    /// The generations before us, with the channels to them.
    pub(crate) older: Vec<(Older, OwnedFd)>,
    /// Nothing was left: this process is a check.
    pub(crate) check: bool,
    /// The predecessor is a process of a supervisor.
    pub(crate) supervised: bool,
}

/// Takes what a predecessor left, if there is one. `value` is the variable's.
///
/// A channel that is somebody else's is left alone: the variable is inherited by all that a
/// generation starts, and so is, where a program is careless, the descriptor.
///
/// # Errors
///
/// If the variable is garbage, or the predecessor sends nonsense or too slowly.
pub(crate) fn receive(value: &OsStr) -> Result<Option<Heritage>, Error> {
    let (number, pid) = parse(value)?;
    let deadline = Instant::now() + LIMIT;
    let checked = sys::adopt(number, |fd| is_ours(fd, pid, deadline));
    let (channel, ()) = match checked {
        Ok(adopted) => adopted,
        Err(why) if why == SILENT => {
            let message = format!(
                "process {pid} has started this one as its successor, and {why}; it may be stopped"
            );
            return Err(Error::new(Kind::Channel, message));
        }
        Err(why) => {
            tracing::debug!(
                descriptor = number,
                why,
                "{VARIABLE} is not meant for this process"
            );
            return Ok(None);
        }
    };
    collect(channel, deadline).map(Some)
}

/// Takes what comes over a channel that is known to be meant for us.
///
/// # Errors
///
/// If the predecessor sends nonsense or too slowly.
pub(crate) fn of(channel: OwnedFd) -> Result<Heritage, Error> {
    collect(channel, Instant::now() + LIMIT)
}

/// Reads `1:<descriptor>:<pid>`.
pub(crate) fn parse(value: &OsStr) -> Result<(i32, u32), Error> {
    let bad = || {
        let message = format!("{VARIABLE}={value:?} is not 1:descriptor:pid; unset it");
        Error::new(Kind::Inherited, message)
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<_> = value.to_str().ok_or_else(bad)?.split(':').collect();
    match parts[..] {
        ["1", number, pid] if digits(number) && digits(pid) => Ok((
            number.parse().map_err(|_| bad())?,
            pid.parse().map_err(|_| bad())?,
        )),
        _ => Err(bad()),
    }
}

/// Whether `fd` is a channel from `pid` to this process. Takes nothing out of it.
fn is_ours(fd: BorrowedFd<'_>, pid: u32, deadline: Instant) -> Result<(), String> {
    let failed = |err| format!("is not a channel: {err}");
    let domain = kernel::domain(fd).map_err(failed)?;
    let kind = sockopt::socket_type(fd).map_err(failed)?;
    if (domain, kind) != (AddressFamily::UNIX, SocketType::SEQPACKET) {
        return Err("is another kind of socket".to_owned());
    }
    let peer = kernel::peer_pid(fd).map_err(|err| format!("is not a channel: {err}"))?;
    if peer != pid {
        return Err(format!("was made by process {peer}"));
    }
    let hello = match channel::peek_until(fd, deadline) {
        Ok(hello) => hello,
        // A stopped predecessor still has the sockets, the pid file and the clients. A channel that
        // is another's has been read by that other.
        Err(err)
            if err.kind() == io::ErrorKind::TimedOut
                && std::os::unix::process::parent_id() == pid =>
        {
            return Err(SILENT.to_owned());
        }
        Err(err) => return Err(format!("says nothing: {err}")),
    };
    match hello.map(|received| received.message) {
        Some(Decoded::Known(Message::Hello(hello))) if hello.successor == std::process::id() => {
            Ok(())
        }
        Some(Decoded::Known(Message::Hello(hello))) => {
            Err(format!("is for process {}", hello.successor))
        }
        Some(other) => Err(format!("begins with {other:?}")),
        // The predecessor died before it had sent anything, so nothing is inherited.
        None => {
            wait_for_the_end_of(pid);
            Err("has ended".to_owned())
        }
    }
}

/// Waits until a predecessor that dies is dead. Its channel may be closed before its listeners are,
/// and what it has not handed over is still in use until then.
fn wait_for_the_end_of(pid: u32) {
    let Some(process) = kernel::process(pid) else {
        return;
    };
    let _ = channel::wait_until(process.as_fd(), Instant::now() + DYING);
}

fn collect(channel: OwnedFd, deadline: Instant) -> Result<Heritage, Error> {
    let failed = |err: io::Error| {
        let message = "the predecessor did not hand over what it should have";
        Error::io(Kind::Channel, message, err)
    };
    let invalid = |what: &str| failed(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut heritage = Heritage {
        channel,
        predecessor: 0,
        generation: 1,
        sockets: Vec::new(),
        states: HashMap::new(),
        streams: HashMap::new(),
        stderr: None,
        older: Vec::new(),
        check: false,
        supervised: false,
        orphaned: false,
    };
    // Invariant: a blob is complete, and only then takes the place of what was there.
    let mut pieces: HashMap<String, Vec<u8>> = HashMap::new();
    let mut bytes = vec![0; frame::FRAME];
    let result = loop {
        let received = match channel::recv_until(heritage.channel.as_fd(), &mut bytes, deadline) {
            Ok(Some(received)) => received,
            Ok(None) => {
                // The heir takes what has arrived, and can bind the rest: nobody holds it any more.
                tracing::warn!(
                    predecessor = heritage.predecessor,
                    "the predecessor died while it handed over"
                );
                heritage.orphaned = true;
                wait_for_the_end_of(heritage.predecessor);
                break Ok(());
            }
            Err(err) => break Err(failed(err)),
        };
        let Received {
            message,
            payload,
            fds,
            fds_lost,
        } = received;
        if fds_lost {
            break Err(invalid(&format!(
                "this process may not have as many open files as there are sockets: {OPEN_FILES}"
            )));
        }
        match message {
            Decoded::Known(Message::Hello(Hello {
                predecessor,
                generation,
                check,
                supervised,
                ..
            })) => {
                heritage.predecessor = predecessor;
                heritage.generation = generation;
                heritage.check = check;
                heritage.supervised = supervised;
                fault::reached("hello-received");
            }
            Decoded::Known(Message::Sockets { sockets }) => {
                if sockets.len() != fds.len() {
                    break Err(invalid("sockets without their descriptors"));
                }
                heritage.sockets.extend(sockets.into_iter().zip(fds));
                fault::reached("sockets-received");
            }
            Decoded::Known(Message::Older { generations }) => {
                heritage.older.extend(generations.into_iter().zip(fds));
            }
            Decoded::Known(Message::Stderr) => {
                let mut fds = fds.into_iter();
                heritage.stderr = fds.next().zip(fds.next());
            }
            Decoded::Known(Message::State {
                name,
                last,
                version,
            }) => {
                let mut blob = pieces.remove(&name).unwrap_or_default();
                blob.extend(payload);
                if last {
                    heritage.states.insert(name, State::new(version, blob));
                } else {
                    pieces.insert(name, blob);
                }
                fault::reached("state-received");
            }
            Decoded::Known(Message::Stream { name, version }) => {
                let Some(fd) = fds.into_iter().next() else {
                    break Err(invalid("a stream without its descriptor"));
                };
                heritage.streams.insert(name, (version, fd));
            }
            Decoded::Known(Message::Start) => break Ok(()),
            Decoded::Known(other) => tracing::debug!(?other, "not expected now, ignored"),
            Decoded::Unknown(what) => {
                let _ = channel::try_send(heritage.channel.as_fd(), &Message::Unknown { what });
            }
        }
    };
    let answer = match &result {
        Ok(()) => Message::Starting {
            version: frame::VERSION,
        },
        Err(err) => Message::Failed {
            message: err.chain(),
        },
    };
    // A predecessor that has gone is noticed when we are ready.
    let _ = channel::try_send(heritage.channel.as_fd(), &answer);
    fault::reached("starting-sent");
    result.map(|()| heritage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_read_strictly() {
        assert_eq!(parse(OsStr::new("1:3:77")).unwrap(), (3, 77));
        for value in [
            "",
            "1",
            "1:3",
            "2:3:77",
            "1:-3:77",
            "1:+3:77",
            "1:3:77:",
            "1: 3:77",
            "x:y:z",
            "1:99999999999:1",
            "1:3:99999999999",
        ] {
            let err = parse(OsStr::new(value)).unwrap_err();
            assert!(err.is_inherited(), "{value}");
            let text = err.to_string();
            assert!(text.contains(VARIABLE) && text.contains(value), "{text}");
        }
    }

    #[test]
    fn what_is_meant_for_another_is_left_alone() {
        use std::os::fd::AsRawFd;

        let file = tempfile::tempfile().unwrap();
        let (left, right) = channel::pair().unwrap();
        let us = std::process::id();
        let hello = Hello {
            version: 1,
            predecessor: us,
            successor: us + 1,
            generation: 1,
            ready_timeout_ms: 0,
            sockets: 0,
            states: 0,
            check: false,
            supervised: false,
        };
        channel::try_send(left.as_fd(), &Message::Hello(hello)).unwrap();
        for value in [
            "1:999999:1".to_owned(),
            "1:0:1".to_owned(),
            format!("1:{}:{us}", file.as_raw_fd()),
            format!("1:{}:{}", right.as_raw_fd(), us + 1),
            format!("1:{}:{us}", right.as_raw_fd()),
        ] {
            assert!(receive(OsStr::new(&value)).unwrap().is_none(), "{value}");
        }
        let (gone, ended) = channel::pair().unwrap();
        drop(gone);
        let value = format!("1:{}:{us}", ended.as_raw_fd());
        assert!(
            receive(OsStr::new(&value)).unwrap().is_none(),
            "nothing was inherited"
        );
        let deadline = Instant::now() + LIMIT;
        let left_there = channel::recv_until(right.as_fd(), &mut vec![0; frame::FRAME], deadline)
            .unwrap()
            .unwrap();
        assert!(matches!(
            left_there.message,
            Decoded::Known(Message::Hello(_))
        ));
    }
}
