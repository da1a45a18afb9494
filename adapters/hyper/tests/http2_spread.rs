//! Many HTTP/2 connections are told to go one after another, and none is worse off for it.

mod support;

use std::time::{Duration, Instant};

use handover::Policy;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::support::{
    Client,
    frames::{DATA, GOAWAY, HELLO, MAX, answer, frame, get, ping, said, until_answered, write},
    moving::Generation,
};

const CONNECTIONS: usize = 300;
const WINDOW: Duration = Duration::from_secs(4);
const BOUND: Duration = Duration::from_secs(20);

/// What one connection saw.
struct Seen {
    is_busy: bool,
    told: Instant,
}

struct Peer {
    client: Client,
    // When the first GOAWAY came.
    told: Option<Instant>,
    // What the final one said.
    last: Option<(u32, u32)>,
}

impl Peer {
    /// The next frame that is no GOAWAY; `None` at the end.
    async fn frame(&mut self) -> Option<(u8, u8, u32)> {
        loop {
            let (kind, flags, stream, payload) = frame(&mut self.client).await?;
            match self.told {
                _ if kind != GOAWAY => return Some((kind, flags, stream)),
                None => {
                    assert_eq!(said(&payload), (MAX, 0));
                    self.told = Some(Instant::now());
                    let payload = ping(&mut self.client).await;
                    answer(&mut self.client, &payload).await;
                }
                Some(_) => self.last = Some(said(&payload)),
            }
        }
    }

    async fn call(&mut self, stream: u32) {
        write(&mut self.client, &get(stream, "/")).await;
        loop {
            let (kind, flags, of) = self.frame().await.expect("no answer");
            if kind == DATA && of == stream && flags & 1 != 0 {
                return;
            }
        }
    }
}

/// One that calls on and on until it is told, or one that waits to be told.
async fn connection(client: Client, is_busy: bool, calls: mpsc::UnboundedSender<()>) -> Seen {
    let mut peer = Peer {
        client,
        told: None,
        last: None,
    };
    let mut stream = 1;
    while is_busy && peer.told.is_none() {
        stream += 2;
        peer.call(stream).await;
        if stream == 11 {
            calls.send(()).unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    while peer.frame().await.is_some() {}
    assert_eq!(peer.last, Some((stream, 0)));
    Seen {
        is_busy,
        told: peer.told.expect("a bare end"),
    }
}

/// Every second one calls all the time, and has done so for a while.
async fn connections(server: &Generation) -> JoinSet<Seen> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = server.connect().await;
        client.send(HELLO).await;
        write(&mut client, &get(1, "/")).await;
        until_answered(&mut client, 1).await;
        assert_eq!(frame(&mut client).await.unwrap().0, DATA);
        clients.push(client);
    }
    let (calls, mut busy) = mpsc::unbounded_channel();
    let numbered = clients.into_iter().enumerate();
    let connections = numbered
        .map(|(number, client)| connection(client, number % 2 == 0, calls.clone()))
        .collect();
    for _ in 0..CONNECTIONS / 2 {
        timeout(BOUND, busy.recv()).await.unwrap();
    }
    connections
}

async fn are_spread(drain: impl FnOnce(&Generation) -> Option<Generation>) {
    let policy = Policy::default()
        .with_announce(WINDOW)
        .with_deadline(BOUND)
        .with_upgrade_deadline(BOUND);
    let server = Generation::first_with(policy, |serve| serve).await;
    let connections = connections(&server).await;
    let began = Instant::now();
    let _successor = drain(&server);
    let seen = timeout(BOUND, connections.join_all()).await.unwrap();
    let report = server.done.await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert!(began.elapsed() < WINDOW, "{report}");

    // 150 in each of the two seconds: in tenths, for a machine that has other things to do.
    let mut tenths = [0; 40];
    for seen in &seen {
        tenths[(seen.told - began).as_millis() as usize / 100] += 1;
    }
    assert!(tenths.iter().all(|told| *told <= 75), "{tenths:?}");
    let sum = |tenths: &[usize]| tenths.iter().sum::<usize>();
    assert!(sum(&tenths[..10]) <= 170, "{tenths:?}");
    assert!(sum(&tenths[..36]) == CONNECTIONS, "{tenths:?}");
    // Who is idle goes first.
    let told = |is_busy| {
        let of_kind = seen.iter().filter(|seen| seen.is_busy == is_busy);
        of_kind.map(|seen| seen.told - began).sum::<Duration>() / (CONNECTIONS / 2) as u32
    };
    let (idle, busy) = (told(false), told(true));
    assert!(busy > idle + WINDOW / 8, "{idle:?} {busy:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_service_that_stops_are_told_one_after_another() {
    are_spread(|server| {
        server.graceful.drain();
        None
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_that_is_replaced_are_told_one_after_another() {
    are_spread(|server| Some(server.succeeded())).await;
}
