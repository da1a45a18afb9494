//! Behind a load balancer: who a connection is from, and that nobody can keep others waiting.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use handover::{
    Accept, Address, Connection, Graceful, Kind, Phase, Reason, Stays,
    accept::{
        Arrival, Departures, Giving, Mover, Parcel, Protocol, ProxyPolicy, ProxyProtocol,
        ProxyStream,
    },
};
use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// For what must happen and has no time of its own.
const BOUND: Duration = Duration::from_secs(20);
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(200);
const LINE: &str = "PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n";
const CLIENT: &str = "203.0.113.9:51234";

type Proxy = ProxyProtocol<TcpListener>;

async fn listen() -> (Proxy, SocketAddr, Graceful) {
    let graceful = Graceful::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (ProxyProtocol::new(listener, &graceful), at, graceful)
}

async fn send(at: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut io = TcpStream::connect(at).await.unwrap();
    io.write_all(bytes.as_ref()).await.unwrap();
    io
}

async fn accept(proxy: &mut Proxy) -> (ProxyStream<TcpStream>, Arc<Connection>) {
    let accepted = timeout(BOUND, poll_fn(|cx| proxy.poll_accept(cx)));
    let (mut io, peer) = accepted.await.expect("a connection").unwrap();
    let connection = Connection::new(peer);
    proxy.introduce(&mut io, &connection);
    (io, connection)
}

/// Nothing comes, while the listener is polled.
async fn nothing(proxy: &mut Proxy) {
    let accepted = timeout(SHORT, poll_fn(|cx| proxy.poll_accept(cx))).await;
    assert!(accepted.is_err(), "{accepted:?}");
}

/// The server has closed it.
async fn closed(mut io: TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(BOUND, io.read_to_end(&mut rest)).await;
    // A reset, where something lay unread.
    let _ = read.expect("the connection is open");
    assert!(rest.is_empty());
}

