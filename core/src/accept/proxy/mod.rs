//! The PROXY protocol: behind a load balancer, the address of the client itself.
//!
//! # Invariants
//!
//! 1. A header is read in a task of its own: a peer that sends none delays nobody else.
//! 2. Nothing is taken of what follows a header; what was read where there was none is read again.
//! 3. Each connection holds the drain open from the kernel's queue on: its task has a holder, which
//!    is let go of only in the poll that returns the connection, and the loop that polls holds the
//!    drain open itself.
//! 4. What has been taken from the kernel's queue is returned, or closed for what it has sent or not
//!    sent in time; also in a drain, whose leftovers these are. Where the service ends, the socket
//!    is closed before they are waited for, so that nobody new waits behind them.

mod header;
mod network;
mod reading;
mod stream;

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use self::{
    reading::{Half, Read, Rules},
    stream::Below,
};
use super::{Accept, Address, Arrival, Connection, Mover, Protocol};
use crate::{Graceful, Phase, Stays};

#[cfg(all(unix, feature = "process", any(fuzzing, test)))]
pub(crate) use self::header::{Scan, read as read_header, scan};
pub use self::{
    network::{Network, NotANetwork},
    stream::ProxyStream,
};

/// How long a header may take. It is sent with the connection, so this is for a lost packet.
const TIME: Duration = Duration::from_secs(5);
/// The longest header, by default: addresses, and what balancers say beside them.
const LONGEST: usize = 4096;
/// What one connection may say to another generation is bounded.
const LONGEST_EVER: usize = 16 * 1024;
/// How many headers are read at a time. Beyond that connections wait in the kernel's queue.
const AT_ONCE: usize = 1024;
/// How often it is said that connections are refused.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// Whether a connection begins with a header.
///
/// # Examples
///
/// ```
/// use handover::accept::ProxyPolicy;
///
/// /// What the program's configuration may say.
/// fn policy(text: &str) -> Option<ProxyPolicy> {
///     match text {
///         "require" => Some(ProxyPolicy::Require),
///         "optional" => Some(ProxyPolicy::Optional),
///         "off" => Some(ProxyPolicy::Off),
///         _ => None,
///     }
/// }
///
/// assert_eq!(policy("require"), Some(ProxyPolicy::default()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyPolicy {
    /// It does. One without is closed.
    #[default]
    Require,
    /// It may. Whoever reaches the socket can then say that it is anybody, unless only balancers are
    /// [trusted](ProxyProtocol::trusting).
    Optional,
    /// It does not, and none is looked for: for a program that may be told so.
    Off,
}

/// A listener behind a load balancer that speaks the PROXY protocol, version 1 or 2.
///
/// Each connection comes out when its header has been read, and the header's client is its peer: in
/// [`Connection::peer`], and so in `ConnectInfo`, in logs, in the list of holders and in the status.
/// What else the header said, and the balancer's own address, is in [`Connection::proxied`], which
/// requests have among their extensions. All of that goes along when a connection moves to the next
/// generation.
///
/// | the connection | what becomes of it |
/// |---|---|
/// | `PROXY`, over TCP | its peer is the client that the header names |
/// | `UNKNOWN`, or over something else than TCP | its peer is the socket's, which is the balancer |
/// | `LOCAL`: the balancer's own look whether this server is well | its peer is the socket's, and nothing is `proxied` |
/// | no header | refused, or passed on: see [`ProxyPolicy`] |
/// | a header that is broken, too long, or not there in time | closed, and logged; nobody else notices |
/// | its header had come in part when a drain began | read on; it holds the drain open, up to the deadline |
///
/// It goes around a generation's listener or any other, and inside TLS: first comes the header, then
/// the handshake.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::{Generation, accept::ProxyProtocol};
///
/// let generation = Generation::start()?;
/// let listener = generation.listen("0.0.0.0:3000").await?;
/// let listener = ProxyProtocol::new(listener, &generation.graceful())
///     .trusting(["10.1.0.0/16".parse()?]);
/// // Serve on it as on the listener itself.
/// # Ok(())
/// # }
/// ```
pub struct ProxyProtocol<A: Accept> {
    // Until the service ends, and nothing more is to come.
    listener: Option<A>,
    local: Option<Address>,
    graceful: Graceful,
    rules: Rules,
    trusted: Option<Vec<Network>>,
    reading: JoinSet<Option<Read<A::Io>>>,
}

impl<A: Accept> ProxyProtocol<A> {
    /// Requires a header of each connection. They hold the drain of `graceful` open while their
    /// headers are read.
    pub fn new(listener: A, graceful: &Graceful) -> Self {
        Self {
            local: listener.local_addr().ok(),
            listener: Some(listener),
            graceful: graceful.clone(),
            rules: Rules {
                policy: ProxyPolicy::default(),
                time: TIME,
                longest: LONGEST,
            },
            trusted: None,
            reading: JoinSet::new(),
        }
    }

