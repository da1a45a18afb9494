#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    unnameable_types,
    clippy::exhaustive_structs
)]
//! A server that says what it knows of a connection, and clients of all kinds.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use handover::{Connection, Graceful, Kind, Report};
use handover_hyper::RequestBody;
use handover_tests::tls::{Certificates, Client};
use handover_tls::{
    Tls, TlsInfo,
    rustls::{
        SupportedProtocolVersion,
        version::{TLS12, TLS13},
    },
};
use http::{Request, Response};
use http_body::Body;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

pub type Version = &'static SupportedProtocolVersion;

/// Those that there are.
pub const VERSIONS: [Version; 2] = [&TLS12, &TLS13];

/// How long anything may take that is to happen at all.
pub const BOUND: Duration = Duration::from_secs(20);

/// TLS with these certificates.
pub fn tls(certificates: &Certificates) -> handover_tls::Builder {
    Tls::builder(certificates.certificate(), certificates.key())
}

/// A client of one version.
pub fn client_of(certificates: &Certificates, version: Version) -> Client {
    certificates.client_with(&[version], None).unwrap()
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
    while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
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
        Self::start_with(tls, graceful, facts).await
    }

    pub async fn start_with<F, B>(
        tls: Tls,
        graceful: Graceful,
        answers: fn(Request<RequestBody>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = handover_hyper::serve(tls.accept(listener), tower::service_fn(answers))
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