async fn read(io: &mut ProxyStream<TcpStream>, length: usize) -> String {
    let mut bytes = vec![0; length];
    timeout(BOUND, io.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

fn text(address: &Address) -> String {
    address.to_string()
}

#[tokio::test]
async fn a_line_tells_the_client_and_no_more_is_taken() {
    let (mut proxy, at, _) = listen().await;
    let client = send(at, format!("{LINE}GET / HTTP/1.1\r\n")).await;
    let (mut io, connection) = accept(&mut proxy).await;
    assert_eq!(text(connection.peer()), CLIENT);
    let balancer = client.local_addr().unwrap().to_string();
    assert_eq!(text(connection.socket_peer()), balancer);
    let said = connection.proxied().unwrap();
    assert_eq!(text(said.balancer()), balancer);
    assert_eq!(said.destination().map(text).unwrap(), "192.0.2.1:443");
    // All of it is still in the kernel.
    let mut rest = [0; 64];
    let n = io.get_mut().read(&mut rest).await.unwrap();
    assert_eq!(&rest[..n], b"GET / HTTP/1.1\r\n");
}

#[tokio::test]
async fn version_2_tells_more() {
    let (mut proxy, at, _) = listen().await;
    let ssl = Tlv::Custom(0x20, b"\x01\0\0\0\0".as_slice().into());
    let tlvs = [
        Tlv::Authority("example.org".into()),
        Tlv::Alpn(b"h2".as_slice().into()),
        Tlv::UniqueId(b"4711".as_slice().into()),
        ssl,
    ];
    let address = ProxiedAddress::stream(
        "[2001:db8::9]:51234".parse().unwrap(),
        "[2001:db8::1]:443".parse().unwrap(),
    );
    let mut header = Vec::new();
    ProxyHeader::with_tlvs(Some(address), tlvs)
        .encode_v2(&mut header)
        .unwrap();
    header.extend_from_slice(b"hello");
    // However it comes.
    for cut in [1, 12, 15, 16, 40, header.len() - 6, header.len()] {
        let mut client = send(at, &header[..cut]).await;
        if cut < header.len() - 5 {
            nothing(&mut proxy).await;
        }
        client.write_all(&header[cut..]).await.unwrap();
        let (mut io, connection) = accept(&mut proxy).await;
        assert_eq!(text(connection.peer()), "[2001:db8::9]:51234");
        let said = connection.proxied().unwrap();
        assert_eq!(said.authority(), Some("example.org"));
        assert_eq!(said.alpn(), Some(&b"h2"[..]));
        assert_eq!(said.unique_id(), Some(&b"4711"[..]));
        assert!(said.is_tls());
        assert_eq!(read(&mut io, 5).await, "hello");
    }
}

#[tokio::test]
async fn a_balancer_may_speak_for_itself() {
    let (mut proxy, at, _) = listen().await;
    let mut local = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut local).unwrap();
    let client = send(at, [&local[..], b"hello"].concat()).await;
    let (mut io, connection) = accept(&mut proxy).await;
    assert_eq!(
        text(connection.peer()),
        client.local_addr().unwrap().to_string()
    );
    assert!(connection.proxied().is_none());
    assert_eq!(read(&mut io, 5).await, "hello");
    // Nor does it know whose this is.
    let client = send(at, "PROXY UNKNOWN\r\n").await;
    let (_, connection) = accept(&mut proxy).await;
    assert_eq!(
        text(connection.peer()),
        client.local_addr().unwrap().to_string()
    );
    assert!(connection.proxied().is_some());
}

#[tokio::test]
async fn who_says_nothing_delays_nobody() {
    let (mut proxy, at, _) = listen().await;
    let _silent = TcpStream::connect(at).await.unwrap();
    let _half = send(at, &LINE[..20]).await;
    nothing(&mut proxy).await;
    let began = Instant::now();
    let _client = send(at, LINE).await;
    let (_, connection) = accept(&mut proxy).await;
    assert_eq!(text(connection.peer()), CLIENT);
    // Well before those run out of time.
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn what_is_missing_broken_or_late_is_the_end_of_that_connection() {
    let (proxy, at, _) = listen().await;
    let mut proxy = proxy
        .time_limit(Duration::from_millis(300))
        .longest_header(100);
    // There is nothing else wrong with it.
    let long = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11".as_slice(),
        &[0, 87],
        &[0; 87],
    ]
    .concat();
    for wrong in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 99999\r\n",
        b"PROXY TCP4 203.0.113.9 ",
        b"",
        &long,
    ] {
        let client = send(at, wrong).await;
        nothing(&mut proxy).await;
        nothing(&mut proxy).await;
        closed(client).await;
    }
    let _client = send(at, LINE).await;
    accept(&mut proxy).await;
}

#[tokio::test]
async fn where_both_are_accepted_nothing_is_lost_of_what_has_no_header() {
    let (proxy, at, _) = listen().await;
    let limit = Duration::from_millis(300);
    let mut proxy = proxy.policy(ProxyPolicy::Optional).time_limit(limit);
    for sent in [
        "GET / HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "P\n",
        "\r\n\r\nA",
    ] {
        let client = send(at, sent).await;
        let (mut io, connection) = accept(&mut proxy).await;
        assert_eq!(
            text(connection.peer()),
            client.local_addr().unwrap().to_string()
        );
        assert!(connection.proxied().is_none());
        assert_eq!(read(&mut io, sent.len()).await, sent);
    }
    let _client = send(at, LINE).await;
    let (_, connection) = accept(&mut proxy).await;
    assert_eq!(text(connection.peer()), CLIENT);
    // One that its client keeps for later.
    let mut client = TcpStream::connect(at).await.unwrap();
    let (mut io, _) = accept(&mut proxy).await;
    client.write_all(b"later").await.unwrap();
    assert_eq!(read(&mut io, 5).await, "later");
    // But half a header is none of HTTP's.
    let half = send(at, &LINE[..30]).await;
    nothing(&mut proxy).await;
    nothing(&mut proxy).await;
    closed(half).await;
}

