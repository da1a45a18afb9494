//! Connections that the successor has and does not claim until something comes.

use std::{
    future::Future,
    io::{Read as _, Write as _},
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;

fn lazily() -> Old {
    Old::of(link(true))
}

/// Whether a future ends by itself, after all that is under way in this process.
async fn ends<F: Future<Output = ()>>(future: F) -> bool {
    timeout(Duration::from_millis(100), future).await.is_ok()
}

#[tokio::test]
async fn what_is_held_is_claimed_when_something_comes_and_read_by_nobody_before() {
    let old = lazily();
    let mut new = New::start(&old.theirs);
    let (mut client, giving) = old.give(b"");
    let mut arrival = new.arrival().await;
    assert!(!ends(arrival.due()).await, "nothing has come");
    assert!(!giving.is_finished());
    client.write_all(b"ping").unwrap();
    timeout(BOUND, arrival.due()).await.expect("something has");
    assert!(!giving.is_finished(), "due, and not claimed");
    let mut parcel = arrival.claim().await;
    moved(giving).await;
    let mut text = [0; 4];
    parcel.io.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"ping", "the wait has read nothing");
}

#[tokio::test]
async fn what_its_client_closes_is_due_too() {
    let old = lazily();
    let mut new = New::start(&old.theirs);
    let (client, giving) = old.give(b"");
    let mut arrival = new.arrival().await;
    drop(client);
    timeout(BOUND, arrival.due()).await.expect("the end");
    drop(arrival.claim().await);
    moved(giving).await;
}

#[tokio::test]
async fn what_has_been_read_ahead_is_due_at_once() {
    let old = lazily();
    let mut new = New::start(&old.theirs);
    let (_client, giving) = old.give(b"GET /");
    let mut arrival = new.arrival().await;
    let due = pin!(arrival.due()).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(due, Poll::Ready(()));
    drop(arrival.claim().await);
    moved(giving).await;
}

