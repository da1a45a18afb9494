//! What is known of one connection, readable from any thread while it is served.
//!
//! # Invariants
//!
//! 1. Only the task that serves the connection writes; anybody reads.
//! 2. The request line is written under a sequence number that is odd while a write is under way.
//!    A reader who sees an odd number, or another one after than before, has read a mix and says
//!    nothing of the line. No lock and no locked instruction is on the writer's path.

use std::{
    any::Any,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::Instant;

use super::{Address, Protocol, Proxied};
use crate::{
    Graceful, Traffic,
    guard::Holder,
    holder::{Describe, Holding, Kind},
    traffic::Counters,
};

// Words of the request line that are kept: enough to tell which request it is.
const LINE_WORDS: usize = 8;
/// The longest [`Connection::trace_context`], in bytes: many times what tracers write.
const TRACE_CONTEXT: usize = 512;

/// The facts of one connection: who, since when, doing what.
///
/// Serve loops make one for each connection they accept, keep it up to date, and put it into the
/// extensions of its requests.
///
/// # Examples
///
/// ```
/// use std::task::Poll;
///
/// use handover::{Connection, Graceful, Kind};
///
/// let graceful = Graceful::new();
/// let connection = Connection::new("10.0.0.3:51234".parse()?);
/// let holder = connection.hold(&graceful).expect("the drain is not over");
/// assert_eq!(connection.kind(), Kind::Fresh);
///
/// // What a serve loop says as it goes along.
/// connection.count_received(78);
/// connection.begin_request("GET", "/export");
/// connection.count_sent(&Poll::Ready(Ok(1024)));
///
/// // What anybody may ask, and what is listed.
/// assert_eq!((connection.kind(), connection.requests()), (Kind::Request, 1));
/// assert_eq!((connection.traffic().received, connection.traffic().sent), (78, 1024));
/// assert_eq!(graceful.holders()[0].what.as_deref(), Some("GET /export"));
///
/// connection.set_kind(Kind::Idle);
/// drop(holder);
/// assert!(graceful.holders().is_empty());
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    peer: Address,
    since: Instant,
    kind: AtomicU8,
    ended_well: AtomicBool,
    requests: AtomicU32,
    line: Line,
    traffic: Counters,
    // Shared by all that it has accepted.
    listener: OnceLock<Arc<str>>,
    // Who has said so of its peer, if not the kernel.
    proxied: OnceLock<Arc<Proxied>>,
    // How long it took, in milliseconds; 0 if there was none, or it is not done.
    handshake: AtomicU32,
    facts: OnceLock<Box<dyn Any + Send + Sync>>,
    trace_context: OnceLock<Box<str>>,
}

impl Connection {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(peer: Address) -> Arc<Self> {
        Self::adopted(peer, Duration::ZERO, 0)
    }

    /// A connection that a predecessor accepted this long ago, and that has sent so many requests.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use handover::{Connection, Kind};
    ///
    /// let (age, requests) = (Duration::from_secs(60), 12);
    /// let connection = Connection::adopted("10.0.0.3:51234".parse()?, age, requests);
    /// assert_eq!((connection.kind(), connection.requests()), (Kind::Idle, 12));
    /// assert!(connection.since().elapsed() >= age);
    ///
    /// // No balancer has spoken for its client, and no listener of this process has accepted it.
    /// assert_eq!(connection.socket_peer(), connection.peer());
    /// assert!(connection.proxied().is_none() && connection.listener().is_none());
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn adopted(peer: Address, age: Duration, requests: u32) -> Arc<Self> {
        let now = Instant::now();
        let kind = if requests == 0 {
            Kind::Fresh
        } else {
            Kind::Idle
        };
        Arc::new(Self {
            peer,
            since: now.checked_sub(age).unwrap_or(now),
            kind: AtomicU8::new(kind as u8),
            ended_well: AtomicBool::new(false),
            requests: AtomicU32::new(requests),
            line: Line::default(),
            traffic: Counters::default(),
            listener: OnceLock::new(),
            proxied: OnceLock::new(),
            handshake: AtomicU32::new(0),
            facts: OnceLock::new(),
            trace_context: OnceLock::new(),
        })
    }