#[tokio::test]
async fn only_who_is_trusted_is_believed() {
    let (proxy, at, _) = listen().await;
    let mut proxy = proxy.trusting(["10.0.0.0/8".parse().unwrap()]);
    let client = send(at, LINE).await;
    nothing(&mut proxy).await;
    closed(client).await;
    // What it says is not even looked at.
    proxy = proxy.policy(ProxyPolicy::Optional);
    let client = send(at, LINE).await;
    let (mut io, connection) = accept(&mut proxy).await;
    assert_eq!(
        text(connection.peer()),
        client.local_addr().unwrap().to_string()
    );
    assert_eq!(read(&mut io, LINE.len()).await, LINE);
    proxy = proxy.trusting([
        "10.0.0.0/8".parse().unwrap(),
        "127.0.0.0/8".parse().unwrap(),
    ]);
    let _client = send(at, LINE).await;
    let (_, connection) = accept(&mut proxy).await;
    assert_eq!(text(connection.peer()), CLIENT);
}

#[tokio::test]
async fn turned_off_it_looks_for_nothing() {
    let (proxy, at, graceful) = listen().await;
    let mut proxy = proxy.policy(ProxyPolicy::Off);
    let _client = send(at, LINE).await;
    let (mut io, connection) = accept(&mut proxy).await;
    assert!(connection.proxied().is_none());
    assert_eq!(read(&mut io, LINE.len()).await, LINE);
    // Not even for a first byte.
    let _silent = TcpStream::connect(at).await.unwrap();
    accept(&mut proxy).await;
    assert!(graceful.holders().is_empty());
}

async fn left(proxy: &mut Proxy) -> Option<Arc<Connection>> {
    let left = timeout(BOUND, poll_fn(|cx| proxy.poll_leftover(cx)));
    let (mut io, peer) = left.await.expect("an end")?.unwrap();
    let connection = Connection::new(peer);
    proxy.introduce(&mut io, &connection);
    Some(connection)
}

#[tokio::test]
async fn half_a_header_is_waited_for_in_a_drain_and_nobody_new() {
    let (mut proxy, at, graceful) = listen().await;
    let guard = graceful.guard();
    let mut half = send(at, &LINE[..20]).await;
    nothing(&mut proxy).await;
    graceful.drain();
    let holders = graceful.holders();
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0].kind, Kind::Head);
    assert_eq!(
        holders[0].peer,
        Some(half.local_addr().unwrap().to_string())
    );
    let waits = timeout(SHORT, poll_fn(|cx| proxy.poll_leftover(cx))).await;
    assert!(waits.is_err(), "{waits:?}");
    // Who comes now is refused, and does not wait for nothing.
    let late = TcpStream::connect(at).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(text(&proxy.local_addr().unwrap()), at.to_string());
    half.write_all(&LINE.as_bytes()[20..]).await.unwrap();
    let connection = left(&mut proxy).await.unwrap();
    assert_eq!(text(connection.peer()), CLIENT);
    assert_eq!(left(&mut proxy).await.map(|c| text(c.peer())), None);
    drop(guard);
    assert!(graceful.drained().await.is_complete());
}

/// A drain that may be taken back leaves the socket as it is.
#[tokio::test]
async fn an_upgrade_waits_for_half_a_header_and_keeps_the_socket() {
    let (mut proxy, at, graceful) = listen().await;
    let _guard = graceful.guard();
    let mut half = send(at, &LINE[..20]).await;
    nothing(&mut proxy).await;
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    half.write_all(&LINE.as_bytes()[20..]).await.unwrap();
    assert_eq!(
        left(&mut proxy).await.map(|c| text(c.peer())).as_deref(),
        Some(CLIENT)
    );
    assert!(left(&mut proxy).await.is_none());
    assert!(graceful.resume());
    let _client = send(at, LINE).await;
    accept(&mut proxy).await;
}

