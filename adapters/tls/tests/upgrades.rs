//! What an upgrade does to TLS: sessions are resumed, connections stay and are told.

mod support;

use std::{error::Error, sync::Arc, time::Duration};

use handover::{GenerationBuilder, Stays, testing::Service};
use handover_tests::tls::{Certificates, Client};
use handover_tls::TicketKeys;

use tokio::net::TcpStream;

use self::support::{VERSIONS, client_of, end, facts, get, tls};

const NAME: &str = "https";

/// What a generation does about its ticket keys.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    HandedOver,
    OfItsOwn,
    /// Those of a later release, which this one does not understand.
    FromTheFuture,
}

/// A service whose generations do so, one after another; the last one's way is that of the others.
async fn service(certificates: &Arc<Certificates>, keys: &'static [Keys]) -> Service {
    let certificates = certificates.clone();
    let program = move |builder: GenerationBuilder| {
        let certificates = certificates.clone();
        async move {
            let generation = builder.start()?;
            let number = usize::try_from(generation.number())?;
            let tickets = match keys[number.min(keys.len() - 1)] {
                Keys::HandedOver => TicketKeys::of(&generation)?,
                Keys::OfItsOwn => TicketKeys::new()?,
                Keys::FromTheFuture => {
                    generation.keep_state("handover-tls.tickets", 2, || Ok(b"later".to_vec()));
                    TicketKeys::new()?
                }
            };
            let tls = tls(&certificates).tickets(tickets).load()?;
            let listener = generation.listen(format!("{NAME}=127.0.0.1:0")).await?;
            let graceful = generation.graceful();
            let server = handover_hyper::serve(tls.accept(listener), tower::service_fn(facts))
                .with_graceful(graceful);
            generation.ready().await?;
            server.await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        }
    };
    Service::start(program).await.unwrap()
}

fn addr(service: &Service) -> std::net::SocketAddr {
    let address = service.current().address(NAME).unwrap();
    address.as_socket_addr().unwrap()
}

/// How many of so many handshakes resumed a session; each client has one to resume.
async fn resumed(clients: &[Client], service: &Service) -> usize {
    let mut resumed = 0;
    for client in clients {
        let mut tls = client.connect(addr(service)).await.unwrap();
        let answer = get(&mut tls).await.unwrap();
        resumed += usize::from(answer.contains("resumed=true"));
    }
    resumed
}

fn clients(certificates: &Certificates) -> Vec<Client> {
    let client = |at: usize| client_of(certificates, VERSIONS[at % 2]);
    (0..20).map(client).collect()
}

#[tokio::test]
async fn sessions_are_resumed_after_an_upgrade_as_before_it() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let service = service(&certificates, &[Keys::HandedOver]).await;
    let clients = clients(&certificates);
    assert_eq!(resumed(&clients, &service).await, 0);
    let within = resumed(&clients, &service).await;
    assert_eq!(within, clients.len());
    for _ in 0..3 {
        service.upgrade().await.unwrap();
        assert_eq!(resumed(&clients, &service).await, within);
    }
}

#[tokio::test]
async fn without_the_keys_every_handshake_is_a_full_one() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let service = service(&certificates, &[Keys::OfItsOwn]).await;
    let clients = clients(&certificates);
    resumed(&clients, &service).await;
    service.upgrade().await.unwrap();
    assert_eq!(resumed(&clients, &service).await, 0);
}

#[tokio::test]
async fn a_successor_that_does_not_understand_the_keys_makes_its_own() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let ways = &[Keys::FromTheFuture, Keys::HandedOver];
    let service = service(&certificates, ways).await;
    let clients = clients(&certificates);
    resumed(&clients, &service).await;
    service.upgrade().await.unwrap();
    assert_eq!(resumed(&clients, &service).await, 0);
    assert_eq!(resumed(&clients, &service).await, clients.len());
    service.upgrade().await.unwrap();
    assert_eq!(resumed(&clients, &service).await, clients.len());
}

#[tokio::test]
async fn a_connection_stays_is_told_and_is_counted_as_tls() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let service = service(&certificates, &[Keys::HandedOver]).await;
    let client = certificates.client().unwrap();
    let mut open = client.connect(addr(&service)).await.unwrap();
    let answer = get(&mut open).await.unwrap();
    assert!(!answer.contains("connection: close"), "{answer}");
    let first = service.current();
    service.upgrade().await.unwrap();
    first.graceful().draining().await;
    let answer = get(&mut open).await.unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(end(&mut open).await.unwrap(), b"");
    let report = first.graceful().drained().await;
    assert_eq!(report.stayed.count(Stays::Tls), 1, "{report}");
    assert!(report.to_string().contains("1 stayed: 1 TLS"), "{report}");
    assert_eq!(report.moved, 0);
    assert!(report.is_complete() && report.took < Duration::from_secs(20));
}

#[tokio::test]
async fn plain_connections_are_not_given_to_a_listener_that_speaks_tls() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let made = certificates.clone();
    let program = move |builder: GenerationBuilder| {
        let certificates = made.clone();
        async move {
            let generation = builder.start()?;
            let listener = generation.listen(format!("{NAME}=127.0.0.1:0")).await?;
            let (graceful, service) = (generation.graceful(), tower::service_fn(facts));
            let serving = match generation.number() {
                0 => {
                    let server = handover_hyper::serve(listener, service);
                    server.with_graceful(graceful).into_future()
                }
                _ => {
                    let listener = tls(&certificates).load()?.accept(listener);
                    let server = handover_hyper::serve(listener, service);
                    server.with_graceful(graceful).into_future()
                }
            };
            generation.ready().await?;
            serving.await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        }
    };
    let service = Service::start(program).await.unwrap();
    let mut plain = TcpStream::connect(addr(&service)).await.unwrap();
    assert!(get(&mut plain).await.unwrap().ends_with("plain\n"));
    let first = service.current();
    service.upgrade().await.unwrap();
    let answer = get(&mut plain).await.unwrap();
    assert!(answer.ends_with("plain\n"), "{answer}");
    let client = certificates.client().unwrap();
    let mut tls = client.connect(addr(&service)).await.unwrap();
    assert!(get(&mut tls).await.unwrap().contains("TLSv1_3"));
    drop(plain);
    let report = first.graceful().drained().await;
    assert_eq!(report.moved, 0, "{report}");
    assert_eq!(report.stayed.count(Stays::RefusedUnserved), 1, "{report}");
}
