#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    unnameable_types,
    clippy::exhaustive_structs
)]
//! Certificates, a server that says what it knows of a connection, and clients.

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use handover::{Connection, Graceful, Kind, Report};
use handover_hyper::RequestBody;
use handover_tls::{Tls, TlsInfo, rustls};
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::Resumption,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long anything may take that is to happen at all.
pub const BOUND: Duration = Duration::from_secs(20);

/// Certificates of one authority, in a directory of their own.
pub struct Certificates {
    pub dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
}

impl Certificates {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let this = Self {
            dir,
            issuer: Issuer::new(params, key),
            authority: authority.der().clone(),
        };
        this.renew();
        this
    }

    /// A new certificate in the files of the server.
    pub fn renew(&self) {
        let (certificate, key) = self.issue("localhost");
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    pub fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn builder(&self) -> handover_tls::Builder {
        Tls::builder(self.path("cert.pem"), self.path("key.pem"))
    }

    /// A client that trusts them.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Client {
        self.client_with(versions, None)
    }

    /// One that shows a certificate of its own.
    pub fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<(rcgen::Certificate, KeyPair)>,
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(32);
        Client(config)
    }
}

#[derive(Clone)]
pub struct Client(pub ClientConfig);

impl Client {
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(to).await?).await
    }

    pub async fn connect_over<Io>(&self, io: Io) -> io::Result<TlsStream<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::new(self.0.clone()));
        let name = ServerName::try_from("localhost").unwrap();
        let connected = connector.connect(name, io);
        timeout(BOUND, connected).await.expect("a handshake")
    }

    /// One that negotiates HTTP/2.
    pub fn http2(mut self) -> Self {
        self.0.alpn_protocols = vec![b"h2".to_vec()];
        self
    }
}

/// A connection on which so many bytes go to the server, and the others when that is told.
pub async fn held_back(to: SocketAddr, after: u64) -> (DuplexStream, oneshot::Sender<()>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (go, told) = oneshot::channel();
    let (mut from_server, mut to_server) = TcpStream::connect(to).await.unwrap().into_split();
    let (mut from_client, mut to_client) = tokio::io::split(theirs);
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    tokio::spawn(async move {
        let mut first = (&mut from_client).take(after);
        let _ = tokio::io::copy(&mut first, &mut to_server).await;
        let _ = told.await;
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    (ours, go)
}

/// One request; the whole answer, head and body.
pub async fn get<Io>(io: &mut Io) -> io::Result<String>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    answer(io).await
}

pub async fn answer<Io: AsyncRead + Unpin>(io: &mut Io) -> io::Result<String> {
    let mut answer = Vec::new();
    // Each body ends with a line end, and nothing before it does.
    while !(answer.ends_with(b"\n") && !answer.ends_with(b"\r\n")) {
        let mut bytes = [0; 1024];
        match timeout(BOUND, io.read(&mut bytes))
            .await
            .expect("an answer")?
        {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&bytes[..n]),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

/// Waits for the end of a connection; what came before it, or how it failed.
pub async fn end<Io: AsyncRead + Unpin>(io: &mut Io) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    let read = io.read_to_end(&mut rest);
    timeout(BOUND, read).await.expect("an end").map(|_| rest)
}

/// Says what is known of the connection.
pub async fn facts(request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    let connection = request.extensions().get::<Arc<Connection>>().unwrap();
    let text = match TlsInfo::of(connection) {
        None => "plain\n".to_owned(),
        Some(tls) => format!(
            "{:?} alpn={} name={} resumed={} clients={}\n",
            tls.version().unwrap(),
            String::from_utf8_lossy(tls.alpn().unwrap_or_default()),
            tls.server_name().unwrap_or_default(),
            tls.is_resumed(),
            tls.client_certificates().len(),
        ),
    };
    Ok(Response::new(text))
}

/// A server at work.
pub struct Server {
    pub addr: SocketAddr,
    pub graceful: Graceful,
    pub tls: Tls,
    served: JoinHandle<io::Result<Report>>,
}

impl Server {
    pub async fn start(tls: Tls, graceful: Graceful) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = handover_hyper::serve(tls.accept(listener), tower::service_fn(facts))
            .with_graceful(graceful.clone());
        Self {
            addr,
            graceful,
            tls,
            served: tokio::spawn(server.into_future()),
        }
    }

    /// Waits until so many connections are of this kind.
    pub async fn until(&self, kind: Kind, count: usize) {
        let looked = async {
            while self.count(kind) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(BOUND, looked).await.is_err() {
            panic!("{count} of {kind:?}: {:?}", self.graceful.holders());
        }
    }

    pub fn count(&self, kind: Kind) -> usize {
        let holders = self.graceful.holders();
        holders.iter().filter(|holder| holder.kind == kind).count()
    }

    /// Waits for the end of the drain.
    pub async fn ended(self) -> Report {
        let ended = timeout(BOUND, self.served).await.expect("the drain's end");
        ended.unwrap().unwrap()
    }
}

/// The bytes of a client's handshake, flight by flight.
pub struct Flights {
    session: rustls::ClientConnection,
    pub tcp: TcpStream,
}

impl Flights {
    pub async fn begin(client: &Client, to: SocketAddr) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let config = Arc::new(client.0.clone());
        let tcp = TcpStream::connect(to).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self {
            session: rustls::ClientConnection::new(config, name).unwrap(),
            tcp,
        }
    }

    /// What is to be sent next.
    pub fn flight(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Reads until there is something to answer, or the handshake is done.
    pub async fn hear(&mut self) {
        while self.session.is_handshaking() && !self.session.wants_write() {
            let mut bytes = [0; 4096];
            let read = timeout(BOUND, self.tcp.read(&mut bytes)).await;
            let n = read.expect("the server's flight").unwrap();
            assert!(n > 0, "the server has gone");
            let mut bytes = &bytes[..n];
            while !bytes.is_empty() {
                self.session.read_tls(&mut bytes).unwrap();
                self.session.process_new_packets().unwrap();
            }
        }
    }

    pub fn peer(&self) -> String {
        self.tcp.local_addr().unwrap().to_string()
    }
}