    /// Holds the drain open for this connection, which is listed until the holder is dropped;
    /// `None` once the drain is over.
    #[must_use]
    pub fn hold(self: &Arc<Self>, graceful: &Graceful) -> Option<Holder> {
        graceful.hold_as(self.clone())
    }

    /// Where it comes from: its client, also behind a balancer that speaks the PROXY protocol.
    #[must_use]
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Where its socket comes from: a balancer, if one has told of a client.
    #[must_use]
    pub fn socket_peer(&self) -> &Address {
        self.proxied().map_or(&self.peer, Proxied::balancer)
    }

    /// What a balancer has said of it by the PROXY protocol.
    #[must_use]
    pub fn proxied(&self) -> Option<&Proxied> {
        self.proxied.get().map(|said| &**said)
    }

    /// Its peer was told by a balancer, who has said this.
    #[cfg(any(feature = "proxy-protocol", all(unix, feature = "process")))]
    pub(crate) fn set_proxied(&self, said: Arc<Proxied>) {
        // By one wrapper only, before anybody reads it.
        let _ = self.proxied.set(said);
    }

    /// Where it was accepted, once that is known.
    #[must_use]
    pub fn listener(&self) -> Option<&str> {
        self.listener.get().map(|listener| &**listener)
    }

    /// Says where it was accepted. The first to say so is the only one.
    pub(crate) fn set_listener(&self, listener: &Arc<str>) {
        let _ = self.listener.set(listener.clone());
    }