    /// Whether connections begin with a header. They do by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    ///
    /// use handover::{Graceful, accept::{ProxyPolicy, ProxyProtocol}};
    /// use tokio::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let listener = ProxyProtocol::new(listener, &Graceful::new())
    ///     // Behind the balancer, but also asked by a probe that knows nothing of it.
    ///     .policy(ProxyPolicy::Optional)
    ///     .trusting([[10, 1, 0, 7].into()].map(|ip: std::net::IpAddr| ip.into()))
    ///     .time_limit(Duration::from_secs(2))
    ///     .longest_header(1024);
    /// assert!(listener.get_ref().is_some());
    /// let below = listener.into_inner();
    /// assert!(below.is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn policy(mut self, policy: ProxyPolicy) -> Self {
        self.rules.policy = policy;
        self
    }

    /// Believes only these balancers. By default anybody who reaches the socket is believed.
    ///
    /// Of anybody else no header is read: where one is [required](ProxyPolicy::Require) the
    /// connection is closed, and otherwise passed on as it is. Who connects over a Unix socket is
    /// trusted: its mode says who may.
    #[must_use]
    pub fn trusting(mut self, balancers: impl IntoIterator<Item = Network>) -> Self {
        self.trusted = Some(balancers.into_iter().collect());
        self
    }

    /// How long a header may take from `accept` on. Default 5 s.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.rules.time = limit;
        self
    }

    /// How many bytes the longest header may have, at most 16 KiB. Default 4 KiB.
    #[must_use]
    pub fn longest_header(mut self, bytes: usize) -> Self {
        self.rules.longest = bytes.min(LONGEST_EVER);
        self
    }

    /// The listener below; `None` once the service ends and nothing more is accepted.
    pub fn get_ref(&self) -> Option<&A> {
        self.listener.as_ref()
    }

    /// The listener, as [`get_ref`](Self::get_ref) has it. Headers that have half arrived go with
    /// their connections.
    pub fn into_inner(self) -> Option<A> {
        self.listener
    }

    fn trusts(&self, peer: &Address) -> bool {
        match (&self.trusted, peer.ip()) {
            (Some(trusted), Some(ip)) => trusted.iter().any(|network| network.contains(ip)),
            _ => true,
        }
    }

    /// Begins to read a header; returns what needs none.
    fn begin(&mut self, io: A::Io, peer: Address) -> Option<(ProxyStream<A::Io>, Address)> {
        match self.rules.policy {
            ProxyPolicy::Off => return Some((ProxyStream::new(io, Vec::new(), None), peer)),
            _ if self.trusts(&peer) => {}
            ProxyPolicy::Optional => return Some((ProxyStream::new(io, Vec::new(), None), peer)),
            ProxyPolicy::Require => {
                refused(&peer, "it is not trusted to send one");
                return None;
            }
        }
        let half = Half::new(&peer);
        // Without a holder the drain is over.
        let holder = self.graceful.hold_as(half.clone())?;
        self.reading
            .spawn(reading::read(io, peer, self.rules, half, holder));
        None
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<(ProxyStream<A::Io>, Address)> {
        while let Poll::Ready(Some(read)) = self.reading.poll_join_next(cx) {
            // An error is a task that has panicked.
            if let Ok(Some(mut read)) = read {
                // The loop that polls holds the drain open.
                read.holder = None;
                return Poll::Ready((read.io, read.peer));
            }
        }
        Poll::Pending
    }

    /// Whether the service ends: no successor has the socket.
    fn ends(&self) -> bool {
        self.graceful.phase() >= Phase::Draining && self.graceful.is_stopping()
    }
}

/// Says why a connection is closed, and not too often.
fn refused(peer: &Address, why: &str) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    tracing::debug!(%peer, why, "a connection is closed for its PROXY header");
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
        *said = Some(Instant::now());
        tracing::warn!(%peer, why, "connections are closed for their PROXY headers, such as this one");
    }
}

impl<A: Accept> Accept for ProxyProtocol<A> {
    type Io = ProxyStream<A::Io>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Address)>> {
        loop {
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(Ok(read));
            }
            if self.reading.len() >= AT_ONCE {
                return Poll::Pending;
            }
            let accepted = match &mut self.listener {
                Some(listener) => std::task::ready!(listener.poll_accept(cx)),
                None => return Poll::Pending,
            };
            let (io, peer) = accepted?;
            if let Some(accepted) = self.begin(io, peer) {
                return Poll::Ready(Ok(accepted));
            }
        }
    }

    fn poll_leftover(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(Self::Io, Address)>>> {
        loop {
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(Some(Ok(read)));
            }
            let left = match &mut self.listener {
                Some(listener) => listener.poll_leftover(cx),
                None => Poll::Ready(None),
            };
            match left {
                Poll::Ready(Some(Ok((io, peer)))) => {
                    if let Some(accepted) = self.begin(io, peer) {
                        return Poll::Ready(Some(Ok(accepted)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    if self.ends() {
                        self.listener = None;
                    }
                    if self.reading.is_empty() {
                        return Poll::Ready(None);
                    }
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn introduce(&self, io: &mut Self::Io, connection: &Arc<Connection>) {
        if let Some(said) = io.proxied() {
            connection.set_proxied(said.clone());
        }
        if let Some(listener) = &self.listener {
            listener.introduce(io.get_mut(), connection);
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        match (&self.listener, &self.local) {
            (Some(listener), _) => listener.local_addr(),
            (None, Some(local)) => Ok(local.clone()),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn poll_adopt(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<Self::Io>> {
        let Some(listener) = &mut self.listener else {
            return Poll::Pending;
        };
        let arrival = std::task::ready!(listener.poll_adopt(cx));
        // Whoever gives it has read its header.
        let plain = |io| ProxyStream::new(io, Vec::new(), None);
        Poll::Ready(arrival.map(plain, ProxyStream::get_ref))
    }

    fn adopts(&self, protocols: &[Protocol]) {
        if let Some(listener) = &self.listener {
            listener.adopts(protocols);
        }
    }

    fn mover(&self) -> Option<Arc<dyn Mover<Self::Io>>> {
        let mover = self.listener.as_ref()?.mover()?;
        Some(Arc::new(Below(mover)))
    }

    fn stays(&self) -> Stays {
        let listener = self.listener.as_ref();
        listener.map_or(Stays::Listener, Accept::stays)
    }
}

impl<A: Accept> fmt::Debug for ProxyProtocol<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyProtocol")
            .field("local", &self.local)
            .field("rules", &self.rules)
            .field("reading", &self.reading.len())
            .finish_non_exhaustive()
    }
}
