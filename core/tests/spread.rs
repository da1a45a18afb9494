//! Clients that are told to go one after another.

use std::time::Duration;

use handover::{Graceful, Policy, Reason, Turn};
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, advance, sleep},
};

const SECOND: Duration = Duration::from_secs(1);

fn graceful(spread: Duration) -> Graceful {
    Graceful::with_policy(Policy::default().with_close_spread(spread))
}

async fn comes(mut turn: Turn, number: usize) -> (Instant, usize) {
    turn.comes().await;
    (Instant::now(), number)
}

fn waiting(graceful: &Graceful, clients: usize) -> JoinSet<(Instant, usize)> {
    let client = |number| comes(graceful.turn(), number);
    (0..clients).map(client).collect()
}

async fn count_by_second(
    clients: &mut JoinSet<(Instant, usize)>,
    start: Instant,
    seconds: &mut [usize],
) {
    while let Some(client) = clients.join_next().await {
        let (time, _) = client.unwrap();
        seconds[(time - start).as_secs() as usize] += 1;
    }
}

/// Fails if more come in a second than the policy allows, or one does not come within the window.
#[tokio::test(start_paused = true)]
async fn many_clients_are_spread_over_the_window() {
    const CLIENTS: usize = 50_000;
    let graceful = graceful(10 * SECOND);
    let guard = graceful.guard();
    let mut clients = waiting(&graceful, CLIENTS);
    yield_now().await;
    let start = Instant::now();
    graceful.drain();
    let mut seconds = [0; 11];
    count_by_second(&mut clients, start, &mut seconds).await;
    // The clock of a runtime has milliseconds.
    let share = CLIENTS / 10;
    assert!(
        seconds.iter().all(|count| *count <= share + share / 500),
        "{seconds:?}"
    );
    drop(guard);
    let report = graceful.drained().await;
    assert_eq!(report.reconnects.told, CLIENTS);
    assert!((report.reconnects.expected_per_second - share as f64).abs() < 1e-6);
    assert!(report.reconnects.peak_per_second <= share + share / 500);
    assert!(report.to_string().contains("50000 told to go"), "{report}");
}

/// Fails if those whose time passed while the process stood still go at one moment.
#[tokio::test(start_paused = true)]
async fn what_is_late_is_spread_as_well() {
    const CLIENTS: usize = 5000;
    let graceful = graceful(10 * SECOND);
    let guard = graceful.guard();
    let mut clients = waiting(&graceful, CLIENTS);
    yield_now().await;
    let start = Instant::now();
    graceful.drain();
    let mut seconds = [0; 15];
    // Twice: those that were given another time are late again.
    for _ in 0..2 {
        sleep(SECOND).await;
        advance(SECOND).await;
    }
    count_by_second(&mut clients, start, &mut seconds).await;
    let share = CLIENTS / 10;
    let most = seconds.iter().max().unwrap();
    assert!(*most <= share + share / 20, "{seconds:?}");
    // The time that was lost is added, and no more of it than there was.
    assert_eq!(seconds.iter().sum::<usize>(), CLIENTS);
    let last = seconds.iter().rposition(|count| *count > 0).unwrap();
    assert!((11..=13).contains(&last), "{seconds:?}");
    drop(guard);
    let report = graceful.drained().await;
    assert!(report.reconnects.peak_per_second <= share + share / 20);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_active_goes_first() {
    let graceful = graceful(10 * SECOND);
    let _guard = graceful.guard();
    let turns: Vec<_> = (0..1000).map(|_| graceful.turn()).collect();
    advance(SECOND).await;
    // From the last to the first, a millisecond apart.
    for turn in turns.iter().rev() {
        turn.touch();
        advance(Duration::from_millis(1)).await;
    }
    let mut clients = JoinSet::new();
    for (number, turn) in turns.into_iter().enumerate() {
        clients.spawn(comes(turn, number));
    }
    graceful.drain();
    let mut came = clients.join_all().await;
    came.sort_unstable();
    let order: Vec<_> = came.iter().map(|(_, number)| *number).collect();
    assert!(order.iter().rev().is_sorted(), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_few_clients_are_told_at_once() {
    let graceful = graceful(60 * SECOND);
    let _guard = graceful.guard();
    let start = Instant::now();
    let turn = graceful.turn();
    graceful.drain();
    let (time, _) = comes(turn, 0).await;
    assert!(time - start <= SECOND / 50, "{:?}", time - start);
}

#[tokio::test(start_paused = true)]
async fn at_the_cut_it_is_everybodys_turn() {
    let graceful = graceful(20 * SECOND);
    let guard = graceful.guard();
    let mut clients: JoinSet<_> = (0..10_000)
        .map(|number| comes(graceful.turn(), number))
        .collect();
    graceful.drain();
    sleep(SECOND).await;
    let start = Instant::now();
    graceful.cut();
    while let Some(client) = clients.join_next().await {
        assert!(client.unwrap().0 - start < SECOND / 10);
    }
    drop(guard);
    assert_eq!(graceful.drained().await.reconnects.told, 10_000);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_late_goes_within_the_window() {
    let graceful = graceful(10 * SECOND);
    let _guard = graceful.guard();
    let mut clients: JoinSet<_> = (0..1000)
        .map(|number| comes(graceful.turn(), number))
        .collect();
    let start = Instant::now();
    graceful.drain();
    sleep(SECOND).await;
    let (time, _) = comes(graceful.turn(), 0).await;
    assert!(time - start <= 10 * SECOND + SECOND / 100);
    while clients.join_next().await.is_some() {}
}

/// Fails if a turn that has come stays so when the drain is taken back, or comes at once in the
/// next drain.
#[tokio::test(start_paused = true)]
async fn a_drain_that_is_taken_back_begins_anew() {
    let graceful = graceful(10 * SECOND);
    let _guard = graceful.guard();
    let mut others: Vec<_> = (0..500).map(|_| graceful.turn()).collect();
    let mut turn = graceful.turn();
    turn.touch();
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    turn.comes().await;
    assert!(graceful.resume());
    let early = tokio::time::timeout(60 * SECOND, turn.comes()).await;
    assert!(early.is_err(), "it is nobody's turn");
    turn.touch();
    let start = Instant::now();
    graceful.drain_for(Reason::Upgrade { successor: 2 });
    turn.comes().await;
    assert!(start.elapsed() > 4 * SECOND, "it is the last of 501");
    others.clear();
}