#[tokio::test]
async fn what_is_still_half_at_the_cut_is_named() {
    let (mut proxy, at, graceful) = listen().await;
    let half = send(at, &LINE[..20]).await;
    // This one has sent nothing that could be lost.
    let silent = TcpStream::connect(at).await.unwrap();
    nothing(&mut proxy).await;
    graceful.drain();
    assert_eq!(graceful.phase(), Phase::Draining);
    graceful.cut();
    let report = timeout(BOUND, graceful.drained()).await.unwrap();
    assert!(!report.is_complete());
    let peer = half.local_addr().unwrap();
    let text = report.to_string();
    assert!(
        text.contains(&format!("of the PROXY protocol {peer}")),
        "{text}"
    );
    assert_eq!(report.cut.len(), 1, "{text}");
    closed(half).await;
    closed(silent).await;
}

/// A listener whose connections can move: to a channel, for want of a successor.
struct Moving {
    below: TcpListener,
    to: mpsc::Sender<Parcel<TcpStream>>,
    given: mpsc::Receiver<Arrival<TcpStream>>,
    adopts: Arc<Mutex<Vec<Protocol>>>,
}

struct ToChannel(mpsc::Sender<Parcel<TcpStream>>);

impl Mover<TcpStream> for ToChannel {
    fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    fn departures(&self) -> Departures {
        Departures::limited(7)
    }

    fn give(&self, parcel: Parcel<TcpStream>) -> Giving<TcpStream> {
        let to = self.0.clone();
        Box::pin(async move {
            let given = to.send(parcel).await;
            given.map_err(|back| back.0.staying(Stays::Refused))
        })
    }
}

impl Accept for Moving {
    type Io = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Address)>> {
        Accept::poll_accept(&mut self.below, cx)
    }

    fn local_addr(&self) -> io::Result<Address> {
        Accept::local_addr(&self.below)
    }

    fn poll_adopt(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<TcpStream>> {
        match self.given.poll_recv(cx) {
            Poll::Ready(Some(arrival)) => Poll::Ready(arrival),
            _ => Poll::Pending,
        }
    }

    fn adopts(&self, protocols: &[Protocol]) {
        self.adopts.lock().unwrap().extend_from_slice(protocols);
    }

    fn mover(&self) -> Option<Arc<dyn Mover<TcpStream>>> {
        Some(Arc::new(ToChannel(self.to.clone())))
    }

    fn stays(&self) -> Stays {
        Stays::Tls
    }
}

