//! One HTTP/1.1 connection, seen from the client.
//!
//! Invariants:
//!
//! 1. A byte of an answer that was read and not consumed is in `buffer`: after a
//!    complete answer it is empty, or the server sent what nobody asked for.
//! 2. A connection on which anything was lost is not used again; the caller
//!    drops it.

use std::{io, task::Poll, time::Duration};

use bytes::{Buf, BytesMut};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    chunked::Chunked,
    failure::{Failure, Loss},
    target::{Io, Target},
};

/// An answer's head must fit into this many bytes.
const HEAD_MAX: usize = 64 * 1024;
/// How much is read at once.
const READ: usize = 16 * 1024;

/// What a last look at an idle connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Look {
    /// Nothing happened since the last answer.
    Open,
    /// The server closed or reset it.
    Closed,
    /// The server sent bytes that belong to no request.
    Unasked,
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Whether this is the last answer on its connection.
    pub close: bool,
    /// The process that answered, by `x-pid`.
    pub pid: Option<u32>,
    /// The generation that answered, by `x-generation`.
    pub generation: Option<u64>,
    framing: Framing,
}

impl Head {
    /// The first value of the header `name`, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum Framing {
    /// So many bytes.
    Length(u64),
    Chunked,
    /// Up to the end of the connection.
    #[default]
    ToEnd,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    buffer: BytesMut,
    answers: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Failure::ConnectRefused`] or [`Failure::ConnectOther`].
    pub async fn open(target: &Target) -> Result<Self, Loss> {
        let io = target
            .connect()
            .await
            .map_err(|error| Loss::connect(&error))?;
        Ok(Self {
            io,
            buffer: BytesMut::new(),
            answers: 0,
        })
    }

    /// Whether it has had an answer before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.answers > 0
    }

    /// The socket.
    #[must_use]
    pub fn get_ref(&self) -> &Io {
        &self.io
    }

    /// Looks at the connection, as a client does before it sends a request on it. Takes no time, and
    /// reads nothing that is an answer.
    pub async fn last_look(&mut self) -> Look {
        loop {
            if !self.buffer.is_empty() {
                return Look::Unasked;
            }
            let mut byte = [0_u8; 1];
            match recv(&self.io, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Look::Closed,
                // A session ticket, a goodbye, or an answer: who has the keys knows.
                Ok(_) if matches!(self.io, Io::Tls(_)) => {
                    if self.read_what_is_there().await.is_err() {
                        return Look::Closed;
                    }
                }
                Ok(_) => return Look::Unasked,
                Err(Errno::AGAIN | Errno::INTR) => return Look::Open,
                Err(_) => return Look::Closed,
            }
        }
    }

    /// Reads without waiting for more than has come. An end is an error.
    async fn read_what_is_there(&mut self) -> io::Result<()> {
        self.io.readable().await?;
        let mut read = std::pin::pin!(self.read());
        let polled = std::future::poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
        match polled {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(read) => read.map(drop),
            Poll::Pending => Ok(()),
        }
    }

    /// Sends a request, or a piece of one.
    ///
    /// # Errors
    ///
    /// The `*_reset` class that fits, if the server has reset the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Loss> {
        self.io
            .write_all(bytes)
            .await
            .map_err(|error| self.unanswered(true, format!("while sending: {error}")))
    }

    /// Reads an answer; each piece of its body goes to `body`.
    ///
    /// Any status is an answer here: the caller says which one is right.
    ///
    /// # Errors
    ///
    /// The class that fits what ended the connection; [`Failure::BadStatus`] if the answer is not
    /// HTTP/1.1, [`Failure::BadBody`] if its body is not framed correctly.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: drop the connection if this future was dropped.
    pub async fn receive(&mut self, mut body: impl FnMut(&[u8])) -> Result<Head, Loss> {
        let head = loop {
            let head = self.head().await?;
            // An interim answer precedes the real one.
            if head.status >= 200 || head.status == 101 {
                break head;
            }
        };
        match head.framing {
            Framing::Length(length) => self.body_of_length(length, &mut body).await?,
            Framing::Chunked => self.body_in_chunks(&mut body).await?,
            Framing::ToEnd => self.body_to_end(&mut body).await?,
        }
        self.answers += 1;
        Ok(head)
    }

    async fn head(&mut self) -> Result<Head, Loss> {
        loop {
            if let Some((head, len)) = parse_head(&self.buffer)? {
                self.buffer.advance(len);
                return Ok(head);
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(Loss::new(
                    Failure::BadStatus,
                    "the head of the answer has no end",
                ));
            }
            let begun = !self.buffer.is_empty();
            let lost = match self.read().await {
                Ok(0) => (false, "the connection ended".to_owned()),
                Ok(_) => continue,
                Err(error) => (true, error.to_string()),
            };
            return Err(if begun {
                Loss::new(Failure::Truncated, format!("in the head: {}", lost.1))
            } else {
                self.unanswered(lost.0, lost.1)
            });
        }
    }

    async fn body_of_length(
        &mut self,
        length: u64,
        body: &mut impl FnMut(&[u8]),
    ) -> Result<(), Loss> {
        let mut left = length;
        loop {
            let here = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            body(&self.buffer[..here]);
            self.buffer.advance(here);
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            self.more(|| format!("{left} of {length} bytes missing"))
                .await?;
        }
    }

    async fn body_in_chunks(&mut self, body: &mut impl FnMut(&[u8])) -> Result<(), Loss> {
        let mut chunked = Chunked::default();
        loop {
            let taken = chunked
                .decode(&self.buffer, &mut *body)
                .map_err(|_| Loss::new(Failure::BadBody, "not in chunked coding"))?;
            self.buffer.advance(taken);
            if chunked.is_done() {
                return Ok(());
            }
            self.more(|| "the last chunk is missing".to_owned()).await?;
        }
    }

    async fn body_to_end(&mut self, body: &mut impl FnMut(&[u8])) -> Result<(), Loss> {
        loop {
            body(&self.buffer);
            self.buffer.clear();
            match self.read().await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(Loss::new(Failure::Truncated, error.to_string())),
            }
        }
    }

    /// Reads more of a body that is not complete.
    async fn more(&mut self, missing: impl Fn() -> String) -> Result<(), Loss> {
        match self.read().await {
            Ok(0) => Err(Loss::new(Failure::Truncated, missing())),
            Ok(_) => Ok(()),
            Err(error) => Err(Loss::new(
                Failure::Truncated,
                format!("{error}, {}", missing()),
            )),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ);
        self.io.read_buf(&mut self.buffer).await
    }

    fn unanswered(&self, reset: bool, detail: String) -> Loss {
        Loss::new(Failure::unanswered(self.is_reused(), reset), detail)
    }

    /// Waits until the server has closed the connection, for at most `limit`. Returns false if it
    /// has not. Bytes that come meanwhile are dropped.
    pub async fn closed(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, async {
            while !matches!(self.read().await, Ok(0) | Err(_)) {
                self.buffer.clear();
            }
        })
        .await
        .is_ok()
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Loss> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let len = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => {
            return Err(Loss::new(
                Failure::BadStatus,
                format!("no HTTP answer: {error}"),
            ));
        }
    };
    let mut head = Head {
        status: answer.code.unwrap_or(0),
        ..Head::default()
    };
    // HTTP/1.0 closes unless it says otherwise; none of our servers speaks it.
    head.close = answer.version == Some(0);
    let bodiless = head.status < 200 || matches!(head.status, 204 | 304);
    let (mut length, mut chunked) = (None, false);
    for header in answer.headers.iter() {
        let name = header.name.to_ascii_lowercase();
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        let lists = |word: &str| {
            value
                .split(',')
                .any(|v| v.trim().eq_ignore_ascii_case(word))
        };
        match name.as_str() {
            "connection" => head.close |= lists("close"),
            "transfer-encoding" => chunked |= lists("chunked"),
            "content-length" => {
                length = Some(value.parse().map_err(|_| {
                    Loss::new(Failure::BadBody, format!("content-length is {value:?}"))
                })?);
            }
            "x-pid" => head.pid = value.parse().ok(),
            "x-generation" => head.generation = value.parse().ok(),
            _ => {}
        }
        head.headers.push((name, value));
    }
    head.framing = match (bodiless, chunked, length) {
        (true, _, _) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (_, _, Some(length)) => Framing::Length(length),
        (_, _, None) => {
            head.close = true;
            Framing::ToEnd
        }
    };
    Ok(Some((head, len)))
}
