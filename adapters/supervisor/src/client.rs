//! Speaks to a control socket, and waits for what it says.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use handover::control::{Event, Refusal, Request};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Error;

/// No event is as long as this, so what is no service is known.
const LONGEST_EVENT: usize = 16 * 1024 * 1024;
/// Between two tries, when another generation serves by the time that the request arrives.
const AGAIN: Duration = Duration::from_millis(20);

/// Asks the service behind a control socket. It blocks.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use handover::control::Request;
/// use handover_supervisor::Client;
///
/// let client = Client::new("/run/no-such-service.control");
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let error = client.ask(&Request::Status, deadline).unwrap_err();
/// assert!(error.is_unreachable());
/// assert!(error.to_string().contains(&client.path().display().to_string()), "{error}");
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Of the service whose control socket is at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of the control socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for something. If the generation that answers has just handed over, its successor is
    /// asked.
    ///
    /// # Errors
    ///
    /// If nobody can be asked, or does not begin to answer by the deadline.
    pub fn ask(&self, request: &Request, deadline: Instant) -> Result<Events, Error> {
        loop {
            let mut events = self.ask_once(request, deadline)?;
            let first = events.read()?;
            let superseded = matches!(
                &first,
                Some(Event::Refused {
                    kind: Refusal::Superseded,
                    ..
                })
            );
            if !superseded || Instant::now() + AGAIN >= deadline {
                events.first = first;
                return Ok(events);
            }
            thread::sleep(AGAIN);
        }
    }

    fn ask_once(&self, request: &Request, deadline: Instant) -> Result<Events, Error> {
        let mut stream = connect(&self.path, deadline)?;
        // A service that has no room for us has said so already, and does not read.
        let _ = stream.write_all(request.to_line().as_bytes());
        Ok(Events {
            stream,
            deadline,
            bytes: Vec::new(),
            searched: 0,
            first: None,
            ended: false,
        })
    }
}

fn connect(path: &Path, deadline: Instant) -> Result<UnixStream, Error> {
    let unreachable = |err| Error::unreachable(path, err);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(unreachable)?;
    // It is the limit of connect as well, which waits while the service's queue is full.
    let left = left(deadline)?;
    socket.set_write_timeout(Some(left)).map_err(unreachable)?;
    let address = SockAddr::unix(path).map_err(unreachable)?;
    match socket.connect(&address) {
        Ok(()) => Ok(socket.into()),
        Err(err) if err.kind() == ErrorKind::WouldBlock => Err(Error::timed_out()),
        Err(err) => Err(unreachable(err)),
    }
}

fn left(deadline: Instant) -> Result<Duration, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Zero would mean for ever.
    if left < Duration::from_millis(1) {
        return Err(Error::timed_out());
    }
    Ok(left)
}

/// The lines of an answer, as they come. The last of them is the outcome.
///
/// # Examples
///
/// ```
/// use handover::control::Event;
/// use handover_supervisor::{Error, Events};
///
/// /// Follows an upgrade to its outcome.
/// fn follow(events: Events) -> Result<bool, Error> {
///     for event in events {
///         match event? {
///             Event::Initialising { text, .. } => println!("{text}"),
///             Event::Serving { .. } => return Ok(true),
///             Event::Failed { message, .. } | Event::Refused { message, .. } => println!("{message}"),
///             _ => {}
///         }
///     }
///     Ok(false)
/// }
/// ```
#[derive(Debug)]
#[must_use = "the outcome is in the last event"]
pub struct Events {
    stream: UnixStream,
    deadline: Instant,
    bytes: Vec<u8>,
    /// How much of `bytes` holds no line end.
    searched: usize,
    /// Read ahead.
    first: Option<Event>,
    ended: bool,
}

impl Events {
    fn read(&mut self) -> Result<Option<Event>, Error> {
        if self.ended {
            return Ok(None);
        }
        let event = self.line().and_then(|line| {
            Event::from_line(&line).map_err(|err| {
                Error::lost(format!("what listens there is no service: {err}"), None)
            })
        });
        self.ended = event.as_ref().map_or(true, Event::is_last);
        event.map(Some)
    }

    fn line(&mut self) -> Result<String, Error> {
        loop {
            let rest = &self.bytes[self.searched..];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.bytes, rest);
                self.searched = 0;
                return String::from_utf8(line).map_err(|err| {
                    Error::lost(format!("what listens there is no service: {err}"), None)
                });
            }
            self.searched = self.bytes.len();
            if self.searched > LONGEST_EVENT {
                let message = "what listens there is no service: it sends a line without an end";
                return Err(Error::lost(message, None));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), Error> {
        let ended = "the service has gone without telling an outcome";
        let mut some = [0; 8192];
        let left = left(self.deadline)?;
        let read = self
            .stream
            .set_read_timeout(Some(left))
            .and_then(|()| self.stream.read(&mut some));
        match read {
            Ok(0) => Err(Error::lost(ended, None)),
            Ok(read) => {
                self.bytes.extend_from_slice(&some[..read]);
                Ok(())
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => Ok(()),
            Err(err) if is_timeout(&err) => Err(Error::timed_out()),
            Err(err) => Err(Error::lost(ended, Some(err))),
        }
    }
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Iterator for Events {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.first.take() {
            Some(event) => Some(Ok(event)),
            None => self.read().transpose(),
        }
    }
}
