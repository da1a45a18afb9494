//! Connections that are told to go one after another, and served until then.

use std::{future::poll_fn, time::Duration};

use handover::{Announcer, Graceful, Policy, Reason};
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, advance, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(8);
/// The clock of a runtime has milliseconds, and rounds up.
const TICKS: Duration = Duration::from_millis(3);

fn graceful() -> Graceful {
    Graceful::with_policy(Policy::default().with_announce(WINDOW))
}

/// The loop of a connection: tells its client when it is time.
async fn tells(mut announcer: Announcer, number: usize) -> (Instant, usize) {
    poll_fn(|cx| announcer.poll(cx)).await;
    announcer.tell();
    (Instant::now(), number)
}

fn connections(graceful: &Graceful, number: usize) -> JoinSet<(Instant, usize)> {
    let connection = |number| tells(graceful.connection().1, number);
    (0..number).map(connection).collect()
}

/// Fails if more are told in a second than their share, or one in the second half of the window,
/// which is for what they have to do then.
#[tokio::test(start_paused = true)]
async fn many_are_told_in_the_first_half_of_the_window() {
    const CONNECTIONS: usize = 20_000;
    let graceful = graceful();
    let _guard = graceful.guard();
    let mut connections = connections(&graceful, CONNECTIONS);
    yield_now().await;
    let start = Instant::now();
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    let mut seconds = [0; 5];
    while let Some(told) = connections.join_next().await {
        seconds[(told.unwrap().0 - start).as_secs() as usize] += 1;
    }
    let share = CONNECTIONS / 4;
    // The clock of a runtime has milliseconds.
    let most = share + share / 500;
    assert!(seconds.iter().all(|count| *count <= most), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_active_is_told_first() {
    let graceful = graceful();
    let _guard = graceful.guard();
    let announcers: Vec<_> = (0..1000).map(|_| graceful.connection().1).collect();
    advance(SECOND).await;
    for announcer in announcers.iter().rev() {
        announcer.touch();
        advance(Duration::from_millis(1)).await;
    }
    let numbered = announcers.into_iter().zip(0..);
    let connections: JoinSet<_> = numbered.map(|(a, number)| tells(a, number)).collect();
    graceful.drain();
    let mut told = connections.join_all().await;
    told.sort_unstable();
    assert!(told.iter().rev().map(|(_, number)| number).is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_are_told_at_once_and_one_more_is_not() {
    for (number, is_at_once) in [(100, true), (101, false)] {
        let graceful = graceful();
        let _guard = graceful.guard();
        let connections = connections(&graceful, number);
        let start = Instant::now();
        graceful.drain();
        let told = connections.join_all().await;
        let last = told.iter().map(|(time, _)| *time - start).max().unwrap();
        assert_eq!(last <= Duration::from_millis(5), is_at_once, "{last:?}");
        assert!(last <= SECOND * 11 / 10, "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lame_duck_tells_and_a_drain_tells_who_is_left() {
    let policy = Policy::default()
        .with_announce(WINDOW)
        .with_lame_duck(2 * SECOND);
    let graceful = Graceful::with_policy(policy);
    let _guard = graceful.guard();
    let mut told_to_go = connections(&graceful, 1000);
    yield_now().await;
    let start = Instant::now();
    graceful.drain();
    sleep(SECOND).await;
    let late = graceful.connection().1;
    let mut in_lame_duck = 0;
    while let Some(told) = told_to_go.join_next().await {
        let (time, _) = told.unwrap();
        in_lame_duck += usize::from(time - start < 2 * SECOND);
        assert!(time - start <= 2 * SECOND + WINDOW / 2 + TICKS);
    }
    assert!((400..600).contains(&in_lame_duck), "{in_lame_duck}");
    let (time, _) = tells(late, 0).await;
    assert!(time - start <= 2 * SECOND + WINDOW / 2 + TICKS);
}

/// A stream that ends before its client was told would be begun again on the same connection.
#[tokio::test(start_paused = true)]
async fn turns_of_a_connection_come_when_it_was_told() {
    let graceful = graceful();
    let guard = graceful.guard();
    let (token, mut announcer) = graceful.connection();
    assert!(token.is_same_drain(&graceful));
    let mut of_connection = token.turn();
    let mut of_service = graceful.turn();
    let announced = token.told_to_go().unwrap();
    assert!(graceful.told_to_go().is_none());
    graceful.drain();
    of_service.comes().await;
    let early = tokio::time::timeout(SECOND, of_connection.comes()).await;
    assert!(early.is_err() && !announcer.has_told());
    announcer.tell();
    of_connection.comes().await;
    announced.await;

    // The loop may have gone.
    let (token, announcer) = graceful.connection();
    drop(announcer);
    token.told_to_go().unwrap().await;

    // At the cut nobody waits for anybody.
    let (token, _announcer) = graceful.connection();
    let mut turn = token.turn();
    graceful.cut();
    turn.comes().await;
    drop(guard);
    assert_eq!(graceful.drained().await.reconnects.told, 2);
}

#[tokio::test(start_paused = true)]
async fn who_has_not_been_told_is_not_when_the_drain_is_taken_back() {
    let graceful = graceful();
    let _guard = graceful.guard();
    let mut connections = connections(&graceful, 1000);
    yield_now().await;
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    sleep(SECOND).await;
    assert!(graceful.resume());
    sleep(20 * SECOND).await;
    let mut told = 0;
    while connections.try_join_next().is_some() {
        told += 1;
    }
    assert!((200..300).contains(&told), "{told}");
    // They have all their time in the next one.
    let start = Instant::now();
    graceful.drain();
    let next = connections.join_all().await;
    assert_eq!(next.len() + told, 1000);
    let last = next.into_iter().map(|(time, _)| time - start).max();
    assert!(last.unwrap() > WINDOW / 4);
}