/// What the socket below can do, the listener around it can: moving, both ways, with every byte that
/// was read in the search for a header, in its order.
#[tokio::test]
async fn what_was_read_ahead_moves_along_and_comes_back() {
    let below = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = below.local_addr().unwrap();
    let (to, mut moved) = mpsc::channel(8);
    let (gives, given) = mpsc::channel(8);
    let adopts = Arc::default();
    let moving = Moving {
        below,
        to,
        given,
        adopts: Arc::clone(&adopts),
    };
    let proxy = ProxyProtocol::new(moving, &Graceful::new());
    let mut proxy = proxy.policy(ProxyPolicy::Optional);
    assert_eq!(proxy.stays(), Stays::Tls);
    proxy.adopts(&[Protocol::HTTP]);
    assert_eq!(*adopts.lock().unwrap(), [Protocol::HTTP]);
    let mover = proxy.mover().unwrap();
    assert!(mover.is_open());

    // No header, which takes some bytes to be sure of.
    let mut client = send(at, "PRINT it").await;
    let accepted = timeout(BOUND, poll_fn(|cx| proxy.poll_accept(cx))).await;
    let (mut io, peer) = accepted.unwrap().unwrap();
    let mut first = [0; 2];
    timeout(BOUND, io.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    let parcel = Parcel::new(io, first.to_vec(), Connection::new(peer.clone()));
    assert!(mover.give(parcel).await.is_ok());
    let parcel = moved.recv().await.unwrap();
    let mut there = parcel.unread;
    // The rest is still in the kernel's hands.
    let mut rest = vec![0; 8 - there.len()];
    let mut io = parcel.io;
    timeout(BOUND, io.read_exact(&mut rest))
        .await
        .unwrap()
        .unwrap();
    there.extend_from_slice(&rest);
    assert_eq!(there, b"PRINT it");

    // One that is refused is as it was, in the wrapper that its server knows.
    moved.close();
    assert!(!mover.is_open());
    let wrapped = Parcel::new(io, b"GET".to_vec(), Connection::new(peer));
    let (claim, is_claimed) = tokio::sync::oneshot::channel();
    let arrival = Arrival::new(wrapped, async move { claim.send(()).unwrap() });
    // It comes by the listener first, as from a predecessor.
    gives.send(arrival).await.ok().unwrap();
    let mut arrival = timeout(BOUND, poll_fn(|cx| proxy.poll_adopt(cx)))
        .await
        .unwrap();
    assert_eq!(arrival.protocol(), Protocol::HTTP);
    arrival.due().await;
    let parcel = arrival.claim().await;
    is_claimed.await.unwrap();
    let back = mover.give(parcel).await.unwrap_err();
    assert_eq!(
        (back.stays, &*back.unread),
        (Some(Stays::Refused), &b"GET"[..])
    );
    let mut io = back.io;
    client.write_all(b"!").await.unwrap();
    assert_eq!(read(&mut io, 1).await, "!");
}

/// Fails if an adopted connection is claimed before it is due, or the wait reads from it.
#[tokio::test]
async fn an_arrival_behind_a_balancer_is_due_when_the_one_below_is() {
    let below = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = below.local_addr().unwrap();
    let (to, _moved) = mpsc::channel(8);
    let (gives, given) = mpsc::channel(8);
    let mut client = TcpStream::connect(at).await.unwrap();
    let (io, peer) = below.accept().await.unwrap();
    let moving = Moving {
        below,
        to,
        given,
        adopts: Arc::default(),
    };
    let mut proxy = ProxyProtocol::new(moving, &Graceful::new());
    let parcel = Parcel::new(io, Vec::new(), Connection::new(peer.into()));
    let arrival = Arrival::new(parcel, async {}).due_when(|io: &TcpStream, cx| {
        let mut byte = [0];
        io.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map(|_| ())
    });
    gives.send(arrival).await.ok().unwrap();
    let mut arrival = timeout(BOUND, poll_fn(|cx| proxy.poll_adopt(cx)))
        .await
        .unwrap();
    let text = format!("{arrival:?}");
    assert!(text.contains(&peer.to_string()), "{text}");
    assert!(timeout(SHORT, arrival.due()).await.is_err(), "nothing came");
    client.write_all(b"x").await.unwrap();
    timeout(BOUND, arrival.due()).await.unwrap();
    let mut io = arrival.claim().await.io;
    assert_eq!(read(&mut io, 1).await, "x");
}

#[tokio::test]
async fn the_listener_below_is_lent_and_given_back() {
    let (mut proxy, at, graceful) = listen().await;
    let below = proxy.get_ref().unwrap();
    assert_eq!(below.local_addr().unwrap(), at);
    assert_eq!(proxy.stays(), Stays::Listener);
    assert!(proxy.mover().is_none(), "that of tokio has none");
    let shown = format!("{proxy:?}");
    assert!(shown.contains(&at.port().to_string()), "{shown}");
    let below = proxy.into_inner().unwrap();
    // It accepts by itself, header or none.
    let mut client = send(at, LINE).await;
    let (mut io, _) = below.accept().await.unwrap();
    let mut line = vec![0; LINE.len()];
    io.read_exact(&mut line).await.unwrap();
    assert_eq!(line, LINE.as_bytes());
    client.shutdown().await.unwrap();

    // At the end of the service there is none any more, and it still says where it was.
    proxy = ProxyProtocol::new(below, &graceful);
    let guard = graceful.guard();
    graceful.drain();
    assert!(left(&mut proxy).await.is_none());
    assert!(proxy.get_ref().is_none() && proxy.mover().is_none());
    assert_eq!(text(&proxy.local_addr().unwrap()), at.to_string());
    drop(guard);
    assert!(proxy.into_inner().is_none());
}