    /// What has passed over it, since this process has it.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.look()
    }

    /// Says that so many bytes have come from the peer; 0 is nothing. For serve loops: by one task at
    /// a time.
    #[inline]
    pub fn count_received(&self, bytes: usize) {
        self.traffic.received(bytes);
    }

    /// Counts the bytes that a write has taken, if it has. For serve loops: by one task at a time.
    #[inline]
    pub fn count_sent(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.traffic.sent(*bytes);
        }
    }

    /// When it was accepted.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What it is doing.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::from_u8(self.kind.load(Ordering::Relaxed))
    }

    /// Says what it is doing. For serve loops.
    #[inline]
    pub fn set_kind(&self, kind: Kind) {
        self.kind.store(kind as u8, Ordering::Relaxed);
    }

    /// Says that what was spoken over it has come to its end, as a WebSocket does by its closing
    /// handshake: nothing more is to be sent, and nothing is missing.
    ///
    /// IO that was [introduced](super::Accept::introduce) and has words of its own for that says them
    /// when it is dropped: TLS its close_notify, without which a client has to take an end for a
    /// truncation.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::Connection;
    ///
    /// let connection = Connection::new("10.0.0.3:51234".parse()?);
    /// assert!(!connection.has_ended_well());
    /// connection.end_well();
    /// assert!(connection.has_ended_well());
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn end_well(&self) {
        self.ended_well.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has said [so](Self::end_well).
    #[must_use]
    pub fn has_ended_well(&self) -> bool {
        self.ended_well.load(Ordering::Relaxed)
    }

    /// Says that its TLS handshake is done: nothing has arrived yet. For IO that was
    /// [introduced](super::Accept::introduce).
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Connection, Kind};
    ///
    /// let connection = Connection::new("10.0.0.3:51234".parse()?);
    /// connection.set_kind(Kind::Handshake);
    /// assert!(connection.shook_hands().is_none());
    /// connection.end_handshake();
    /// assert_eq!(connection.kind(), Kind::Fresh);
    /// assert!(connection.shook_hands().is_some_and(|at| at >= connection.since()));
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn end_handshake(&self) {
        let took = u32::try_from(self.since.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.handshake.store(took.max(1), Ordering::Relaxed);
        self.set_kind(Kind::Fresh);
    }

    /// When its TLS handshake was done, to the millisecond; `None` if there was none, or it is not.
    #[must_use]
    pub fn shook_hands(&self) -> Option<Instant> {
        match self.handshake.load(Ordering::Relaxed) {
            0 => None,
            took => self.since.checked_add(Duration::from_millis(took.into())),
        }
    }

    /// What its IO has told of it: for a TLS connection, what was agreed in the handshake. `None` if
    /// there is nothing of this type, or not yet.
    #[must_use]
    pub fn facts<T: Any>(&self) -> Option<&T> {
        self.facts.get()?.downcast_ref()
    }

    /// Tells something of it, for [`facts`](Self::facts). For IO that was
    /// [introduced](super::Accept::introduce); the first to tell something is the only one.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::Connection;
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Agreed {
    ///     alpn: &'static str,
    /// }
    ///
    /// let connection = Connection::new("10.0.0.3:51234".parse()?);
    /// connection.set_facts(Agreed { alpn: "h2" });
    /// assert_eq!(connection.facts::<Agreed>().map(|agreed| agreed.alpn), Some("h2"));
    /// assert_eq!(connection.facts::<String>(), None);
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn set_facts<T: Any + Send + Sync>(&self, facts: T) {
        let _ = self.facts.set(Box::new(facts));
    }

    /// The context of the span that the application has for it, if it has
    /// [told](Self::set_trace_context) one, in this process or in one before.
    #[must_use]
    pub fn trace_context(&self) -> Option<&str> {
        self.trace_context.get().map(|context| &**context)
    }

    /// Tells the context of the span that the application has for this connection, for
    /// [`trace_context`](Self::trace_context). It goes along when the connection moves: no span
    /// outlives its process, but the next one's can have the same parent, or a link to it.
    ///
    /// That is the value of a `traceparent` header (W3C Trace Context, section 3.2), or whatever else
    /// the application's tracer reads, of at most 512 bytes. The first one stays: returns false if
    /// there is one, or this one is too long.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::Connection;
    ///
    /// let span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// let connection = Connection::new("10.0.0.3:51234".parse()?);
    /// assert!(connection.set_trace_context(span));
    /// assert!(!connection.set_trace_context("another"), "the first one stays");
    /// assert_eq!(connection.trace_context(), Some(span));
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn set_trace_context(&self, context: &str) -> bool {
        context.len() <= TRACE_CONTEXT && self.trace_context.set(context.into()).is_ok()
    }

    /// Says that it has left HTTP, and for what. For serve loops.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover::{Connection, Kind, accept::Protocol};
    ///
    /// let connection = Connection::new("10.0.0.3:51234".parse()?);
    /// connection.begin_request("GET", "/chat");
    /// connection.upgrade(Protocol::new("chat", 1));
    /// assert_eq!(connection.kind(), Kind::Upgraded);
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn upgrade(&self, protocol: Protocol) {
        self.line.write(&[protocol.name()]);
        self.set_kind(Kind::Upgraded);
    }

    /// Says that it has become a WebSocket, by this request. A serve loop that tells the requests has
    /// told it already.
    #[cfg(not(loom))]
    pub(crate) fn become_websocket(&self, request: Option<&str>) {
        if let (None, Some(request)) = (self.line.read(), request) {
            self.line.write(&[request]);
        }
        self.set_kind(Kind::WebSocket);
    }

    /// How many requests it has sent.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Says that a request has begun. For serve loops. A path too long is cut short.
    pub fn begin_request(&self, method: &str, path: &str) {
        let requests = self.requests.load(Ordering::Relaxed).wrapping_add(1);
        self.requests.store(requests, Ordering::Relaxed);
        self.line.write(&[method, " ", path]);
        self.set_kind(Kind::Request);
    }
}

impl Describe for Connection {
    fn describe(&self) -> Holding {
        let kind = self.kind();
        let tells = kind == Kind::Request || kind.is_upgraded();
        let traffic = self.traffic();
        // Our own loops count from the first byte on. Under another nobody may, which is not silence.
        let is_counted = self.listener().is_some() || traffic.quiet.is_some();
        Holding {
            what: if tells { self.line.read() } else { None },
            peer: Some(self.peer.to_string()),
            listener: self.listener().map(str::to_owned),
            traffic: is_counted.then_some(traffic),
            ..Holding::new(kind, self.since.elapsed())
        }
    }

    fn kind(&self) -> Kind {
        self.kind()
    }
}

#[derive(Debug, Default)]
struct Line {
    sequence: AtomicU32,
    words: [AtomicU64; LINE_WORDS],
}

impl Line {
    fn write(&self, parts: &[&str]) {
        let mut bytes = [0_u8; LINE_WORDS * 8];
        let mut used = 0;
        for part in parts {
            let n = part.len().min(bytes.len() - used);
            bytes[used..used + n].copy_from_slice(&part.as_bytes()[..n]);
            used += n;
        }
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Readers who see a new word see the odd number too.
        fence(Ordering::Release);
        // A word of zeros ends the line, so what lies behind it need not be cleared.
        let words = (used + 1).div_ceil(8).min(LINE_WORDS);
        for (word, bytes) in self.words.iter().zip(bytes.as_chunks::<8>().0).take(words) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    fn read(&self) -> Option<String> {
        let before = self.sequence.load(Ordering::Acquire);
        let mut bytes = Vec::with_capacity(LINE_WORDS * 8);
        for word in &self.words {
            bytes.extend(word.load(Ordering::Relaxed).to_le_bytes());
        }
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        if before != after || before % 2 == 1 {
            return None;
        }
        let end = bytes.iter().position(|byte| *byte == 0);
        let text = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
        match (end, text.is_empty()) {
            (_, true) => None,
            (None, _) => Some(format!("{text}…")),
            (Some(_), _) => Some(text.into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_it_was_written() {
        let line = Line::default();
        assert_eq!(line.read(), None);
        line.write(&["GET", " ", "/a/rather/long/path/that/still/fits?with=query"]);
        let long = "GET /a/rather/long/path/that/still/fits?with=query";
        assert_eq!(line.read().as_deref(), Some(long));
        line.write(&["POST", " ", "/"]);
        assert_eq!(line.read().as_deref(), Some("POST /"));
        line.write(&["GET", " ", &"/x".repeat(100)]);
        let cut = line.read().unwrap();
        assert!(cut.starts_with("GET /x/x") && cut.ends_with('…'), "{cut}");
        for length in 0..80 {
            line.write(&["M", " ", &"p".repeat(length)]);
            let read = line.read().unwrap();
            let shown = length.min(LINE_WORDS * 8 - 2);
            assert_eq!(read.trim_end_matches('…').len(), shown + 2, "{length}");
        }
    }

    #[test]
    fn facts_are_found_by_their_type() {
        let connection = Connection::new(Address::Unix(None));
        assert_eq!(connection.facts::<u32>(), None);
        connection.set_facts(7_u32);
        connection.set_facts("later");
        assert_eq!(connection.facts(), Some(&7_u32));
        assert_eq!(connection.facts::<&str>(), None);
    }

    #[test]
    fn the_first_trace_context_stays() {
        let connection = Connection::new(Address::Unix(None));
        assert!(!connection.set_trace_context(&"x".repeat(TRACE_CONTEXT + 1)));
        assert_eq!(connection.trace_context(), None);
        assert!(connection.set_trace_context("00-1-2-01"));
        assert!(!connection.set_trace_context("00-3-4-01"));
        assert_eq!(connection.trace_context(), Some("00-1-2-01"));
    }

    #[test]
    fn a_line_that_is_being_written_is_never_read_as_a_mix() {
        let line = Arc::new(Line::default());
        let writer = std::thread::spawn({
            let line = line.clone();
            move || {
                for i in 0..200_000 {
                    let path = if i % 2 == 0 {
                        "aaaaaaaaaaaaaaaaaaaa"
                    } else {
                        "bbbbbbbbbbbbbbbbbbbb"
                    };
                    line.write(&["GET", " ", path]);
                }
            }
        });
        while !writer.is_finished() {
            if let Some(read) = line.read() {
                let path = read.trim_start_matches("GET ");
                let first = &path[..1];
                assert!(path.matches(first).count() == path.len(), "{read}");
            }
        }
        writer.join().unwrap();
    }
}