#[tokio::test]
async fn a_successor_that_dies_takes_nothing_along_that_it_holds() {
    raise_limit();
    let old = lazily();
    let mut new = New::start(&old.theirs);
    // More than may be without an answer.
    let given: Vec<_> = (0..1500).map(|_| old.give(b"")).collect();
    let mut arrivals = Vec::new();
    for _ in 0..1500 {
        arrivals.push(new.arrival().await);
    }
    assert!(given.iter().all(|(_, giving)| !giving.is_finished()));
    // Dead, it refuses nothing.
    arrivals.into_iter().for_each(std::mem::forget);
    old.kill();
    for (client, giving) in given {
        let (given, why) = back_for(giving).await;
        assert_eq!(why, Stays::NoTaker);
        assert_open(&client, given);
    }
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_holds_is_not_killed_and_settles_when_it_is_asked() {
    let (link, graceful, route, theirs) = link(true);
    let asks = route.clone();
    let old = Old::of((link, graceful, route, theirs));
    let mut new = New::start(&old.theirs);
    let mut given: Vec<_> = (0..600).map(|_| old.give(b"")).collect();
    let mut waiting = Vec::new();
    for _ in 0..given.len() {
        let mut arrival = new.arrival().await;
        waiting.push(tokio::spawn(async move {
            arrival.due().await;
            arrival.claim().await
        }));
    }
    tokio::time::sleep(PATIENCE * 10).await;
    assert!(!old.ended.is_finished(), "killed for waiting");
    assert!(given.iter().all(|(_, giving)| !giving.is_finished()));
    asks.settle();
    for (_, giving) in given.drain(..) {
        moved(giving).await;
    }
    for waiting in waiting {
        drop(waiting.await.unwrap());
    }
    // What is given from now on is taken at once.
    let (_client, giving) = old.give(b"");
    let mut arrival = new.arrival().await;
    arrival.due().await;
    drop(arrival.claim().await);
    moved(giving).await;
    assert!(!old.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_does_not_settle_is_killed() {
    let old = lazily();
    let mut new = New::start(&old.theirs);
    let (client, giving) = old.give(b"");
    let arrival = new.arrival().await;
    tokio::time::sleep(PATIENCE * 2).await;
    let began = tokio::time::Instant::now();
    old.route.settle();
    // No time limit: the clock runs ahead while the process ends.
    let (given, _) = giving.await.unwrap().expect_err("it was claimed");
    assert!(began.elapsed() >= PATIENCE);
    assert!(began.elapsed() < PATIENCE * 2);
    assert_open(&client, given);
    std::mem::forget(arrival);
    died(old).await;
}

#[tokio::test]
async fn an_heir_claims_what_it_holds() {
    let Old {
        theirs,
        ended,
        route,
        ..
    } = lazily();
    let mut new = New::start(&theirs);
    let (client, given) = connection("web", b"");
    let gives = route.clone();
    let giving = tokio::spawn(async move { gives.give(given).await });
    let mut arrival = new.arrival().await;
    assert!(!ends(arrival.due()).await);
    // The predecessor dies: its end of the channel closes, and it answers nobody.
    giving.abort();
    ended.abort();
    let _ = (giving.await, ended.await);
    route.close();
    drop(route);
    timeout(BOUND, arrival.due()).await.expect("it is ours");
    let mut parcel = arrival.claim().await;
    parcel.io.write_all(b"mine").await.unwrap();
    let mut text = [0; 4];
    (&client).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"mine");
}

/// A successor of an older release claims everything at once, and does not know what to settle.
#[tokio::test]
async fn an_older_successor_is_not_lazy_and_asks_what_settling_is() {
    let old = lazily();
    let (_client, giving) = old.give(b"");
    let (records, _, fds) = connections(&old.theirs).await.unwrap();
    let ids = records.iter().map(|record| record.id).collect();
    old.theirs.try_send(&Message::Claimed { ids }).unwrap();
    moved(giving).await;
    old.route.settle();
    let received = timeout(BOUND, old.theirs.recv()).await.unwrap();
    let message = received.unwrap().unwrap().message;
    assert_eq!(message, Decoded::Known(Message::Settle));
    let what = "settle".to_owned();
    old.theirs.try_send(&Message::Unknown { what }).unwrap();
    let (_client, giving) = old.give(b"");
    let (records, ..) = connections(&old.theirs).await.unwrap();
    let ids = records.iter().map(|record| record.id).collect();
    old.theirs.try_send(&Message::Claimed { ids }).unwrap();
    moved(giving).await;
    drop(fds);
}

#[tokio::test]
async fn what_is_held_may_still_be_refused() {
    let old = lazily();
    let mut new = New::start(&old.theirs);
    let (client, giving) = old.give(b"");
    let arrival = new.arrival().await;
    drop(arrival);
    let (given, why) = back_for(giving).await;
    assert_eq!(why, Stays::Refused);
    assert_open(&client, given);
}

/// Many claims at once are few messages.
#[tokio::test]
async fn claims_go_together() {
    let (ours, theirs) = channel::pair().unwrap();
    let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
    let answers = Answers::new(Arc::new(theirs));
    let claims: Vec<_> = (0..1000)
        .map(|id| tokio::spawn(answers.of(id).claim()))
        .collect();
    let (mut seen, mut messages) = (Vec::new(), 0);
    while seen.len() < 1000 {
        let received = timeout(BOUND, ours.recv()).await.unwrap().unwrap().unwrap();
        let Decoded::Known(Message::Claimed { ids }) = received.message else {
            panic!("{received:?}");
        };
        seen.extend(ids);
        messages += 1;
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..1000));
    assert!(messages <= 20, "{messages}");
    for claim in claims {
        timeout(BOUND, claim).await.unwrap().unwrap();
    }
}

/// What is held is not on its way any more, although it is not claimed.
#[tokio::test]
async fn a_held_connection_makes_room_for_the_next_to_leave() {
    let old = lazily();
    let departures = old.route.departures();
    let mut turns = Vec::new();
    while let Ok(turn) = timeout(Duration::from_millis(100), departures.next()).await {
        turns.push(turn);
    }
    // Few, beside what a large service has.
    assert!((1..=128).contains(&turns.len()), "{}", turns.len());
    let (_client, mut given) = connection("web", b"");
    given.departure = turns.pop();
    let route = old.route.clone();
    let giving = tokio::spawn(async move { route.give(given).await });
    let next = timeout(BOUND, departures.next());
    tokio::pin!(next);
    assert!(!ends(async { drop(next.as_mut().await) }).await);
    let mut new = New::start(&old.theirs);
    let _arrival = new.arrival().await;
    let _turn = next.await.expect("a turn");
    assert!(!giving.is_finished());
}
