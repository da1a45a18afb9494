//! Connections go from one serve loop to the next: in each state, and none twice, none lost.

mod support;

use std::time::{Duration, Instant};

use handover::{Kind, Policy, Stays, accept::Departures};

use self::support::{Client, moving::Generation};

async fn answered_by(client: &mut Client, name: &str) -> String {
    let answer = client.until("hello").await;
    assert!(answer.contains(&format!("x-name: {name}")), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_fresh_connections_move_and_nobody_notices() {
    let first = Generation::first().await;
    let mut idle = first.idle().await;
    let mut fresh = first.connect().await;
    first.until(Kind::Fresh).await;
    let second = first.succeeded();
    let report = first.gone().await;
    assert!(report.took < Duration::from_secs(1), "{report}");
    for client in [&mut idle, &mut fresh] {
        for _ in 0..3 {
            client.get("/").await;
            answered_by(client, "second").await;
        }
    }
    assert_eq!(second.graceful.holders().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_move_with_the_connection() {
    let first = Generation::first().await;
    let mut client = first.idle().await;
    let addr = client.stream.local_addr().unwrap().to_string();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let _second = first.succeeded();
    first.gone().await;
    client.get("/facts").await;
    client.until("\r\n\r\n").await;
    let facts = client.until(";").await;
    let facts: Vec<_> = facts.trim_end_matches(';').split(' ').collect();
    assert_eq!(facts[..2], [addr.as_str(), "2"]);
    assert!(facts[2].parse::<u64>().unwrap() >= 30, "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_moves_with_its_bytes() {
    for before in [false, true] {
        let first = Generation::first().await;
        let mut client = match before {
            true => first.idle().await,
            false => first.connect().await,
        };
        client.send("GET / HT").await;
        first.until(Kind::Head).await;
        let second = first.succeeded();
        first.gone().await;
        client.send("TP/1.1\r\nho").await;
        second.until(Kind::Head).await;
        let third = second.succeeded_by("third", Policy::default(), |serve| serve);
        second.gone().await;
        client.send("st: x\r\n\r\n").await;
        answered_by(&mut client, "third").await;
        drop(third);
    }
}

/// A first byte that might be HTTP/2's is waited for elsewhere than a head.
#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_is_not_known_yet_moves() {
    let first = Generation::first().await;
    let mut client = first.connect().await;
    client.send("P").await;
    first.until(Kind::Head).await;
    let _second = first.succeeded();
    first.gone().await;
    client
        .send("OST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .await;
    answered_by(&mut client, "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order_and_none_is_lost() {
    let mut first = Generation::first().await;
    let mut client = first.connect().await;
    let mut pipeline = String::from("GET /wait HTTP/1.1\r\nhost: x\r\n\r\n");
    for i in 0..20 {
        pipeline += &format!("GET /{i}?count HTTP/1.1\r\nhost: x\r\n\r\n");
    }
    pipeline += "GET /last?co";
    client.send(&pipeline).await;
    first.called.recv().await;
    let _second = first.succeeded();
    first.go.add_permits(1);
    client.until("waited").await;
    for i in 0..20 {
        let answer = client.until(";").await;
        assert!(answer.ends_with(&format!("/{i} 0;")), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    client.send("unt HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.until("/last 0;").await;
    assert!(answer.contains("x-name: second"), "{answer}");
    first.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_finished_here_and_the_next_is_answered_there() {
    for (path, end) in [("/wait", "waited"), ("/stream", "last\r\n0\r\n\r\n")] {
        let mut first = Generation::first().await;
        let mut client = first.connect().await;
        client.get(path).await;
        first.called.recv().await;
        if path == "/stream" {
            client.until("first").await;
        }
        let _second = first.succeeded();
        first.go.add_permits(1);
        let answer = client.until(end).await;
        assert!(!answer.contains("connection: close"), "{answer}");
        client.get("/").await;
        answered_by(&mut client, "second").await;
        let way = first.way.clone();
        first.gone().await;
        assert_eq!(way.moved(), 1);
    }
}

/// Reads are held back until the answer is out, but not so that nobody sees who has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_its_request_is_noticed() {
    let bound = Duration::from_secs(20);
    let policy = Policy::default()
        .with_deadline(bound)
        .with_upgrade_deadline(bound);
    let mut first = Generation::first_with(policy, |serve| serve).await;
    let mut client = first.connect().await;
    client.get("/never").await;
    first.called.recv().await;
    let mut beside = first.idle().await;
    let _second = first.succeeded();
    // By then all have heard of the drain.
    beside.get("/").await;
    answered_by(&mut beside, "second").await;
    drop(client);
    let report = first.gone().await;
    assert!(report.took < bound / 2, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_request_under_way_moves_with_the_connection() {
    let mut first = Generation::first().await;
    let mut client = first.connect().await;
    client.get("/wait").await;
    first.called.recv().await;
    let second = first.succeeded();
    let next = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(3000));
    let (begin, rest) = next.split_at(2000);
    client.send(begin).await;
    first.go.add_permits(1);
    client.until("waited").await;
    first.gone().await;
    client.send(rest).await;
    answered_by(&mut client, "second").await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_received_here_and_the_next_request_is_answered_there() {
    let bodies = [
        ("content-length: 12", "12345", "6789012"),
        (
            "transfer-encoding: chunked",
            "5\r\n123",
            "45\r\n1\r\n6\r\n0\r\n\r\n",
        ),
        ("content-length: 5\r\nexpect: 100-continue", "", "12345"),
    ];
    for (header, begin, rest) in bodies {
        let mut first = Generation::first().await;
        let mut client = first.connect().await;
        let head = format!("POST /up?count HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n{begin}");
        client.send(&head).await;
        first.called.recv().await;
        if header.contains("expect") {
            client.until("100 Continue\r\n\r\n").await;
        }
        let _second = first.succeeded();
        // The next request comes right behind the body.
        client
            .send(&format!("{rest}GET / HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        let answer = client.until(";").await;
        assert!(answer.contains("/up "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        client.until("hello").await;
        client.get("/").await;
        answered_by(&mut client, "second").await;
        first.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_last_body_nobody_read_moves() {
    let first = Generation::first().await;
    let mut client = first.connect().await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12345")
            .await;
        answered_by(&mut client, "first").await;
    }
    first.until(Kind::Idle).await;
    let _second = first.succeeded();
    first.gone().await;
    client.get("/").await;
    answered_by(&mut client, "second").await;
}

/// What the handler did not read comes when the connection is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_reads_and_that_is_not_there_ends_the_connection() {
    let first = Generation::first().await;
    let mut client = first.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n12345")
        .await;
    client.until("hello").await;
    let _second = first.succeeded();
    let (rest, _) = client.end().await;
    assert_eq!(rest, "");
    first.gone().await;
}

/// The end of a body says nothing of the next one's, whose bytes would be read as a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_outlives_its_request_is_not_taken_for_the_next() {
    let mut first = Generation::first().await;
    let mut client = first.connect().await;
    client
        .send("POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12345")
        .await;
    client.until("held").await;
    client
        .send("POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        .await;
    client.until("held").await;
    first.called.recv().await;
    first.called.recv().await;
    // The first of the two bodies goes.
    let held = first.go.clone();
    first.go.add_permits(1);
    while held.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _second = first.succeeded();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(first.way.moved(), 0);
    client.send("12345GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.until("hello").await;
    assert!(answer.contains("x-name: first"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_announced_and_not_moved() {
    let first = Generation::first().await;
    let client = first.connect().await;
    let (send, connection) = h2::client::handshake(client.stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = || http::Request::get("http://x/").body(()).unwrap();
    let (answer, _) = send.send_request(request(), true).unwrap();
    assert_eq!(answer.await.unwrap().headers()["x-name"], "first");
    let _second = first.succeeded();
    // GOAWAY, and the end.
    connection.await.unwrap().unwrap();
    assert_eq!(first.way.moved(), 0);
    let report = first.gone().await;
    assert!(report.is_complete());
    assert_eq!(report.stayed.to_string(), "1 HTTP/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_http_is_not_moved() {
    let first = Generation::first().await;
    let mut client = first.connect().await;
    let upgrade = "GET /tunnel HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.send(upgrade).await;
    client.until("\r\n\r\n").await;
    let _second = first.succeeded();
    client.send("ping").await;
    client.until("ping").await;
    first.until(Kind::Upgraded).await;
    assert_eq!(first.way.moved(), 0);
    drop(client);
    let report = first.gone().await;
    assert!(report.is_complete());
    assert_eq!(report.stayed.to_string(), "1 upgraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_served_on_and_told() {
    let first = Generation::first().await;
    let mut idle = first.idle().await;
    let mut half = first.connect().await;
    half.send("GET / HTTP/1.1\r\nho").await;
    first.until(Kind::Head).await;
    first
        .way
        .refuses
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let _second = first.succeeded();
    while first.way.asked.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    idle.get("/").await;
    half.send("st: x\r\n\r\n").await;
    for mut client in [idle, half] {
        let answer = client.until("hello").await;
        assert!(answer.contains("x-name: first"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(client.end().await, (String::new(), true));
    }
    let report = first.gone().await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.stayed.to_string(), "2 refused");
}

/// A handler has answered, and keeps the body that is still being sent.
#[tokio::test]
async fn a_connection_whose_body_is_kept_has_its_reason() {
    let mut first = Generation::first().await;
    let mut client = first.connect().await;
    client
        .send("POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        .await;
    client.until("held").await;
    first.called.recv().await;
    let _second = first.succeeded();
    // Each gives all other tasks of this thread a turn: the connection has seen the drain before
    // the rest of its body has come. With that there it would have moved.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    client.send("12345GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.until("connection: close").await;
    first.go.add_permits(1);
    let report = first.gone().await;
    assert_eq!(report.stayed.to_string(), "1 request body unread");
}

/// Not even those that are not moved at all.
#[tokio::test(flavor = "multi_thread")]
async fn each_connection_that_stays_has_its_reason() {
    // Too old by the time of the upgrade.
    let old =
        |serve: handover_hyper::Serve<_, _>| serve.max_connection_age(Duration::from_millis(50));
    let first = Generation::first_with(Policy::default(), old).await;
    let mut client = first.idle().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _second = first.succeeded();
    client.get("/").await;
    client.until("connection: close").await;
    let report = first.gone().await;
    assert_eq!(report.stayed.to_string(), "1 announced already");

    // Told not to move any.
    let keeps = |serve: handover_hyper::Serve<_, _>| serve.move_connections(false);
    let first = Generation::first_with(Policy::default(), keeps).await;
    let mut client = first.idle().await;
    let _second = first.succeeded();
    client.get("/").await;
    client.until("connection: close").await;
    let report = first.gone().await;
    assert_eq!(report.stayed.to_string(), "1 not to be moved");

    // The successor has gone.
    let first = Generation::first().await;
    let mut client = first.idle().await;
    let reason = handover::Reason::Upgrade { successor: 1 };
    first.graceful.drain_for(reason);
    client.get("/").await;
    client.until("connection: close").await;
    let report = first.gone().await;
    assert_eq!(report.stayed.to_string(), "1 without a taker");

    // A handler that never ends, and an answer that never comes.
    let policy = Policy::default().with_upgrade_deadline(Duration::from_millis(300));
    let mut first = Generation::first_with(policy, |serve| serve).await;
    let mut client = first.connect().await;
    client.get("/wait").await;
    first.called.recv().await;
    let _idle = first.idle().await;
    let silent = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    *first.way.silent.lock().unwrap() = Some(silent);
    let _second = first.succeeded();
    let report = first.gone().await;
    assert_eq!(report.stayed.count(Stays::Busy), 1, "{report}");
    assert_eq!(report.stayed.count(Stays::Unanswered), 1, "{report}");
    assert_eq!(report.stayed.total(), 2, "{report}");
    let text = "; 2 stayed: 1 busy until the deadline, 1 unanswered until the deadline;";
    assert!(report.to_string().contains(text), "{report}");

    // A listener that is no generation's.
    let graceful = handover::Graceful::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (service, ..) = support::ScriptService::new("only");
    let serve = handover_hyper::serve(listener, service).with_graceful(graceful.clone());
    let done = tokio::spawn(serve.into_future());
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut client = Client {
        stream,
        read: Vec::new(),
    };
    client.get("/").await;
    client.until("hello").await;
    graceful.drain_for(handover::Reason::Upgrade { successor: 1 });
    client.get("/").await;
    client.until("connection: close").await;
    let report = done.await.unwrap().unwrap();
    assert_eq!(
        report.stayed.to_string(),
        "1 from a listener that gives none"
    );

    // A drain that is no upgrade moves nothing, and that is no news.
    let first = Generation::first().await;
    let mut client = first.idle().await;
    first.graceful.drain();
    client.get("/").await;
    client.until("connection: close").await;
    assert_eq!(first.gone().await.stayed.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_taken_back_leaves_connections_as_they_were() {
    let first = Generation::first().await;
    let mut clients = [first.idle().await, first.connect().await];
    first.until(Kind::Fresh).await;
    // The successor dies with everything under way.
    let silent = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    *first.way.silent.lock().unwrap() = Some(silent.clone());
    let second = first.succeeded();
    while first.way.asked.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    first.way.close();
    assert!(first.graceful.resume());
    *first.way.silent.lock().unwrap() = None;
    silent.add_permits(2);
    drop(second);
    for client in &mut clients[..1] {
        client.get("/").await;
        answered_by(client, "first").await;
    }
    // The next one gets them all.
    let _third = first.succeeded_by("third", Policy::default(), |serve| serve);
    let way = first.way.clone();
    first.gone().await;
    assert_eq!(way.moved(), 2);
    for client in &mut clients {
        client.get("/").await;
        answered_by(client, "third").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_does_not_answer_does_not_outlast_the_deadline() {
    let policy = Policy::default().with_upgrade_deadline(Duration::from_millis(300));
    let first = Generation::first_with(policy, |serve| serve).await;
    let client = first.idle().await;
    let silent = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    *first.way.silent.lock().unwrap() = Some(silent);
    let _second = first.succeeded();
    let report = first.gone().await;
    assert!(report.took < Duration::from_millis(400), "{report}");
    assert!(report.is_complete(), "{report}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn adopted_connections_count_for_the_limit() {
    let first = Generation::first().await;
    let (one, two) = (first.idle().await, first.connect().await);
    first.until(Kind::Fresh).await;
    let limited = |limit| move |serve: handover_hyper::Serve<_, _>| serve.max_connections(limit);
    let second = first.succeeded_by("second", Policy::default(), limited(2));
    first.gone().await;
    let mut third = second.connect().await;
    third.get("/").await;
    let early = tokio::time::timeout(Duration::from_millis(200), third.until("hello")).await;
    assert!(early.is_err(), "{early:?}");
    drop(one);
    answered_by(&mut third, "second").await;
    // More of them than the limit: all are served, and new ones wait until there is room.
    let third = second.succeeded_by("third", Policy::default(), limited(1));
    second.gone().await;
    let mut late = third.connect().await;
    late.get("/").await;
    let early = tokio::time::timeout(Duration::from_millis(200), late.until("hello")).await;
    assert!(early.is_err(), "{early:?}");
    drop(two);
    let early = tokio::time::timeout(Duration::from_millis(200), late.until("hello")).await;
    assert!(early.is_err(), "{early:?}");
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ages_from_when_it_was_accepted() {
    let old = |serve: handover_hyper::Serve<_, _>| serve.max_connection_age(Duration::from_secs(2));
    let first = Generation::first_with(Policy::default(), old).await;
    let began = Instant::now();
    let mut client = first.idle().await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let _second = first.succeeded_by("second", Policy::default(), old);
    first.gone().await;
    let told = async {
        loop {
            client.get("/").await;
            let answer = client.until("hello").await;
            if answer.contains("connection: close") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .unwrap();
    let age = began.elapsed();
    assert!(age > Duration::from_millis(1700), "{age:?}");
    assert!(age < Duration::from_millis(2600), "{age:?}");
}

/// The successor knows nothing of the client yet: it gives it the whole time.
#[tokio::test(flavor = "multi_thread")]
async fn time_limits_begin_anew_after_a_move() {
    let limit = Duration::from_millis(1200);
    let limits = |serve: handover_hyper::Serve<_, _>| {
        let limit = Duration::from_millis(1200);
        serve.idle_timeout(limit).header_read_timeout(limit)
    };
    let first = Generation::first_with(Policy::default(), limits).await;
    let idle = first.idle().await;
    let mut half = first.connect().await;
    half.send("GET / HT").await;
    first.until(Kind::Head).await;
    let fresh = first.connect().await;
    first.until(Kind::Fresh).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let began = Instant::now();
    let _second = first.succeeded_by("second", Policy::default(), limits);
    first.gone().await;
    for client in [idle, half, fresh] {
        assert_eq!(client.end().await.0, "");
        let kept = began.elapsed();
        assert!(kept >= limit, "closed after {kept:?}");
    }
    // Within a quarter more, and what a busy machine takes.
    assert!(began.elapsed() < limit * 4, "{:?}", began.elapsed());
}

/// An idle connection whose last body was not read is as idle as any: it is closed after its time.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_body_does_not_keep_a_connection_for_ever() {
    let first = Generation::first_with(Policy::default(), |serve| {
        serve.idle_timeout(Duration::from_millis(200))
    })
    .await;
    let mut client = first.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12345")
        .await;
    client.until("hello").await;
    assert_eq!(client.end().await, (String::new(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn torture() {
    const CLIENTS: usize = 12;
    const MOVES: usize = 20;
    let mut current = Generation::first().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut tasks = Vec::new();
    for seed in 0..CLIENTS as u64 {
        let client = current.connect().await;
        let stop = stop.clone();
        tasks.push(tokio::spawn(tortured(client, seed, stop)));
    }
    let mut moved = 0;
    let began = Instant::now();
    for _ in 0..MOVES {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let next = current.succeeded_by("next", Policy::default(), |serve| serve);
        let way = current.way.clone();
        let report = current.gone().await;
        assert!(report.is_complete(), "{report}");
        moved += way.moved();
        current = next;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut answers = 0;
    for task in tasks {
        let end = tokio::time::timeout(Duration::from_secs(20), task).await;
        answers += end.expect("an answer is missing").unwrap();
    }
    println!("{moved} moves, {answers} answers, {:?}", began.elapsed());
    assert_eq!(moved, CLIENTS * MOVES);
    assert!(answers > CLIENTS * MOVES);
}

/// Sends pipelines of random requests in random pieces; returns how many were answered, each in its
/// place.
async fn tortured(
    client: Client,
    seed: u64,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let Client { stream, .. } = client;
    let (read, mut write) = stream.into_split();
    let (expect, mut expected) = tokio::sync::mpsc::unbounded_channel::<String>();
    let reader = tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let mut read = read;
        let mut seen = Vec::new();
        let mut count = 0;
        while let Some(end) = expected.recv().await {
            let at = loop {
                let found = seen.windows(end.len()).position(|w| w == end.as_bytes());
                if let Some(at) = found {
                    break at;
                }
                let n = read.read_buf(&mut seen).await.unwrap();
                let so_far = String::from_utf8_lossy(&seen);
                assert!(n > 0, "closed, waiting for {end}: {so_far}");
            };
            let answer = String::from_utf8_lossy(&seen[..at]).into_owned();
            // One head, and no more, lies before each body.
            assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
            seen.drain(..at + end.len());
            count += 1;
        }
        count
    });
    let mut number = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..6) {
            number += 1;
            let n = random.usize(1..3000);
            let body = "x".repeat(n);
            let path = format!("/{number}?count HTTP/1.1\r\nhost: x\r\n");
            let (request, length) = match random.u8(0..3) {
                0 => (format!("GET {path}\r\n"), 0),
                1 => (format!("POST {path}content-length: {n}\r\n\r\n{body}"), n),
                _ => {
                    let chunk = format!("{n:x}\r\n{body}\r\n");
                    let chunked = "transfer-encoding: chunked\r\n\r\n";
                    let request = format!("POST {path}{chunked}{chunk}{chunk}0\r\n\r\n");
                    (request, 2 * n)
                }
            };
            bytes.extend_from_slice(request.as_bytes());
            expect.send(format!("/{number} {length};")).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            use tokio::io::AsyncWriteExt as _;
            let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(1500)));
            write.write_all(piece).await.unwrap();
            rest = after;
            match random.u8(0..4) {
                0 => tokio::time::sleep(Duration::from_millis(random.u64(1..15))).await,
                1 => tokio::task::yield_now().await,
                _ => {}
            }
        }
    }
    drop(expect);
    reader.await.unwrap()
}

/// However many are idle: they leave one after the other, and are served on until it is their turn.
#[tokio::test(flavor = "multi_thread")]
async fn busy_connections_do_not_wait_behind_idle_ones() {
    let first = Generation::first().await;
    *first.way.departures.lock().unwrap() = Departures::limited(1);
    let silent = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    *first.way.silent.lock().unwrap() = Some(silent.clone());
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(first.idle_beside(clients.len()).await);
    }
    let second = first.succeeded();
    let asked = || first.way.asked.load(std::sync::atomic::Ordering::Relaxed);
    let eventually = async |count| {
        while asked() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, eventually(1)).await.unwrap();
    // One is on its way, and does not arrive. All others are here, and their clients are answered,
    // and then they go without waiting for a turn.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(asked(), 1);
    let mut answered = 0;
    for client in &mut clients {
        client.get("/").await;
        let answer = tokio::time::timeout(Duration::from_millis(500), client.until("hello")).await;
        answered += usize::from(answer.is_ok_and(|answer| answer.contains("x-name: first")));
    }
    assert_eq!(answered, 4);
    tokio::time::timeout(within, eventually(5)).await.unwrap();
    silent.add_permits(5);
    first.gone().await;
    for client in &mut clients {
        client.get("/").await;
        client.until("x-name: second").await;
    }
    drop(second);
}
