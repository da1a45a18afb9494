//! What a holder tells of what has passed over its connection: counted to the byte, from outside.

mod support;

use std::time::{Duration, Instant};

use handover::{Holding, Kind, Traffic};
use tokio::io::AsyncReadExt;

use self::support::{Client, Server, frames::HELLO};

/// The only holder, once it is so.
async fn holder(server: &Server, is_so: impl Fn(&Holding) -> bool) -> Holding {
    let bound = Instant::now() + Duration::from_secs(10);
    loop {
        let holders = server.graceful.holders();
        if let [one] = &holders[..]
            && is_so(one)
        {
            return one.clone();
        }
        assert!(Instant::now() < bound, "{holders:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn traffic(holder: &Holding) -> &Traffic {
    holder.traffic.as_ref().expect("it is a connection")
}

/// Sends as it is, and counts.
async fn exchange(client: &mut Client, request: &str, end: &str) -> (u64, u64) {
    client.send(request).await;
    let answer = client.until(end).await;
    (request.len() as u64, answer.len() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_of_a_connection_counts_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let fresh = holder(&server, |_| true).await;
    assert_eq!(traffic(&fresh), &Traffic::default());
    assert_eq!(fresh.listener, Some(server.addr.to_string()));
    // What looks like the preface of HTTP/2 at first is read by another part of the loop.
    client.send("P").await;
    holder(&server, |one| traffic(one).received == 1).await;
    let (mut received, mut sent) = (1, 0);
    let body = "b".repeat(100_000);
    let post = format!("OST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{body}");
    for (request, end) in [
        (&*post, &*body),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "hello"),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "hello"),
    ] {
        let (ours, theirs) = exchange(&mut client, request, end).await;
        (received, sent) = (received + ours, sent + theirs);
        let idle = holder(&server, |one| one.kind == Kind::Idle).await;
        let traffic = traffic(&idle);
        assert_eq!((traffic.received, traffic.sent), (received, sent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_says_for_how_long_nothing_has_passed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let upgrade = "GET /tunnel HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.send(upgrade).await;
    client.until("\r\n\r\n").await;
    let upgraded = holder(&server, |one| one.kind == Kind::Upgraded).await;
    let before = traffic(&upgraded).clone();
    exchange(&mut client, "ping", "ping").await;
    let after = holder(&server, |one| traffic(one).sent > before.sent).await;
    let after = traffic(&after);
    assert_eq!(after.received, before.received + 4);
    assert_eq!(after.sent, before.sent + 4);
    let quiet_since = Instant::now();
    let (report, _) = server.drained().await;
    let cut = &report.cut[0];
    let quiet = traffic(cut).quiet.unwrap();
    // The deadline is its longest silence; the clock is a coarse one.
    let coarse = Duration::from_millis(20);
    assert!(
        quiet <= quiet_since.elapsed() + coarse && quiet + coarse >= Duration::from_millis(700)
    );
    let text = report.to_string();
    let ends = format!(
        "{} B in, {} B out, quiet for {:.1} s",
        after.received,
        after.sent,
        quiet.as_secs_f64()
    );
    assert!(text.contains(&ends), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_connection_counts_as_well() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(HELLO).await;
    let mut answer = [0; 9];
    client.stream.read_exact(&mut answer).await.unwrap();
    let sent = HELLO.len() as u64;
    let idle = holder(&server, |one| traffic(one).received == sent).await;
    assert!(traffic(&idle).sent >= 9, "{idle}");
    assert_eq!(idle.kind, Kind::Idle);
}
